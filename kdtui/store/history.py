"""The history of a run: curves and events for display."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from kdtui.events import (
    Event,
    Exited,
    Failed,
    Finished,
    Measured,
    Noted,
    Queued,
    Saved,
    Started,
    Stopped,
    Visualized,
    Warned,
)

MOST_POINTS = 16_384
"""Maximum number of points of a curve."""
NEWEST = 2048
"""Number of points at the end of a curve that are never thinned out."""
MOST_CURVES = 4096
MOST_ENTRIES = 1000
"""Maximum number of attempts, checkpoints, pictures and notes (the newest are kept) and of warnings (the oldest)."""
_GROUP = 4
_Entry = TypeVar("_Entry")


@dataclass
class Curve:
    """One value over a run, as four columns of equal length; NaN marks a gap.

    The size is bounded: above :data:`MOST_POINTS` points, groups of older points are replaced by their minimum, maximum
    and first gap. The first point and the newest points are kept.
    """

    steps: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    _thinned: int = field(default=0, repr=False, compare=False)  # number of thinned-out points at the start
    _group: int = field(default=_GROUP, repr=False, compare=False)  # number of points that are replaced together

    def __len__(self) -> int:
        return len(self.steps)

    def append(self, step: int, images: int, time: float, value: float) -> None:
        """Add the next point; value is NaN for a gap."""
        self.steps.append(step)
        self.images.append(images)
        self.times.append(time)
        self.values.append(value)
        if len(self.steps) > MOST_POINTS:
            self._thin_out()

    def _thin_out(self) -> None:
        end = len(self.steps) - NEWEST
        self._replace(self._thinned, end, self._group)
        if self._thinned > MOST_POINTS // 2:
            self._replace(0, self._thinned, _GROUP)
            self._group *= 2

    def _replace(self, begin: int, end: int, group: int) -> None:
        """Replace the points from ``begin`` to ``end``, group by group."""
        kept = [at for first in range(begin, end, group) for at in self._notable(first, min(first + group, end))]
        # New lists, because charts assume that a known list only grows.
        self.steps = [*self.steps[:begin], *(self.steps[at] for at in kept), *self.steps[end:]]
        self.images = [*self.images[:begin], *(self.images[at] for at in kept), *self.images[end:]]
        self.times = [*self.times[:begin], *(self.times[at] for at in kept), *self.times[end:]]
        self.values = [*self.values[:begin], *(self.values[at] for at in kept), *self.values[end:]]
        self._thinned = begin + len(kept)

    def _notable(self, begin: int, end: int) -> list[int]:
        """Ascending indices of minimum, maximum and first gap, and of the curve's first point."""
        values = self.values[begin:end]
        notable = {begin} if begin == 0 else set()
        gaps = [at for at, value in enumerate(values, begin) if value != value]
        if gaps:
            notable.add(gaps[0])
            values = [value for value in values if value == value]
        if values:
            low, high = min(values), max(values)
            notable |= {self.values.index(low, begin, end), self.values.index(high, begin, end)}
        return sorted(notable)

    @property
    def last(self) -> float | None:
        """The newest value, or None if there is none or it is a gap."""
        return self.values[-1] if self.values and math.isfinite(self.values[-1]) else None

    def cut(self, step: int) -> None:
        """Drop the points after ``step``."""
        keep = len(self.steps)
        while keep and self.steps[keep - 1] > step:
            keep -= 1
        for column in (self.steps, self.images, self.times, self.values):
            del column[keep:]
        self._thinned = min(self._thinned, keep)


class History:
    """The events of a run in a form for display; its size is bounded.

    Attributes:
        curves: Curves by name, such as ``train/loss`` and ``val/miou``.
        attempts: The ``started`` event of each attempt.
        pictures: How many times pictures of predictions were written.
        word: ``finished``, ``stopped`` or ``failed`` of the current attempt, or None.
        exited: ``exited`` of the current attempt, or None.
        warnings: Distinct warnings, oldest first.
        waiting: Whether the current attempt has written only ``queued`` so far.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.curves: dict[str, Curve] = {}
        self.attempts: list[Started] = []
        self.saved: list[Saved] = []
        self.visualized: list[Visualized] = []
        self.pictures = 0
        self.notes: list[Noted] = []
        self.warnings: list[Warned] = []
        self._known_warnings: set[tuple[str, ...]] = set()
        self.word: Finished | Stopped | Failed | None = None
        self.exited: Exited | None = None
        self.waiting = False
        self.attempt = 0
        self.step = 0
        self.epoch = 0
        self.last_event: float | None = None
        self.last_train: Measured | None = None
        self.last_val: Measured | None = None
        self.extend(events)

    @property
    def started(self) -> Started | None:
        """The newest ``started``."""
        return self.attempts[-1] if self.attempts else None

    def extend(self, events: Iterable[Event]) -> None:
        """Add the next events."""
        for event in events:
            if not (isinstance(event, Exited) and self.word is not None):
                self.last_event = event.time
            match event:
                case Measured():
                    self._measure(event)
                case Queued():
                    self._begin(event.attempt)
                    self.waiting = True
                case Started():
                    self._begin(event.attempt)
                    self._resume(event)
                case Finished() | Stopped() | Failed():
                    self.word = event
                    self.waiting = False
                case Exited():
                    self.exited = event
                    self.waiting = False
                case Saved():
                    _add(self.saved, event)
                case Visualized():
                    self.pictures += 1
                    _add(self.visualized, event)
                case Noted():
                    _add(self.notes, event)
                case Warned():
                    self._warn(event)

    def _warn(self, event: Warned) -> None:
        text = tuple(str(value) for value in event.to_json().values())
        if text not in self._known_warnings and len(self.warnings) < MOST_ENTRIES:
            self._known_warnings.add(text)
            self.warnings.append(event)

    def _begin(self, attempt: int) -> None:
        if attempt != self.attempt:
            self.attempt, self.word, self.exited = attempt, None, None
        self.waiting = False

    def _resume(self, event: Started) -> None:
        _add(self.attempts, event)
        for curve in self.curves.values():
            curve.cut(event.resumed_step)
        self.curves = {key: curve for key, curve in self.curves.items() if len(curve)}
        self.saved = [saved for saved in self.saved if saved.step <= event.resumed_step]
        self.step = event.resumed_step
        self.epoch = event.resumed_step // event.steps_per_epoch if event.steps_per_epoch else 0
        if self.last_train is not None and self.last_train.step > event.resumed_step:
            self.last_train = None
        if self.last_val is not None and self.last_val.step > event.resumed_step:
            self.last_val = None

    def _measure(self, event: Measured) -> None:
        self.waiting = False
        self.step, self.epoch = max(self.step, event.step), max(self.epoch, event.epoch)
        if event.split == "val":
            self.last_val = event
        else:
            self.last_train = event
        for name, value in event.scalars.items():
            key = f"{event.split}/{name}"
            curve = self.curves.get(key)
            if curve is None:
                if len(self.curves) >= MOST_CURVES:
                    continue
                curve = self.curves[key] = Curve()
            curve.append(event.step, event.images, event.time, math.nan if value is None else float(value))


def _add(entries: list[_Entry], entry: _Entry) -> None:
    entries.append(entry)
    if len(entries) > MOST_ENTRIES:
        del entries[0]
