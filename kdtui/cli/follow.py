"""Following runs in the terminal: bars where stderr is one, plain lines elsewhere."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from kdtui.cli.console import say
from kdtui.cli.followed import Followed, describe, ending, started_line, warning_line
from kdtui.events import Event, Failed, Measured, Noted, Queued, Started, Warned
from kdtui.store.files import Tail
from kdtui.store.scan import scan
from kdtui.store.state import LIVE, RunSummary, State

if TYPE_CHECKING:
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore

_POLL = 0.2
_LAST = 1 << 20
"""Bytes of the end of a run's events that are read at first, and of what they gained in each look."""


class Display(Protocol):
    """Where progress goes."""

    def event(self, followed: Followed, event: Event) -> None:
        """Something happened."""

    def state(self, followed: Followed) -> None:
        """Time went by, or the state changed."""


def follow(
    store: RunStore, runs: Sequence[Run], *, on_interrupt: Callable[[int], None] | None = None
) -> list[RunSummary]:
    """Follow runs until none of them lives; their last summaries, in order.

    Args:
        store: Where the runs are.
        runs: Launched runs.
        on_interrupt: Called with 1, 2, … at each Ctrl-C; None lets the first one end the following.
    """
    followed = [_followed(run) for run in runs]
    with _interrupts(on_interrupt is not None) as interrupts, _display() as display:
        told = 0
        while _look(store, followed, display):
            time.sleep(_POLL)
            while on_interrupt is not None and told < len(interrupts):
                told += 1
                on_interrupt(told)
    return [one.summary for one in followed if one.summary is not None]


def _followed(run: Run) -> Followed:
    """A run whose events are read from near the end of a long file; how it started is known in any case."""
    one = Followed(run, Tail(run.events_path, last=_LAST))
    try:
        size = run.events_path.stat().st_size
    except OSError:  # not there yet, or not to be read, which reading it says
        size = 0
    if size > _LAST and (started := scan(run.events_path).started) is not None:
        one.history.extend([started])
    return one


@contextmanager
def _interrupts(collect: bool) -> Iterator[list[int]]:
    """Ctrl-C as entries of a list, not as an exception that may fly out of the middle of stopping a run."""
    pressed: list[int] = []
    if not collect:
        yield pressed
        return
    former = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, former)


def _look(store: RunStore, followed: Sequence[Followed], display: Display) -> bool:
    """Take in what is new; whether any run still lives."""
    summaries = store.summaries([one.run for one in followed])
    for one, summary in zip(followed, summaries, strict=True):
        one.summary = summary
        # After the summary, so that a run seen to be over has told everything.
        events = one.tail.read(_LAST) if summary.state in LIVE else one.tail.stream()
        for event in events:
            one.history.extend([event])
            display.event(one, event)
        display.state(one)
    return any(summary.state in LIVE for summary in summaries)


@contextmanager
def _display() -> Iterator[Display]:
    if sys.stderr.isatty():
        from kdtui.cli.bars import Bars

        with Bars() as bars:
            yield bars
    else:
        yield Lines()


class Lines:
    """Plain lines on stderr: one per validation, and every change of state."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[State, str]] = {}

    def event(self, followed: Followed, event: Event) -> None:
        """Write what a reader of a log wants to know."""
        name = followed.name
        if isinstance(event, Queued):
            say(f"{name}: attempt {event.attempt} is queued")
        elif isinstance(event, Started):
            say(f"{name}: {started_line(event)}")
        elif isinstance(event, Measured) and event.split == "val":
            say(f"{name}: {describe(followed, event)}")
        elif isinstance(event, Noted | Failed):
            say(f"{name}: {event.message}")
        elif isinstance(event, Warned):
            say(f"{name}: {warning_line(event)}")

    def state(self, followed: Followed) -> None:
        """Write a final state, and what a run in the queue waits for, once each."""
        summary = followed.summary
        if summary is None:
            return
        queued = summary.state is State.QUEUED and summary.waiting_since is not None
        now = (summary.state, summary.detail if queued else "")
        if self._states.get(summary.id) != now and (queued or summary.state not in LIVE):
            say(f"{followed.name}: {summary.detail if queued else ending(summary)}")
        self._states[summary.id] = now
