"""How long a run has trained: time in which an attempt was running, without waiting and pauses."""

from __future__ import annotations

from dataclasses import dataclass

from kdtui.events import Exited, Measured, Started
from kdtui.store.event_log import Tail
from kdtui.store.run import Run


@dataclass(frozen=True)
class ActiveTime:
    """Time of all attempts of a run.

    Attributes:
        seconds: From the start of the training to the last event of each attempt; loading is not included.
        epochs: Epochs that were trained in this time, also those that an attempt repeated.
    """

    seconds: float = 0.0
    epochs: float = 0.0

    @property
    def seconds_per_epoch(self) -> float | None:
        """None before the first complete epoch."""
        return self.seconds / self.epochs if self.epochs >= 1 else None


def active_time(run: Run) -> ActiveTime:
    """The active time of a run until its last validation, from its events."""
    seconds = epochs = 0.0
    started: Started | None = None
    last: Measured | None = None
    for event in [*Tail(run.events_path).read(), Exited(0, 0)]:
        if isinstance(event, Measured):
            last = event if event.split == "val" else last
        elif isinstance(event, Started | Exited):
            if started is not None and last is not None:
                seconds += last.time - started.time
                epochs += (last.step - started.resumed_step) / max(1, started.steps_per_epoch)
            started, last = (event, None) if isinstance(event, Started) else (None, None)
    return ActiveTime(seconds, epochs)
