"""Exports, one after the other in a thread; each tells the screen where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from textual.message import Message

from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.launch.converse import Step
from kdtui.launch.exporting import export, order
from kdtui.store.store import RunStore
from kdtui.tui.export_jobs import CANCELLED, DONE, FAILED, RUNS, Job
from kdtui.tui.screens.export.looking import place


class Told(Message):
    """A job is elsewhere now.

    Args:
        number: Of the job.
        job: As it is now.
    """

    def __init__(self, number: int, job: Job) -> None:
        self.number, self.job = number, job
        super().__init__()


class Ended(Message):
    """All jobs are over."""


def make(
    jobs: Sequence[Job],
    first: int,
    store: RunStore,
    *,
    tell: Callable[[Message], object],
    cancelled: Callable[[], bool],
) -> None:
    """Make one file after the other; one that fails does not keep the others from being made.

    Args:
        jobs: What is to be made.
        first: Number of the first job.
        store: Where runs are; of this thread.
        tell: Called with :class:`Told` and, at last, :class:`Ended`.
        cancelled: Asked ten times a second; then what is left is not begun.
    """
    for number, job in enumerate(jobs, start=first):
        if cancelled():
            tell(Told(number, replace(job, state=CANCELLED)))
        else:
            tell(Told(number, _made(job, store, partial(_pass_on, tell, number), cancelled)))
    tell(Ended())


def _pass_on(tell: Callable[[Message], object], number: int, job: Job) -> None:
    tell(Told(number, job))


def _made(job: Job, store: RunStore, tell: Callable[[Job], None], cancelled: Callable[[], bool]) -> Job:
    job = replace(job, state=RUNS)
    tell(job)

    def heard(step: Step) -> None:
        tell(replace(job, step=step))

    try:
        wanted = order(place(job.source, store), store, job.options, foreign=job.foreign, folder=job.folder)
        job = replace(job, target=wanted.target)
        return replace(job, state=DONE, report=export(wanted, heard=heard, cancelled=cancelled))
    except Interrupted:
        return replace(job, state=CANCELLED)
    except KdtuiError as error:
        return replace(job, state=FAILED, error=error)
    except OSError as error:
        failure = LaunchError.of(error)
        return replace(job, state=FAILED, error=failure)
