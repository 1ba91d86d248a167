"""How long the trainings of a search take, from the speed of earlier runs, and how many trials fit some hours."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui import catalog
from kdtui.errors import StoreError, UsageError
from kdtui.launch.plan import out_channels, plan
from kdtui.launch.slots import place
from kdtui.launch.teachers import owner
from kdtui.store.active import active_time
from kdtui.sweep.search.candidates import profile_of
from kdtui.sweep.search.halving import kept, pick, rungs
from kdtui.sweep.search.screening import Screened
from kdtui.sweep.search.spec import TRIALS, SearchSpec

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore

_TRAINING = {"batch_size", "micro_batch_size", "devices", "accelerator", "precision", "threads"}
_BACKWARD = 3
"""Work of a training step, in forward passes of the student."""


@dataclass(frozen=True)
class Estimate:
    """Time of the trainings of a search.

    Attributes:
        seconds: Of all trainings.
        source: Ids of the runs whose speed it follows from.
    """

    seconds: float
    source: tuple[str, ...]


def epochs_of_trials(trials: int, epochs: int, every: int = 1) -> int:
    """Epochs that all trials train together until one is left; see :func:`rungs`."""
    marks = rungs(trials, epochs, every)
    total, left, before = 0, trials, 0
    for number, mark in enumerate(marks):
        total += left * (mark - before)
        left, before = kept(trials, len(marks), number), mark
    return total


def estimated(spec: SearchSpec, store: RunStore, found: Sequence[Screened], trials: int) -> Estimate | None:
    """Time of all trainings of a search with some number of trials; None if no earlier run tells.

    A run of the same network on the same data tells exactly, else the teacher's by the work of a step.
    """
    possible = pick(found, trials) or [one for one in found if not one.over and not one.error]
    speeds = _seconds_per_epoch(spec, store, possible)
    if speeds is None or not possible:
        return None
    distilled, alone, source = speeds
    training = spec.base.training
    epochs, every, seeds = training.epochs, training.evaluate_every or 1, len(spec.seeds)
    marks = rungs(trials, epochs, every)
    whole = epochs - (marks[-1] if marks else 0) + (seeds - 1) * epochs
    slots = place(training.accelerator, training.devices)
    at_once = max(1, len(slots.names) // max(1, slots.needed))
    seconds = distilled * (epochs_of_trials(trials, epochs, every) + whole) + alone * seeds * epochs
    return Estimate(seconds / at_once, source)


def trials_within(spec: SearchSpec, store: RunStore, found: Sequence[Screened]) -> int:
    """The largest number of trials for which the whole search takes at most ``spec.hours``.

    Raises:
        UsageError: Not even one fits, or the speed is not known.
    """
    if spec.hours is None:
        return spec.trials or TRIALS
    most = max(1, sum(one.fits for one in found) or len(found))
    one = estimated(spec, store, found, 1)
    if one is None:
        raise UsageError(
            "--hours needs the time of an epoch, which no earlier run tells",
            where="--hours",
            found=f"{spec.hours:g}",
            hint="give a number of networks with --trials N",
        )
    if one.seconds > spec.hours * 3600:
        raise UsageError(
            "too few hours for one trial",
            where="--hours",
            found=f"{spec.hours:g}",
            allowed=f"at least {one.seconds / 3600:.2g}: one network with its baseline and {len(spec.seeds)} seeds, "
            f"estimated from {', '.join(one.source)}",
        )
    fitting = 1
    for trials in range(2, most + 1):
        now = estimated(spec, store, found, trials)
        if now is None or now.seconds > spec.hours * 3600:
            break
        fitting = trials
    return fitting


def _seconds_per_epoch(
    spec: SearchSpec, store: RunStore, found: Sequence[Screened]
) -> tuple[float, float, tuple[str, ...]] | None:
    """Mean seconds per epoch of distilled candidates and of their baselines, and the runs that tell."""
    profiles = [profile_of(spec.base, one.candidate, spec.seeds[0], normalise=spec.normalise) for one in found]
    epochs = spec.base.training.epochs
    planned = plan(profiles, store, checks=False).runs
    exact = [run for run in planned if run.eta_seconds is not None]
    if exact:
        seconds = statistics.fmean(run.eta_seconds or 0.0 for run in exact) / epochs
        return seconds, seconds, tuple(dict.fromkeys(str(run.eta_from) for run in exact))
    run = owner(Path(spec.base.teacher.checkpoint or ""))
    if run is None:
        return None
    try:
        taught, speed = run.profile(), active_time(run).seconds_per_epoch
    except StoreError:  # a damaged folder gives no estimate
        return None
    teacher, students = _macs(taught), [one.macs or _macs(own) for one, own in zip(found, profiles, strict=True)]
    known = [macs for macs in students if macs]
    if speed is None or teacher is None or not known or _work(taught) != _work(spec.base):
        return None
    student = statistics.fmean(known)
    return (
        speed * (_BACKWARD * student + teacher) / (_BACKWARD * teacher),
        speed * student / teacher,
        (run.id,),
    )


def _work(profile: Profile) -> tuple[dict[str, object], ...]:
    """The part of a profile that determines the work of an epoch, without the network."""
    data = profile.data.model_dump(exclude={"mean", "std", "view_seed", "views", "cache_gib"})
    return data, profile.training.model_dump(include=_TRAINING)


def _macs(profile: Profile) -> int | None:
    arguments, channels = profile.student.catalog_arguments(), out_channels(profile)
    if arguments is None or channels is None:
        return None
    data = profile.data
    cost = catalog.cost(**arguments, out_channels=channels, height=data.height, width=data.width)
    return None if cost is None else cost.macs
