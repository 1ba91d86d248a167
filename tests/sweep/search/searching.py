"""Searches with the double of the engine: a teacher, a specification, and looking at what was trained."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

from kdtui.events import Event, Finished, Measured, Noted, Started, Stopped
from kdtui.launch.alive import is_running
from kdtui.launch.start import create as create_run
from kdtui.profile import load
from kdtui.profile.matched import baseline_of
from kdtui.store.event_log import Tail
from kdtui.store.run import EventLog, Run
from kdtui.store.state import PRUNED, State
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import ControllerState, controller_state, files_of
from kdtui.sweep.folder import STUDENT, SweepFolder, create, manifest_entry
from kdtui.sweep.members import Member, Members, Place
from kdtui.sweep.search.budget import Budget, Target
from kdtui.sweep.search.candidates import profile_of
from kdtui.sweep.search.spec import SearchSpec, base_profile, from_tables
from tests.store.conftest import record, started, write
from tests.waiting import eventually

KEYS = ("tu-mobilenetv3_small_050-Unet-w0.5", "resnet18-Unet-w0.25")
"""The slowest of each encoder within 10 ms, by the double: 1 ms for each channel at the end, of resnets 2 ms."""


def teacher(store: RunStore) -> Run:
    """A run that looks finished."""
    run = store.create(load("demo-teacher"))
    run.best.write_text("weights")
    with EventLog(run.events_path) as log:
        log.append(Finished(10, 5))
    return run


def spec_of(store: RunStore, **changes: Any) -> SearchSpec:
    """Two encoders with four decoders each; five of these eight are within the budget, and two are trained."""
    base, normalise, _ = base_profile(store, teacher(store).id, None)
    table: dict[str, Any] = {
        "base": base,
        "normalise": normalise,
        "budget": Budget(0.010),
        "target": Target(),
        "retention": None,
        "encoders": ("tu-mobilenetv3_small_050", "resnet18"),
        "architectures": ("Unet",),
        "widths": (1.0, 0.5, 0.25, 0.125),
        "trials": 2,
        "hours": None,
        "seeds": (0,),
    }
    return SearchSpec(**{**table, **changes})


def made(store: RunStore, **changes: Any) -> SweepFolder:
    spec = spec_of(store, **changes)
    return create(store.root, spec.id, spec.to_tables())


def members(store: RunStore, folder: SweepFolder) -> dict[Place, Member]:
    return Members(store, folder.id, from_tables(folder).key_of).read()


def own_runs(store: RunStore, folder: SweepFolder) -> list[Run]:
    return [run for run in store.runs() if (run.manifest().sweep or {}).get("id") == folder.id]


def trained(store: RunStore, folder: SweepFolder, place: int, role: str, miou: float, *, pruned: bool = False) -> Run:
    """A run of the candidate at a place, with a score in each epoch up to its end."""
    spec = from_tables(folder)
    candidate = spec.candidates()[place]
    profile = profile_of(spec.base, candidate, 0, normalise=spec.normalise)
    entry = manifest_entry(folder.id, candidate.cell, 0, role)
    run = create_run(store, profile if role == STUDENT else baseline_of(profile), origin="test", sweep=entry)
    run.write_launch_record(record())
    run.best.write_text("weights")
    last = 2 if pruned else 5
    scores = {"miou": miou, "best_miou": miou}
    epochs = [Measured("val", epoch * 10, epoch, epoch * 40, scores, 5, time=103.0) for epoch in range(1, last + 1)]
    end: Event = Stopped(20, 2, reason=PRUNED) if pruned else Finished(50, 5)
    teacher = {"parameters": 2_000_000, "miou": 0.8, "iou": {}} if role == STUDENT else None
    write(run, [started(epochs=5, teacher=teacher), *epochs, end])
    return run


def ends(folder: SweepFolder) -> ControllerState:
    def state() -> ControllerState | None:
        now = controller_state(folder)
        return None if now.live else now

    ended = eventually(state, lambda: f"the end of {folder.id}: {notes(folder)}")
    assert isinstance(ended, ControllerState)
    return ended


def notes(folder: SweepFolder) -> list[str]:
    return [event.message for event in Tail(files_of(folder).events_path).read() if isinstance(event, Noted)]


def kill_controller(folder: SweepFolder) -> None:
    """SIGKILL the controller alone and wait until it is gone."""
    record = files_of(folder).launch_record()
    assert record is not None
    if is_running(record.identity):
        os.kill(record.pid, signal.SIGKILL)
    eventually(lambda: not is_running(record.identity), "a dead controller")


def assert_nothing_ran_twice(store: RunStore, folder: SweepFolder) -> None:
    """Each place has one run, and no attempt begins before the step that the one before it had reached."""
    runs = own_runs(store, folder)
    entries = [run.manifest().sweep for run in runs]
    counts = Counter(str(entry) for entry in entries)
    assert set(counts.values()) == {1}, counts
    for run in runs:
        epochs = [one.epoch for one in Tail(run.events_path).read() if isinstance(one, Measured) and one.split == "val"]
        assert len(epochs) == len(set(epochs)), (run.id, epochs)
        assert sum(isinstance(one, Started) for one in Tail(run.events_path).read()) >= 1
        assert store.summary(run).state in (State.FINISHED, State.STOPPED)
