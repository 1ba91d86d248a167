"""Reports of a training: events, TensorBoard and a text log, written by rank 0."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from kdtui import events
from kdtui.store.event_log import Tail
from kdtui.store.files import appending
from kdtui.store.run import EventLog, Run


class Report:
    """Writer of a run's events and logs.

    Args:
        run: The run.
        active: Whether anything is written; False on all ranks except 0.
    """

    def __init__(self, run: Run, *, active: bool) -> None:
        self._run = run
        self._log = EventLog(run.events_path) if active else None
        self._board: SummaryWriter | None = None

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()
        if self._log is not None:
            self._log.close()

    def started(self, event: events.Started) -> None:
        """Write the start of an attempt; TensorBoard discards the points that this attempt repeats."""
        if self._log is None:
            return
        self._run.logs.mkdir(exist_ok=True)
        self._board = SummaryWriter(
            str(self._run.logs), purge_step=event.resumed_step + 1 if event.attempt > 1 else None
        )
        teacher = "" if event.teacher is None else f", teacher mIoU {event.teacher['miou']:.4f}"
        self._emit(
            event,
            f"attempt {event.attempt}: {event.epochs} epochs of {event.steps_per_epoch} steps on {event.world_size} x "
            f"{event.device}, {event.precision}, from step {event.resumed_step}{teacher}",
        )

    def measured(self, event: events.Measured) -> None:
        """Write measured values."""
        if self._log is None:
            return
        shown = " ".join(f"{name}={value:.4g}" for name, value in event.scalars.items() if value is not None)
        self._emit(event, f"{event.split} epoch {event.epoch} step {event.step}: {shown}")
        if self._board is not None:
            for name, value in event.scalars.items():
                if value is not None:
                    self._board.add_scalar(f"{event.split}/{name.replace('.', '/')}", value, event.step, event.time)

    def replay(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the points that a run inherits from the checkpoint it starts from, with their original times."""
        for point in history:
            self.measured(events.Measured(**point))

    def warn(self, warnings: Sequence[events.Warned]) -> None:
        """Write the warnings that no attempt of this run has written before."""
        if self._log is None or not warnings:
            return
        written = {
            (event.code, event.message)
            for event in Tail(self._run.events_path).stream()
            if isinstance(event, events.Warned)
        }
        for warning in warnings:
            if (warning.code, warning.message) not in written:
                self.say(warning)

    def say(self, event: events.Event) -> None:
        """Write any other event, with its fields as text."""
        if self._log is None:
            return
        body = {name: value for name, value in vars(event).items() if name != "time" and value is not None}
        self._emit(event, f"{event.kind}: " + " ".join(f"{name}={value}" for name, value in body.items()))

    def _emit(self, event: events.Event, line: str) -> None:
        assert self._log is not None
        self._log.append(event)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
        self._run.logs.mkdir(exist_ok=True)
        with appending(self._run.training_log) as log:
            log.write(f"{stamp} {line}\n".encode())
