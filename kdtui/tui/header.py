"""What the header line says: the store, how many runs are in which state, the machine, the time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from kdtui.store.state import State
from kdtui.tui.board import Board
from kdtui.tui.widgets.line import Part

STATE_STYLES = {
    State.RUNNING: "accent",
    State.FINISHED: "success",
    State.FAILED: "error",
    State.STOPPED: "warning",
    State.QUEUED: "secondary",
    State.LOST: "warning",
    State.NEVER_LAUNCHED: "text-muted",
}


def header_parts(root: Path, board: Board, machine: Sequence[str]) -> tuple[list[Part], list[Part]]:
    """Left and right of the header; the time moves only while something lives."""
    left = [Part(" kdtui ", "accent", bold=True), Part(f"{_short(root)}  ", "text-muted")]
    counts = board.counts()
    left += [
        Part(f"{counts[state]}{state.glyph} ", STATE_STYLES[state], bold=state is State.RUNNING)
        for state in (State.RUNNING, State.QUEUED, State.LOST, State.FINISHED, State.STOPPED, State.FAILED)
        if counts[state]
    ]
    if not board.whole and board.total:
        left.append(Part(f"{len(board.rows)} of {board.total} read ", "text-muted"))
    if board.trouble:
        left.append(Part("the store cannot be read ", "error", bold=True))
    right = [Part("  ".join(machine))] if machine else []
    if board.live():
        right.append(Part(f"  {time.strftime('%H:%M')} "))
    return left, right


def _short(root: Path) -> str:
    """The folder as a person would write it, its end when it is long."""
    home = str(Path.home())
    text = str(root)
    if text == home or text.startswith(home + "/"):
        text = "~" + text[len(home) :]
    return text if len(text) <= 24 else "…" + text[-23:]
