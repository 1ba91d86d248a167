"""Cells and columns of a table: which column gets how much of the width, and texts cut to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from rich.cells import cell_len, split_graphemes

from kdtui.text import clean

GAP = 1
"""Terminal columns between two columns."""
_ELLIPSIS = "…"
# Terminals do not agree on how wide a letter with a variation selector is; without it they do.
_NO_SELECTORS = dict.fromkeys(range(0xFE00, 0xFE10))


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: May be foreign: control characters are taken out, markup is not read, a line break is a space.
        style: Name of a theme variable without `$`, such as `success` or `text-muted`, or a colour such as `#56b4e9`;
            empty for the table's own.
        keep: The end of the text that is still shown where the rest is cut; empty where the end goes first.
    """

    text: str
    style: str = ""
    keep: str = ""


@dataclass(frozen=True)
class Column:
    """One column; widths in terminal columns.

    Attributes:
        key: Its name in messages.
        title: Stands in the header.
        minimum: Least width; whether columns have to be dropped is decided by these alone.
        maximum: Most width; None for no limit.
        right: Aligned to the right, header included.
        drop: Columns with the highest number vanish first when the width does not suffice; 0 never vanishes.
        grow: Takes what the others leave.
    """

    key: str
    title: str
    minimum: int
    maximum: int | None = None
    right: bool = False
    drop: int = 0
    grow: bool = False

    def bounded(self, width: int) -> int:
        """``width`` within what this column may have."""
        wide = max(self.minimum, width)
        return wide if self.maximum is None else min(self.maximum, wide)


@dataclass(frozen=True)
class Slot:
    """Where a column stands: its index, its first terminal column, its width."""

    column: int
    x: int
    width: int


def lay_out(columns: Sequence[Column], wanted: Sequence[int], room: int, start: int = 0) -> tuple[Slot, ...]:
    """Places of the columns that are shown, from left to right.

    Args:
        columns: All columns.
        wanted: Width that the content of each would like; counts above its minimum.
        room: Terminal columns, from 0; none lies outside.
        start: First terminal column that is free.
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
            more = min(spare, columns[index].bounded(wanted[index]) - widths[index])
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
    """The cell with a text that a terminal shows in one line, obeys nothing of, and measures as we do."""
    text = cell.text
    if text.isascii() and text.isprintable():
        return cell
    one_line = clean(" ".join(text.split("\n")).replace("\t", " ")).translate(_NO_SELECTORS)
    return cell if one_line == text else replace(cell, text=one_line)


@lru_cache(4096)
def fit(text: str, width: int, right: bool = False, keep: str = "") -> str:
    """``text`` in exactly ``width`` terminal columns: cut with `…`, or filled with spaces.

    A letter of two columns that would be cut in half gives way as a whole; combining marks stay with their letter. The
    end ``keep`` stays where there is room for it and a letter of what comes before.
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
