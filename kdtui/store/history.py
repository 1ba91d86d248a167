"""From events to curves: what the faces draw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

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


@dataclass
class Curve:
    """One named value over a run; four columns of equal length. A gap is NaN."""

    steps: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float | None:
        """The newest value, or None when there is none or it is a gap."""
        return self.values[-1] if self.values and math.isfinite(self.values[-1]) else None

    def cut(self, step: int) -> None:
        """Drop the points after ``step``."""
        keep = len(self.steps)
        while keep and self.steps[keep - 1] > step:
            keep -= 1
        for column in (self.steps, self.images, self.times, self.values):
            del column[keep:]


class History:
    """Everything that happened to a run, in the form in which it is drawn.

    Attributes:
        curves: ``train/loss``, ``val/miou`` and so on.
        attempts: Every ``started``.
        word: ``finished``, ``stopped`` or ``failed`` of the current attempt, or None.
        exited: ``exited`` of the current attempt, or None.
        warnings: What was found to be probably wrong, each once, oldest first.
        waiting: Whether the current attempt wrote ``queued`` and nothing else yet.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.curves: dict[str, Curve] = {}
        self.attempts: list[Started] = []
        self.saved: list[Saved] = []
        self.visualized: list[Visualized] = []
        self.notes: list[Noted] = []
        self.warnings: list[Warned] = []
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
        """Take in what came next."""
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
                    self.saved.append(event)
                case Visualized():
                    self.visualized.append(event)
                case Noted():
                    self.notes.append(event)
                case Warned():
                    if all(event.to_json() != earlier.to_json() for earlier in self.warnings):
                        self.warnings.append(event)

    def _begin(self, attempt: int) -> None:
        if attempt != self.attempt:
            self.attempt, self.word, self.exited = attempt, None, None
        self.waiting = False

    def _resume(self, event: Started) -> None:
        self.attempts.append(event)
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
            curve = self.curves.setdefault(f"{event.split}/{name}", Curve())
            curve.steps.append(event.step)
            curve.images.append(event.images)
            curve.times.append(event.time)
            curve.values.append(math.nan if value is None else float(value))
