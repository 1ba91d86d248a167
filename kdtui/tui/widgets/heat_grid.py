"""A grid of values with a cursor: shade, number and mark in each field, the colour of its level behind none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from kdtui.tui.widgets.columns import fit

GAP = 2


@dataclass(frozen=True)
class Field:
    """One field of the grid; ``colour`` is a theme variable such as ``text-muted``, or a colour such as ``#56b4e9``."""

    text: str
    colour: str = ""


class HeatGrid(Widget, can_focus=True):
    """Displays fields below and beside their titles; those that do not fit are reached with the cursor."""

    DEFAULT_CSS = """
    HeatGrid { height: auto; max-height: 14; width: 1fr; padding: 0 1; text-wrap: nowrap; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1, 0)", show=False),
        Binding("down", "move(1, 0)", show=False),
        Binding("left", "move(0, -1)", show=False),
        Binding("right", "move(0, 1)", show=False),
    ]

    class Moved(Message):
        """Posted when the cursor moved to another field."""

        def __init__(self, row: int, column: int) -> None:
            self.row, self.column = row, column
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: tuple[str, ...] = ()
        self._columns: tuple[str, ...] = ()
        self._fields: tuple[tuple[Field, ...], ...] = ()
        self._cursor = (0, 0)
        self.display = False

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column of the field under the cursor."""
        return self._cursor

    def show(self, rows: Sequence[str], columns: Sequence[str], fields: Sequence[Sequence[Field]]) -> None:
        """Display these fields; the cursor stays in its field if that exists."""
        new = tuple(rows), tuple(columns), tuple(map(tuple, fields))
        if new == (self._rows, self._columns, self._fields):
            return
        layout = len(new[0]) != len(self._rows) or self.display != bool(rows)
        self._rows, self._columns, self._fields = new
        self._cursor = min(self._cursor[0], max(0, len(rows) - 1)), min(self._cursor[1], max(0, len(columns) - 1))
        self.display = bool(rows)
        self.refresh(layout=layout)

    def move_to(self, row: int, column: int) -> None:
        """Move the cursor to a field; it stays within the grid."""
        row, column = (max(0, min(most - 1, at)) for at, most in ((row, len(self._rows)), (column, len(self._columns))))
        if (row, column) != self._cursor:
            self._cursor = row, column
            self.refresh()
            self.post_message(self.Moved(row, column))

    def action_move(self, down: int, right: int) -> None:
        """Move the cursor by rows and columns."""
        self.move_to(self._cursor[0] + down, self._cursor[1] + right)

    def on_focus(self) -> None:
        """Redraw the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Redraw the cursor."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the clicked field."""
        place = event.get_content_offset(self)
        if place is None or place.y == 0:
            return
        first, widths = self._widths()
        x = first
        for column, size in enumerate(widths):
            x += GAP + size
            if place.x < x and place.x >= first:
                self.move_to(self._top() + place.y - 1, self._left(widths, first) + column)
                return

    def _widths(self) -> tuple[int, list[int]]:
        first = max((cell_len(row) for row in self._rows), default=0)
        fields = [[row[place].text for row in self._fields] for place in range(len(self._columns))]
        heads = zip(self._columns, fields, strict=True)
        return first, [max(cell_len(text) for text in (head, *texts)) for head, texts in heads]

    def _top(self) -> int:
        """The first displayed row."""
        room = max(1, self.content_size.height - 1)
        return max(0, min(self._cursor[0] - room + 1, len(self._rows) - room))

    def _left(self, widths: Sequence[int], first: int) -> int:
        """The first displayed column."""
        room, left = self.content_size.width - first, self._cursor[1]
        used = GAP + widths[left] if widths else 0
        if not widths or sum(GAP + size for size in widths) <= room:
            return 0
        while left and used + GAP + widths[left - 1] <= room:
            left -= 1
            used += GAP + widths[left]
        return left

    def render(self) -> Content:
        """Render the titles and the fields."""
        first, widths = self._widths()
        top, left = self._top(), self._left(widths, first)
        gap = " " * GAP
        shown = range(left, len(widths))
        head = fit("", first) + "".join(gap + fit(self._columns[place], widths[place]) for place in shown)
        lines = [Content.styled(head, "$text-muted")]
        for row in range(top, len(self._rows)):
            parts: list[Content | tuple[str, str] | str] = [fit(self._rows[row], first)]
            for place in shown:
                field = self._fields[row][place]
                here = (row, place) == self._cursor
                style = f"${field.colour}" if field.colour and not field.colour.startswith("#") else field.colour
                style = (
                    f"{style} reverse".strip() if here and self.has_focus else f"{style} underline" if here else style
                )
                parts += [gap, (fit(field.text, widths[place]), style)]
            lines.append(Content.assemble(*parts))
        return Content("\n").join(lines)
