"""What the header line says: the store, how many runs are in which state, the machine, the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kdtui.store.state import State
from kdtui.tui.board import Board
from kdtui.tui.colours import STATE_STYLES
from kdtui.tui.widgets.line import Part

_COUNTED = (
    State.RUNNING,
    State.QUEUED,
    State.LOST,
    State.FINISHED,
    State.STOPPED,
    State.FAILED,
    State.NEVER_LAUNCHED,
)


def time_of_day() -> str:
    """Hours and minutes, here and now."""
    return time.strftime("%H:%M")


def header_parts(
    root: Path, board: Board, machine: Sequence[str], clock: Callable[[], str] = time_of_day, doing: str = ""
) -> tuple[list[Part], list[Part]]:
    """Left and right of the header; the time moves only while a run is running or queued.

    Args:
        root: The store.
        board: What is known of its runs.
        machine: How busy this machine is.
        clock: The time of day.
        doing: What the cockpit itself is doing, whatever screen is in front.
    """
    left = [Part(" kdtui ", "accent", bold=True), Part(f"{_project(root)}  ", "text-muted")]
    counts = board.counts()
    left += [
        Part(f"{counts[state]}{state.glyph} ", STATE_STYLES[state], bold=state is State.RUNNING)
        for state in _COUNTED
        if counts[state]
    ]
    if not board.whole and board.total:
        left.append(Part(f"{len(board.rows)} of {board.total} read ", "text-muted"))
    if board.trouble:
        left.append(Part("the store cannot be read ", "error", bold=True))
    if doing:
        left.append(Part(f"{doing} ", "warning", bold=True))
    right = [Part("  ".join(machine))] if machine else []
    if board.live():
        right.append(Part(f"  {clock()} "))
    return left, right


def _project(root: Path) -> str:
    """The folder that the runs belong to: `people` for `people/runs`."""
    return root.parent.name if root.name == "runs" and root.parent.name else root.name
