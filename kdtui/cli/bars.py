"""Live progress with rich: an epoch bar and a step bar per run, on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from kdtui.cli.followed import Followed, ending, started_line, teacher_miou, warning_line
from kdtui.events import Event, Failed, Measured, Noted, Started, Warned
from kdtui.store.state import LIVE
from kdtui.text import clean, number, percent, span


class Bars:
    """Two bars a run: epochs with losses, mIoU, the teacher's line and ETA, and steps of the epoch."""

    def __init__(self, console: Console | None = None) -> None:
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
        """Move the bars; what is worth keeping is printed above them."""
        if isinstance(event, Started):
            self._print(followed, started_line(event))
        elif isinstance(event, Noted | Failed):
            self._print(followed, event.message)
        elif isinstance(event, Warned):
            self._print(followed, warning_line(event))

    def state(self, followed: Followed) -> None:
        """Draw what is known now."""
        summary = followed.summary
        if summary is None:
            return
        if followed.run.id not in self._bars:
            self._bars[followed.run.id] = self._add(followed)
        epochs, steps = self._bars[followed.run.id]
        history, started = followed.history, followed.history.started
        if started is not None:
            done, within = divmod(history.step, max(1, started.steps_per_epoch))
            if done and not within:  # an epoch that has just ended is drawn full until the next one moves
                within = started.steps_per_epoch
            text = [f"{name} {number(self._last(followed, key))}" for name, key in _LOSSES if self._has(followed, key)]
            self._progress.update(epochs, completed=done, total=started.epochs, text=self._scores(followed))
            self._progress.update(steps, completed=within, total=started.steps_per_epoch, text="  ".join(text))
        elif summary.state in LIVE:
            self._progress.update(epochs, text=escape(clean(summary.detail or "starting")))
        if summary.state not in LIVE and summary.id not in self._over:
            self._over.add(summary.id)
            self._print(followed, ending(summary))

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
            parts = [f"mIoU {number(val.scalars.get('best_miou'))}", f"last {number(val.scalars.get('miou'))}"]
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


_LOSSES = (("loss", "train/loss"), ("base", "train/loss.base"), ("distill", "train/loss.distill"))
