"""One run while it is followed, and the sentences both displays use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdtui.cli.console import next_step
from kdtui.events import Measured, Started, Warned
from kdtui.store.files import Tail
from kdtui.store.history import History
from kdtui.store.state import RunSummary
from kdtui.text import clean, number, percent, span

if TYPE_CHECKING:
    from kdtui.store.run import Run


@dataclass
class Followed:
    """One run and what is known of it so far."""

    run: Run
    tail: Tail
    history: History = field(default_factory=History)
    summary: RunSummary | None = None

    @property
    def name(self) -> str:
        """What the line is called."""
        return clean(self.summary.name if self.summary else self.run.id)


def teacher_miou(started: Started | None) -> float | None:
    """The teacher's mIoU, where the event has a number there."""
    value = None if started is None or started.teacher is None else started.teacher.get("miou")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def describe(followed: Followed, measured: Measured) -> str:
    """One line of a measurement: epoch, losses, mIoU with the teacher's line."""
    history = followed.history
    started = history.started
    epochs = started.epochs if started else measured.epochs
    teacher = teacher_miou(started)
    scalars = measured.scalars
    if measured.split != "val":
        parts = [f"step {measured.step}", f"loss {number(scalars.get('loss'))}"]
        parts += [
            f"{name} {number(scalars[f'loss.{name}'])}" for name in ("base", "distill") if f"loss.{name}" in scalars
        ]
    else:
        loss = history.curves.get("train/loss")
        parts = [f"loss {number(loss.last if loss else None)}", f"mIoU {number(scalars.get('miou'))}"]
        parts.append(f"best {number(scalars.get('best_miou'))}")
        if teacher is not None:
            parts.append(f"teacher {number(teacher)} ({percent(scalars.get('retention'))})")
        if followed.summary is not None and followed.summary.eta_seconds is not None:
            parts.append(f"eta {span(followed.summary.eta_seconds)}")
    return f"epoch {measured.epoch}/{epochs if epochs is not None else '?'}  " + "  ".join(parts)


def started_line(event: Started) -> str:
    """How a run begins."""
    line = f"started on {event.world_size} x {event.device} in {event.precision}, {event.threads} threads"
    if event.resumed_step:
        line += f", from step {event.resumed_step}"
    if event.teacher is not None:
        line += f"; teacher mIoU {number(teacher_miou(event))}"
    return line


def warning_line(event: Warned) -> str:
    """A warning with what to do about it."""
    return f"warning: {event.message}" + (f"\n  next: {next_step(event.hint)}" if event.hint else "")


def ending(summary: RunSummary) -> str:
    """How a run ended, in one line."""
    line = f"{summary.state.glyph} {summary.state.word}"
    if summary.best_miou is not None:
        line += f", best mIoU {summary.best_miou:.4f}"
    return f"{line}: {summary.detail}" if summary.detail else line
