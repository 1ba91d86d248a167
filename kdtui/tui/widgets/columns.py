"""Cells and columns of a table: widths of the columns, and texts cut to fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from rich.cells import cell_len, split_graphemes

from kdtui.text import clean
from kdtui.tui.values import Cell, Column

GAP = 1
"""Terminal columns between two columns."""
_ELLIPSIS = "…"
# Terminals disagree on the width of a character with a variation selector; without the selector they agree.
_NO_SELECTORS = dict.fromkeys(range(0xFE00, 0xFE10))


@dataclass(frozen=True)
class Slot:
    """Position of a column: its index, first terminal column and width."""

    column: int
    x: int
    width: int


def lay_out(columns: Sequence[Column], preferred: Sequence[int], room: int, start: int = 0) -> tuple[Slot, ...]:
    """Positions of the columns that fit, from left to right.

    Args:
        columns: All columns.
        preferred: Preferred width of each column; used where it exceeds the minimum.
        room: Available terminal columns, counted from 0; no slot exceeds them.
        start: First free terminal column.
    """
    kept = list(range(len(columns)))
    free = room - start
    while _least(columns, kept) > free:
        gone = max(kept, key=lambda i: (columns[i].drop, i))
        if columns[gone].drop == 0:
            break
        kept.remove(gone)
    widths = {index: columns[index].minimum for index in kept}
    spare = free - _least(columns, kept)
    for index in sorted(kept, key=lambda i: columns[i].drop):
        if spare > 0 and not columns[index].grow:
            more = min(spare, columns[index].bounded(preferred[index]) - widths[index])
            widths[index] += more
            spare -= more
    growing = [index for index in kept if columns[index].grow]
    for place, index in enumerate(growing):
        if spare > 0:
            share = -(-spare // (len(growing) - place))
            more = columns[index].bounded(widths[index] + share) - widths[index]
            widths[index] += more
            spare -= more
    slots, x = [], start
    for index in kept:
        wide = min(widths[index], room - x)
        if wide <= 0:
            break
        slots.append(Slot(index, x, wide))
        x += wide + GAP
    return tuple(slots)


def _least(columns: Sequence[Column], kept: Sequence[int]) -> int:
    return sum(columns[index].minimum for index in kept) + GAP * max(0, len(kept) - 1)


def plain(cell: Cell) -> Cell:
    """The cell with its text on one line, without control characters, and with the width that the terminal will use."""
    text = cell.text
    if text.isascii() and text.isprintable():
        return cell
    one_line = clean(" ".join(text.split("\n")).replace("\t", " ")).translate(_NO_SELECTORS)
    return cell if one_line == text else replace(cell, text=one_line)


@lru_cache(4096)
def fit(text: str, width: int, right: bool = False, keep: str = "") -> str:
    """``text`` in exactly ``width`` terminal columns: cut with `…`, or padded with spaces.

    A wide character (two columns) is never cut in half; combining marks stay with their letter. The ending ``keep`` is
    kept if it and one character before it fit.
    """
    wide = cell_len(text)
    if wide > width and keep and text.endswith(keep) and width >= cell_len(keep) + 2:
        return fit(text.removesuffix(keep), width - cell_len(keep)) + keep
    if wide > width:
        kept, wide = "", 0
        for start, end, size in split_graphemes(text)[0]:
            if wide + size > width - 1:
                break
            kept, wide = kept + text[start:end], wide + size
        text, wide = (kept + _ELLIPSIS, wide + 1) if width > 0 else ("", 0)
    fill = " " * (width - wide)
    return fill + text if right else text + fill


def cut(text: str, room: int) -> str:
    """``text`` in at most ``room`` terminal columns; a longer text ends with `…`."""
    return text if cell_len(text) <= room else fit(text, room)
