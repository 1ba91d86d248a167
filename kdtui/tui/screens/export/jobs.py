"""Runs exports in a thread and reports their progress to the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from textual.message import Message

from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.launch.engine_process import EngineStep
from kdtui.launch.export import ExportRequest, export, export_request, together
from kdtui.store.store import RunStore
from kdtui.tui.screens.export.sources import source_argument
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
    requests: dict[int, ExportRequest] = {}
    for number, job in enumerate(jobs):
        try:
            requests[number] = export_request(
                source_argument(job.source, store), store, job.options, external=job.external, folder=job.folder
            )
        except KdtuiError as error:
            making.change(number, state=FAILED, error=error)
        except OSError as error:
            making.change(number, state=FAILED, error=LaunchError.of(error))
    try:
        groups = together(list(requests.values()))
    except KdtuiError as error:
        for number in requests:
            making.change(number, state=FAILED, error=error)
        groups = []
    for group in groups:
        making.group(group, [number for number in requests if requests[number] in group], cancelled)
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
        at = {request.target: number for request, number in zip(group, numbers, strict=True)}

        def on_step(request: ExportRequest, step: EngineStep) -> None:
            self.change(at[request.target], state=RUNS, target=request.target, step=step)

        def finished(request: ExportRequest, outcome: dict[str, Any] | KdtuiError) -> None:
            if isinstance(outcome, KdtuiError):
                self.change(at[request.target], state=FAILED, target=request.target, error=outcome)
            else:
                self.change(at[request.target], state=DONE, target=request.target, report=outcome)

        try:
            if cancelled():
                raise Interrupted("cancelled")
            self.change(numbers[0], state=RUNS, target=group[0].target)
            export(group, on_step=on_step, finished=finished, cancelled=cancelled)
        except Interrupted:
            self._end(numbers, state=CANCELLED)
        except OSError as error:
            self._end(numbers, state=FAILED, error=LaunchError.of(error))

    def _end(self, numbers: Sequence[int], **values: Any) -> None:
        for number in numbers:
            if not self._jobs[number].over:
                self.change(number, **values)
