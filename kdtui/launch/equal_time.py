"""Baselines that train as long as a distilled run: their epochs are set beforehand, from the speed of earlier runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdtui.errors import StoreError, UsageError
from kdtui.launch.slots import place
from kdtui.launch.teachers import owner
from kdtui.profile.find import OF_RUN
from kdtui.profile.limits import MOST_EPOCHS
from kdtui.profile.matched import IDENTITY, baseline_of, treated
from kdtui.store.active import ActiveTime, active_time
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from kdtui.store.state import RunSummary, State
from kdtui.text import counted, span

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore

EqualTime = Literal["student", "total"]
"""Whether the baseline trains as long as the distilled run, or as its teacher and the distilled run together."""
_NAME = 80
_UNTIMED = IDENTITY | {"seed"}
_UNTIMED_TRAINING = frozenset({"epochs", "learning_rate", "weight_decay", "warmup", "keep_checkpoints"})
_OTHERWISE = "all other settings; only epochs, learning rate, weight decay, warm-up and seed may differ"


@dataclass(frozen=True)
class TimedRun:
    """A run whose speed was measured.

    Attributes:
        shared: Whether other runs used the CPU at the same time.
    """

    id: str
    time: ActiveTime
    shared: bool


@dataclass(frozen=True)
class EqualTimeBaseline:
    """A baseline with as many epochs as fit the time.

    Attributes:
        basis: What the number of epochs follows from, as a sentence.
        shared: Runs that shared the CPU with others while they were measured.
    """

    profile: Profile
    basis: str
    shared: tuple[str, ...] = ()


def equal_time_baseline(store: RunStore, profile: Profile, mode: EqualTime) -> EqualTimeBaseline:
    """The baseline of a distilled profile with equal active time on the same device.

    Raises:
        UsageError: The speed of the distilled run, of the baseline or of the teacher was not measured on this device.
    """
    baseline = baseline_of(profile)
    rows = store.summaries()
    distilled, alone = _measured(rows, profile), _measured(rows, baseline)
    speeds = [None if one is None else one.time.seconds_per_epoch for one in (distilled, alone)]
    if distilled is None or alone is None or speeds[0] is None or not speeds[1]:
        missing = profile.name if distilled is None else baseline.name
        raise UsageError(
            f"the time of an epoch of {missing} is not known",
            where="--equal-time",
            found=f"no such run on {_device(profile)} of this machine",
            allowed=f"a finished or running run with the same data, networks, batch size and {_OTHERWISE}",
            hint=f"`kdtui train {_arguments(profile)} --with-baseline` measures both; add the other options given here",
        )
    epochs = profile.training.epochs
    seconds = speeds[0] * epochs
    parts = [f"{counted(epochs, 'epoch')} of {profile.name} take {span(seconds)} (measured in {distilled.id})"]
    used = [distilled, alone]
    if mode == "total":
        teacher = _teacher(store, rows, profile)
        used.append(teacher)
        seconds += teacher.time.seconds
        parts.append(f"its teacher took {span(teacher.time.seconds)} ({teacher.id})")
    parts.append(f"an epoch of {baseline.name} {speeds[1]:.3g} s ({alone.id})")
    fitting = min(MOST_EPOCHS, max(1, round(seconds / speeds[1])))
    basis = f"equal time ({mode}): {counted(fitting, 'epoch')} for the baseline; {', '.join(parts)}"
    suffix = f"-equal-time-{fitting}"
    changes: dict[str, Any] = {
        "name": f"{baseline.name[: _NAME - len(suffix)]}{suffix}",
        "tags": tuple(dict.fromkeys((*baseline.tags, "equal-time"))),
        "description": basis,
        "training": profile.training.model_copy(update={"epochs": fitting}),
    }
    longer = baseline if fitting == epochs else baseline.model_copy(update=changes)
    return EqualTimeBaseline(longer, basis, tuple(dict.fromkeys(one.id for one in used if one.shared)))


def _arguments(profile: Profile) -> str:
    """The name of a profile and its teachers, as arguments of ``kdtui train``."""
    words = [profile.name]
    for teacher in profile.teacher.members:
        if teacher.checkpoint is not None and not teacher.checkpoint.startswith(OF_RUN):
            run = owner(Path(teacher.checkpoint))
            words += ["--teacher", teacher.checkpoint if run is None else run.id]
    return shlex.join(words)


def _measured(rows: Iterable[RunSummary], profile: Profile) -> TimedRun | None:
    """The newest run that did the same work per epoch on this device; runs that had the device alone come first."""
    wanted = _work(profile.model_dump(mode="json", exclude_none=True))
    rows = list(rows)
    shared = None
    for row in reversed(rows):
        if row.distilled is not profile.distillation.enabled or not _here(row, profile):
            continue
        run = Run(row.path)
        try:
            time = active_time(run) if _work(run.profile_table()) == wanted else ActiveTime()
        except StoreError:  # a damaged folder
            continue
        if time.seconds_per_epoch is None:
            continue
        timed = TimedRun(row.id, time, _shared(row, rows))
        if not timed.shared:
            return timed
        shared = shared or timed
    return shared


def _teacher(store: RunStore, rows: Iterable[RunSummary], profile: Profile) -> TimedRun:
    rows = list(rows)
    run = owner(Path(profile.teacher.checkpoint or ""))
    row = None if run is None else next((row for row in rows if row.path == run.path), None)
    if run is None or row is None or row.state is not State.FINISHED or not _here(row, profile):
        raise UsageError(
            "the time that the teacher took is not known",
            where="--equal-time total",
            found=profile.teacher.checkpoint,
            allowed="a finished run of this run store on the same device",
            hint=f"`kdtui train {_arguments(profile)} --equal-time student` counts the time of the student alone",
        )
    return TimedRun(row.id, active_time(run), _shared(row, rows))


def _here(row: RunSummary, profile: Profile) -> bool:
    """Whether a run trains or trained on the device of this machine that the profile uses."""
    return row.state in (State.FINISHED, State.RUNNING) and row.host == hostname() and row.device == _device(profile)


def _device(profile: Profile) -> str:
    return place(profile.training.accelerator, profile.training.devices).device


def _shared(row: RunSummary, rows: Iterable[RunSummary]) -> bool:
    """Whether other runs of the store used the CPU while a run was training; a GPU has one run at a time."""
    if row.device != "cpu" or row.started is None or row.last_event is None:
        return False
    return any(
        other.id != row.id
        and other.host == row.host
        and other.device == "cpu"
        and other.started is not None
        and other.last_event is not None
        and other.started < row.last_event
        and other.last_event > row.started
        for other in rows
    )


def _work(table: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a profile that determines how long an epoch takes."""
    training = {key: value for key, value in table.get("training", {}).items() if key not in _UNTIMED_TRAINING}
    return {key: value for key, value in treated(table).items() if key not in _UNTIMED} | {"training": training}
