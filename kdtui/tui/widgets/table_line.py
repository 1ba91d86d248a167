"""One line of a table: what it shows, where two of them differ, and its segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from kdtui.tui.widgets.columns import Cell, Column, Slot, fit

GUTTER = 2
"""Terminal columns left of the first column: the cursor's sign and the mark's letter."""


class TableLine(NamedTuple):
    """What one line of the screen shows."""

    under_cursor: bool
    gutter: Cell
    cells: tuple[Cell, ...]


def difference(
    old: TableLine | None, new: TableLine | None, slots: Sequence[Slot], room: int
) -> tuple[int, int] | None:
    """First and last (exclusive) terminal column in which two lines differ; None when they look the same."""
    if old == new:
        return None
    if old is None or new is None or old.under_cursor != new.under_cursor:
        return 0, room
    spans = [(0, GUTTER)] if old.gutter != new.gutter else []
    spans += [(slot.x, slot.x + slot.width) for slot in slots if old.cells[slot.column] != new.cells[slot.column]]
    return (spans[0][0], spans[-1][1]) if spans else None


def header(columns: Sequence[Column], slots: Sequence[Slot], sorted_by: str | None, *, descending: bool) -> TableLine:
    """The line of titles. An arrow takes the end of a title that fills its column: sorting moves no column."""
    cells = [Cell(column.title) for column in columns]
    for slot in slots:
        title = columns[slot.column].title
        if columns[slot.column].key == sorted_by:
            text = fit(title, max(0, min(cell_len(title), slot.width - 1))) + ("▼" if descending else "▲")
            cells[slot.column] = Cell(text)
    return TableLine(False, Cell(""), tuple(cells))


def strip(
    line: TableLine,
    columns: Sequence[Column],
    slots: Sequence[Slot],
    room: int,
    style: Callable[[str], Style],
    over: Style | None = None,
) -> Strip:
    """The line in ``room`` terminal columns.

    Neighbours of one style become one segment: a change of style costs some 40 bytes of terminal output.

    Args:
        line: What to show.
        columns: All columns.
        slots: The shown ones.
        room: Terminal columns.
        style: The style of a cell's style name.
        over: Takes the place of all cells' styles.
    """
    pieces = [(Slot(-1, 0, min(GUTTER, room)), line.gutter), *((slot, line.cells[slot.column]) for slot in slots)]
    ends = [*(slot.x for slot in slots), room]
    texts: list[tuple[str, Style]] = []
    for (slot, cell), end in zip(pieces, ends, strict=True):
        right = slot.column >= 0 and columns[slot.column].right
        text = fit(cell.text, slot.width, right, cell.keep) + " " * (end - slot.x - slot.width)
        own = style(cell.style) if over is None else over
        if texts and (texts[-1][1] == own or not text.strip()):
            texts[-1] = (texts[-1][0] + text, texts[-1][1])
        else:
            texts.append((text, own))
    return Strip([Segment(text, own) for text, own in texts], room)
