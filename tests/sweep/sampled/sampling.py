"""Sampled sweeps and trials that no process trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtui.events import Event, Finished, Measured, Stopped
from kdtui.launch.start import create
from kdtui.store.run import Run
from kdtui.store.state import PRUNED, RunSummary, State
from kdtui.store.store import RunStore
from kdtui.sweep.folder import STUDENT, SweepFolder, manifest_entry
from kdtui.sweep.members import Member
from kdtui.sweep.sampled.spec import SampledSpec, from_tables, make_sampled_spec
from kdtui.sweep.sampled.trials import Trial
from tests.store.conftest import record, started, write

T, ALPHA, RATE = "distillation.temperature", "distillation.alpha", "training.learning_rate"
RANGES = (f"{T}=1..8", f"{RATE}=1e-4..1e-2:log")


def spec_of(store: RunStore, teacher: Path, *assignments: str, **options: Any) -> SampledSpec:
    words = [f"teacher.checkpoint={teacher}", *(assignments or RANGES)]
    return make_sampled_spec(store, "demo-distilled", words, **options)


def member(state: State, scores: Mapping[int, float], *, pruned: bool = False, number: int = 0) -> Member:
    """A run in some state with scores by epoch."""
    path = Path(f"/nowhere/{number}")
    best = max(scores.values(), default=None)
    detail = PRUNED if pruned else ""
    summary = RunSummary(path.name, path.name, path, state, detail, miou=best, best_miou=best, created=float(number))
    return Member(Run(path), summary, scores)


def trial(
    number: int, cell: Mapping[str, Any], state: State = State.FINISHED, scores: Sequence[float] = (), **facts: Any
) -> Trial:
    """A trial of one seed."""
    by_epoch = dict(enumerate(scores, start=1))
    return Trial(number, cell, {0: member(state, by_epoch, number=number, **facts)})


def trained(
    store: RunStore, folder: SweepFolder, cell: Mapping[str, Any], score: float, *, pruned: bool = False, seed: int = 0
) -> Run:
    """A run of a sweep that ended after three epochs, or was pruned after one, with the same score in each."""
    profile = from_tables(folder).cell(cell).profile.model_copy(update={"seed": seed})
    run = create(store, profile, origin="test", sweep=manifest_entry(folder.id, cell, seed, STUDENT))
    run.write_launch_record(record())
    scores = {"miou": score, "best_miou": score}
    last = 1 if pruned else 3
    epochs = [Measured("val", epoch * 2, epoch, epoch * 8, scores, 3, time=103.0) for epoch in range(1, last + 1)]
    end: Event = Stopped(2, 1, reason=PRUNED) if pruned else Finished(6, 3)
    write(run, [started(epochs=3), *epochs, end])
    return run
