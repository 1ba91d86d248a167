"""Exports, made in a thread; each reports its progress to the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from textual.message import Message

from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.launch.engine_process import Step
from kdtui.launch.export import ExportRequest, export, order, together
from kdtui.store.store import RunStore
from kdtui.tui.screens.export.sources import place
from kdtui.tui.views.export import CANCELLED, DONE, FAILED, RUNS, Job


class JobChanged(Message):
    """A job is elsewhere now.

    Args:
        number: Of the job.
        job: As it is now.
    """

    def __init__(self, number: int, job: Job) -> None:
        self.number, self.job = number, job
        super().__init__()


class JobsEnded(Message):
    """All jobs are over."""


def make(
    jobs: Sequence[Job],
    first: int,
    store: RunStore,
    *,
    tell: Callable[[Message], object],
    cancelled: Callable[[], bool],
) -> None:
    """Make the files, those of one network together; one that fails does not keep the others from being made.

    Args:
        jobs: What is to be made.
        first: Number of the first job.
        store: Where runs are; of this thread.
        tell: Called with :class:`JobChanged` and, at last, :class:`JobsEnded`.
        cancelled: Polled ten times a second; what is left then is not begun.
    """
    making = _Making(jobs, first, tell)
    orders: dict[int, ExportRequest] = {}
    for number, job in enumerate(jobs):
        try:
            orders[number] = order(place(job.source, store), store, job.options, foreign=job.foreign, folder=job.folder)
        except KdtuiError as error:
            making.change(number, state=FAILED, error=error)
        except OSError as error:
            making.change(number, state=FAILED, error=LaunchError.of(error))
    try:
        groups = together(list(orders.values()))
    except KdtuiError as error:
        for number in orders:
            making.change(number, state=FAILED, error=error)
        groups = []
    for group in groups:
        making.group(group, [number for number in orders if orders[number] in group], cancelled)
    tell(JobsEnded())


class _Making:
    """The jobs as they are now; each change is reported."""

    def __init__(self, jobs: Sequence[Job], first: int, tell: Callable[[Message], object]) -> None:
        self._jobs = list(jobs)
        self._first = first
        self._tell = tell

    def change(self, number: int, **values: Any) -> None:
        self._jobs[number] = replace(self._jobs[number], **values)
        self._tell(JobChanged(self._first + number, self._jobs[number]))

    def group(self, group: Sequence[ExportRequest], numbers: Sequence[int], cancelled: Callable[[], bool]) -> None:
        """Make the files of one network."""
        at = {one.target: number for one, number in zip(group, numbers, strict=True)}

        def heard(one: ExportRequest, step: Step) -> None:
            self.change(at[one.target], state=RUNS, target=one.target, step=step)

        def finished(one: ExportRequest, outcome: dict[str, Any] | KdtuiError) -> None:
            if isinstance(outcome, KdtuiError):
                self.change(at[one.target], state=FAILED, target=one.target, error=outcome)
            else:
                self.change(at[one.target], state=DONE, target=one.target, report=outcome)

        try:
            if cancelled():
                raise Interrupted("cancelled")
            self.change(numbers[0], state=RUNS, target=group[0].target)
            export(group, heard=heard, finished=finished, cancelled=cancelled)
        except Interrupted:
            self._end(numbers, state=CANCELLED)
        except OSError as error:
            self._end(numbers, state=FAILED, error=LaunchError.of(error))

    def _end(self, numbers: Sequence[int], **values: Any) -> None:
        for number in numbers:
            if not self._jobs[number].over:
                self.change(number, **values)
