"""Δ at equal wall-clock time, from the events of two runs: only seconds in which a run trained count."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from kdtui.compare.entries import ComparedRun
from kdtui.compare.statistics import Interval, over_seeds
from kdtui.events import Measured, Started
from kdtui.store.event_log import Tail
from kdtui.store.run import Run


@dataclass(frozen=True)
class EqualTime:
    """Δ of a run and its baseline at equal times; means over seeds.

    Attributes:
        seconds: How long the run trained.
        baseline_seconds: How long its baseline trained.
        delta: The run's best score minus that of the baseline by the time at which the run ended.
        delta_within_baseline: The run's best score by the time at which the baseline ended minus the baseline's.
        reason: Why there is none; otherwise empty.
        cached: Share of the run's images for which the teacher's logits were read from the cache.
        live_seconds: How long the run would have trained if the teacher had computed these too, from the speed of its
            other steps; None without cached logits, or without other steps.
        delta_live: As ``delta``, if the run had ended after ``live_seconds``.
        interval: Of ``delta`` over seeds; None for one pair, and for a baseline of another seed.
        interval_within_baseline: Of ``delta_within_baseline``.
    """

    seconds: float = 0.0
    baseline_seconds: float = 0.0
    delta: float | None = None
    delta_within_baseline: float | None = None
    reason: str = ""
    cached: float = 0.0
    live_seconds: float | None = None
    delta_live: float | None = None
    interval: Interval | None = None
    interval_within_baseline: Interval | None = None


@dataclass
class _Clock:
    """Steps, seconds and validation score of a run, without what was trained in vain, and where it trained."""

    points: list[tuple[int, float, float | None]] = field(default_factory=list)
    devices: set[tuple[object, ...]] = field(default_factory=set)
    speeds: list[tuple[int, int, float, float]] = field(default_factory=list)
    """Step, images, seconds per image, and share of cached teacher logits, of each report of a training."""

    @property
    def seconds(self) -> float:
        return self.points[-1][1] if self.points else 0.0

    @property
    def cached(self) -> float:
        """The share of the images for which the teacher's logits were read."""
        images = sum(count for _, count, _, _ in self.speeds)
        return sum(count * share for _, count, _, share in self.speeds) / images if images else 0.0

    @property
    def live_seconds(self) -> float | None:
        """The seconds with a teacher that computes all logits; None if no step, or every one, read them all."""
        cost: list[float] = []
        for wanted in (0.0, 1.0):
            same = [(count, seconds) for _, count, seconds, share in self.speeds if share == wanted]
            if not same:
                return None
            cost.append(sum(count * seconds for count, seconds in same) / sum(count for count, _ in same))
        images = sum(count * share for _, count, _, share in self.speeds)
        return self.seconds + max(0.0, cost[0] - cost[1]) * images

    def best(self, seconds: float) -> float | None:
        return max((score for _, at, score in self.points if score is not None and at <= seconds), default=None)


def equal_time(pairs: Sequence[tuple[ComparedRun, ComparedRun]]) -> EqualTime:
    """The Δ of runs and their baselines at equal time; a reason if they trained on different devices."""
    found: list[tuple[float, ...]] = []
    lives: list[tuple[float, float] | None] = []
    for entries in pairs:
        run, baseline = (_clock(entry) for entry in entries)
        devices = run.devices | baseline.devices
        if len(devices) != 1:
            return EqualTime(reason="trained on different devices" if devices else "no events")
        own, own_then = run.best(run.seconds), run.best(baseline.seconds)
        base, base_then = baseline.best(baseline.seconds), baseline.best(run.seconds)
        if own is None or base is None or base_then is None or own_then is None:
            run_id, base_id = (entry.summary.id for entry in entries)
            if own is None or base is None:
                return EqualTime(reason=f"{run_id if own is None else base_id} had no evaluation")
            if own_then is None:
                return EqualTime(reason=f"{run_id} had no evaluation yet when its baseline had ended")
            return EqualTime(reason=f"{base_id} had no evaluation yet when {run_id} had ended")
        found.append((run.seconds, baseline.seconds, own - base_then, own_then - base, run.cached))
        live = run.live_seconds
        base_live = None if live is None else baseline.best(live)
        lives.append(None if live is None or base_live is None else (live, own - base_live))
    columns = [list(values) for values in zip(*found, strict=True)]
    seconds, baseline_seconds, delta, delta_then, cached = map(statistics.fmean, columns)
    by_seed = all(run.summary.seed == baseline.summary.seed for run, baseline in pairs)
    interval, interval_then = map(over_seeds, columns[2:4]) if by_seed else (None, None)
    known = [one for one in lives if one is not None]
    live_seconds: float | None = None
    delta_live: float | None = None
    if cached and len(known) == len(lives):
        live_seconds, delta_live = (statistics.fmean(values) for values in zip(*known, strict=True))
    return EqualTime(
        seconds,
        baseline_seconds,
        delta,
        delta_then,
        cached=cached,
        live_seconds=live_seconds,
        delta_live=delta_live,
        interval=interval,
        interval_within_baseline=interval_then,
    )


def _clock(entry: ComparedRun) -> _Clock:
    clock, begin, before = _Clock(), 0.0, 0.0
    for event in Tail(Run(entry.summary.path).events_path).stream():
        if isinstance(event, Started):
            clock.points = [point for point in clock.points if point[0] <= event.resumed_step]
            clock.speeds = [speed for speed in clock.speeds if speed[0] <= event.resumed_step]
            begin, before = event.time, clock.seconds
            clock.devices.add((entry.summary.host, event.device, event.world_size, event.threads))
        elif isinstance(event, Measured) and begin:
            score = event.scalars.get(entry.score) if event.split == "val" else None
            clock.points.append((event.step, before + event.time - begin, score))
            _add_speed(clock, event)
    return clock


def _add_speed(clock: _Clock, event: Measured) -> None:
    speed, share = event.scalars.get("images_per_second"), event.scalars.get("teacher_cached")
    if event.split == "train" and speed and share is not None:
        images = event.images - sum(count for _, count, _, _ in clock.speeds)
        clock.speeds.append((event.step, max(0, images), 1 / speed, share))
