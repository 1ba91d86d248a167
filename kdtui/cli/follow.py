"""Follow runs: progress bars if stderr is a terminal, otherwise plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from kdtui.cli.console import next_step, say
from kdtui.cli.interrupts import interrupts
from kdtui.compare.named import called
from kdtui.events import Event, Failed, Measured, Noted, Queued, Started, Warned, score_name
from kdtui.store.event_log import Tail
from kdtui.store.history import History
from kdtui.store.scan import scan
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.text import clean, counted, number, percent, score_title, span

if TYPE_CHECKING:
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore


@dataclass
class Followed:
    """A followed run: the reader of its events, its history and its last summary."""

    run: Run
    tail: Tail
    history: History = field(default_factory=History)
    summary: RunSummary | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """Name of the run for display, distinct among the runs that are followed."""
        return clean(self.title or (self.summary.name if self.summary else self.run.id))


def teacher_miou(started: Started | None) -> float | None:
    """The teacher's mIoU, or None if the event has no number for it."""
    value = None if started is None or started.teacher is None else started.teacher.get("miou")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def describe(followed: Followed, measured: Measured) -> str:
    """Format a measurement as one line: epoch, losses, and mIoU with that of the teacher."""
    history = followed.history
    started = history.started
    epochs = started.epochs if started else measured.epochs
    teacher = teacher_miou(started)
    scalars = measured.scalars
    if measured.split != "val":
        parts = [f"step {measured.step}", f"loss {number(scalars.get('loss'))}"]
        parts += [f"{name} {number(scalars[f'loss.{name}'])}" for name in _PARTS if f"loss.{name}" in scalars]
    else:
        loss = history.curves.get("train/loss")
        own = score_name(scalars)
        parts = [f"loss {number(loss.last if loss else None)}", f"{score_title(own)} {number(scalars.get(own))}"]
        parts.append(f"best {number(scalars.get(f'best_{own}'))}")
        if own != "miou":
            parts.append(f"mIoU {number(scalars.get('miou'))}")
        if teacher is not None:
            parts.append(f"teacher {number(teacher)} ({percent(scalars.get('retention'))})")
        if followed.summary is not None and followed.summary.eta_seconds is not None:
            parts.append(f"eta {span(followed.summary.eta_seconds)}")
    return f"epoch {measured.epoch}/{epochs if epochs is not None else '?'}  " + "  ".join(parts)


def started_line(event: Started) -> str:
    """Format the start of an attempt as one line."""
    line = f"started on {event.world_size} x {event.device}, {event.precision}, {counted(event.threads, 'thread')}"
    if event.workers:
        line += f", {counted(event.workers, 'loading process')}"
    if event.resumed_step:
        line += f", resuming at step {event.resumed_step}"
    if event.teacher is not None:
        line += f"; teacher mIoU {number(teacher_miou(event))}"
    return line


def warning_line(event: Warned) -> str:
    """Format a warning and its hint."""
    return f"warning: {event.message}" + (f"\n  next: {next_step(event.hint)}" if event.hint else "")


def ending(summary: RunSummary) -> str:
    """Format the end of a run as one line."""
    line = f"{summary.state.glyph} {summary.state.word}"
    if (best := summary.best(summary.score)) is not None:
        line += f", best {score_title(summary.score)} {best:.4f}"
    return f"{line}: {summary.detail}" if summary.detail else line


_POLL = 0.2
_MOST_BARS = 4
_LAST = 1 << 20
"""Maximum number of bytes of a run's events that are read first, from the end, and in each poll."""


class Display(Protocol):
    """Output of progress."""

    def event(self, followed: Followed, event: Event) -> None:
        """Show an event."""

    def state(self, followed: Followed) -> None:
        """Show the current state; called in each poll."""


def follow(
    store: RunStore,
    runs: Sequence[Run],
    *,
    others: Sequence[Run] = (),
    on_interrupt: Callable[[int], None] | None = None,
    on_end: Callable[[RunSummary], None] = lambda summary: None,
    pressed: list[int] | None = None,
) -> list[RunSummary]:
    """Follow runs until all of them have ended.

    Args:
        store: The store of the runs.
        runs: Launched runs.
        others: Further runs, which are followed until they end or Ctrl-C is pressed.
        on_interrupt: Called with the count 1, 2, … at each Ctrl-C; None lets Ctrl-C raise KeyboardInterrupt.
        on_end: Called with the summary of each run that ends while others have not.
        pressed: List of an enclosing :func:`interrupts`; an entry for each Ctrl-C.

    Returns:
        The last summaries of ``runs``, in order.
    """
    followed = [_followed(run) for run in (*runs, *others)]
    collected = nullcontext(pressed) if pressed is not None else interrupts(on_interrupt is not None)
    with collected as count, _display(many=len(followed) > _MOST_BARS) as display:
        handled = 0
        ended: set[str] = set()
        while any(row.state in LIVE for row in _poll(store, followed, display)[: len(runs) if handled else None]):
            for summary in (one.summary for one in followed if one.summary is not None):
                if summary.state not in LIVE and summary.id not in ended:
                    ended.add(summary.id)
                    on_end(summary)
            time.sleep(_POLL)
            while on_interrupt is not None and handled < len(count):
                handled += 1
                on_interrupt(handled)
    return [one.summary for one in followed[: len(runs)] if one.summary is not None]


def _followed(run: Run) -> Followed:
    """Start to follow a run; of a long event file only the start event and the end are read."""
    one = Followed(run, Tail(run.events_path, last=_LAST))
    try:
        size = run.events_path.stat().st_size
    except OSError:  # missing yet or unreadable, which reading it reports
        size = 0
    if size > _LAST and (started := scan(run.events_path).started) is not None:
        one.history.extend([started])
    return one


def _poll(store: RunStore, followed: Sequence[Followed], display: Display) -> list[RunSummary]:
    """Read and show new events; return the summaries."""
    summaries = store.summaries([one.run for one in followed])
    names = called(summaries)
    for one, summary in zip(followed, summaries, strict=True):
        one.summary, one.title = summary, names[summary.id]
        # After the summary, so that all events of a run whose state is final are read.
        events = one.tail.read(_LAST) if summary.state in LIVE else one.tail.stream()
        for event in events:
            one.history.extend([event])
            display.event(one, event)
        display.state(one)
    return summaries


@contextmanager
def _display(*, many: bool) -> Iterator[Display]:
    if sys.stderr.isatty():
        with ProgressBars(many=many) as bars:
            yield bars
    else:
        yield ProgressLines()


class ProgressLines:
    """Plain lines on stderr: one per validation and change of state."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[State, str]] = {}

    def event(self, followed: Followed, event: Event) -> None:
        """Print a line for the event, if it is of interest in a log."""
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
        """Print a final state, and the reason why a queued run waits, once each."""
        summary = followed.summary
        if summary is None:
            return
        queued = summary.state is State.QUEUED and summary.detail != "starting"
        now = (summary.state, summary.detail if queued else "")
        if self._states.get(summary.id) != now and (queued or summary.state not in LIVE):
            say(f"{followed.name}: {summary.detail if queued else ending(summary)}")
        self._states[summary.id] = now


class ProgressBars:
    """Two progress bars per run: epochs with mIoU and ETA, and steps within the epoch with losses.

    Args:
        console: Default: stderr.
        many: Whether only running runs have bars, so that those of many runs fit the terminal.
    """

    def __init__(self, console: Console | None = None, *, many: bool = False) -> None:
        self._many = many
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24, finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=console or Console(stderr=True),
            refresh_per_second=4,
        )
        self._bars: dict[str, tuple[TaskID, TaskID]] = {}
        self._over: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def event(self, followed: Followed, event: Event) -> None:
        """Print notes, warnings and errors above the bars."""
        if isinstance(event, Started):
            self._print(followed, started_line(event))
        elif isinstance(event, Noted | Failed):
            self._print(followed, event.message)
        elif isinstance(event, Warned):
            self._print(followed, warning_line(event))

    def state(self, followed: Followed) -> None:
        """Update the bars."""
        summary = followed.summary
        if summary is None or (self._many and (summary.state is State.QUEUED or summary.id in self._over)):
            return
        if followed.run.id not in self._bars:
            self._bars[followed.run.id] = self._add(followed)
        epochs, steps = self._bars[followed.run.id]
        history, started = followed.history, followed.history.started
        if started is not None:
            done, within = divmod(history.step, max(1, started.steps_per_epoch))
            if done and not within:  # a completed epoch is drawn full until the first step of the next one
                within = started.steps_per_epoch
            text = [f"{name} {number(self._last(followed, key))}" for name, key in _LOSSES if self._has(followed, key)]
            self._progress.update(epochs, completed=done, total=started.epochs, text=self._scores(followed))
            self._progress.update(steps, completed=within, total=started.steps_per_epoch, text="  ".join(text))
        elif summary.state in LIVE:
            self._progress.update(epochs, text=escape(clean(summary.detail or "starting")))
        if summary.state not in LIVE and summary.id not in self._over:
            self._over.add(summary.id)
            self._print(followed, ending(summary))
            for bar in (epochs, steps) if self._many else ():
                self._progress.remove_task(bar)

    def _add(self, followed: Followed) -> tuple[TaskID, TaskID]:
        name = escape(followed.name)
        return (
            self._progress.add_task(f"{name} epoch", total=None, text=""),
            self._progress.add_task(f"{' ' * len(followed.name)} step ", total=None, text=""),
        )

    def _scores(self, followed: Followed) -> str:
        summary, started = followed.summary, followed.history.started
        val: Measured | None = followed.history.last_val
        parts = []
        if val is not None:
            own = score_name(val.scalars)
            best_one, last = (number(val.scalars.get(name)) for name in (f"best_{own}", own))
            parts = [f"{score_title(own)} {best_one}", f"last {last}"]
        if started is not None and started.teacher is not None:
            teacher, best = teacher_miou(started), None if val is None else val.scalars.get("best_miou")
            share = best / teacher if best is not None and teacher else None
            parts.append(f"teacher {number(teacher)} {percent(share)}")
        if summary is not None and summary.state in LIVE:
            parts.append(f"eta {span(summary.eta_seconds)}")
        return "  ".join(parts)

    @staticmethod
    def _has(followed: Followed, key: str) -> bool:
        return key in followed.history.curves

    @staticmethod
    def _last(followed: Followed, key: str) -> float | None:
        return followed.history.curves[key].last

    def _print(self, followed: Followed, text: str) -> None:
        self._progress.console.print(escape(f"{followed.name}: {clean(text)}"), highlight=False)


_PARTS = ("base", "distill", "unlabelled")
_LOSSES = (("loss", "train/loss"), *((name, f"train/loss.{name}") for name in _PARTS))
