"""Runs exports in a thread and reports their progress to the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from textual.message import Message

from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.launch.engine_process import EngineStep
from kdtui.launch.export import ExportRequest, export, order, together
from kdtui.store.store import RunStore
from kdtui.tui.screens.export.sources import place
from kdtui.tui.views.export import CANCELLED, DONE, FAILED, RUNS, Job


class JobChanged(Message):
    """Posted when the state or the step of a job changed.

    Args:
        number: Number of the job.
        job: The changed job.
    """

    def __init__(self, number: int, job: Job) -> None:
        self.number, self.job = number, job
        super().__init__()


class JobsEnded(Message):
    """Posted when all jobs have ended."""


def make(
    jobs: Sequence[Job],
    first: int,
    store: RunStore,
    *,
    tell: Callable[[Message], object],
    cancelled: Callable[[], bool],
) -> None:
    """Run the exports, those of one network together; a failure does not stop the others.

    Args:
        jobs: The exports to run.
        first: Number of the first job.
        store: The run store, used only by this thread.
        tell: Called with :class:`JobChanged` and, at the end, with :class:`JobsEnded`.
        cancelled: Polled ten times a second; if true, the remaining jobs are not started.
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
    """Current state of the jobs; each change is reported."""

    def __init__(self, jobs: Sequence[Job], first: int, tell: Callable[[Message], object]) -> None:
        self._jobs = list(jobs)
        self._first = first
        self._tell = tell

    def change(self, number: int, **values: Any) -> None:
        self._jobs[number] = replace(self._jobs[number], **values)
        self._tell(JobChanged(self._first + number, self._jobs[number]))

    def group(self, group: Sequence[ExportRequest], numbers: Sequence[int], cancelled: Callable[[], bool]) -> None:
        """Export the files of one network."""
        at = {one.target: number for one, number in zip(group, numbers, strict=True)}

        def heard(one: ExportRequest, step: EngineStep) -> None:
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
