"""A table of any length: only what is seen is formatted, and only cells that differ are written.

It knows keys, columns and cells, nothing of what they stand for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip

from kdtui.tui.widgets.columns import GAP, Cell, Column, Slot, fit, lay_out, plain
from kdtui.tui.widgets.table_cursor import CursorView
from kdtui.tui.widgets.table_line import GUTTER, TableLine, difference, header, strip

__all__ = ["Cell", "Column", "Table"]

_HEADER = Style(bold=True)
_MARK = "*"
"""Of a marked row that the owner gave no letter."""


class Table(CursorView):
    """Rows under a header that stays; one row has the cursor, any may be marked.

    Args:
        columns: From left to right. A first column of one letter stands close to the cursor's sign and the mark.
        cells: The cells of a key's row, one per column; asked for rows that are seen only.
        empty: Shown in the place of rows when there are none.
    """

    DEFAULT_CSS = """
    Table { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    Table > .table--cursor { text-style: bold reverse; }
    Table > .table--blurred { text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--cursor", "table--blurred"}

    class FromTable(Message):
        """A message of ``table``."""

        def __init__(self, table: Table) -> None:
            self.table = table
            super().__init__()

        @property
        def control(self) -> Table:
            """The table that it came from."""
            return self.table

    class Moved(FromTable):
        """The cursor stands on another key; None when there is no row left."""

        def __init__(self, table: Table, key: str | None) -> None:
            super().__init__(table)
            self.key = key

    class Opened(FromTable):
        """A row was chosen: enter, or a double click."""

        def __init__(self, table: Table, key: str) -> None:
            super().__init__(table)
            self.key = key

    class Marked(FromTable):
        """A row was marked or unmarked by hand; ``keys`` are all that are marked now."""

        def __init__(self, table: Table, keys: frozenset[str]) -> None:
            super().__init__(table)
            self.keys = keys

    class HeaderClicked(FromTable):
        """A column's title was clicked."""

        def __init__(self, table: Table, column_key: str) -> None:
            super().__init__(table)
            self.column_key = column_key

    def __init__(
        self, columns: Sequence[Column], cells: Callable[[str], Sequence[Cell]], *, empty: str = "", **kw: Any
    ) -> None:
        super().__init__(**kw)
        self._columns = tuple(columns)
        self._cells = cells
        self._empty = empty
        self._marks: frozenset[str] = frozenset()
        self._letters: Mapping[str, str | Cell] = {}
        self._sorted: tuple[str | None, bool] = (None, False)
        self._rows: dict[str, tuple[Cell, ...]] = {}  # formatted rows that are seen, or were lately
        self._lines: dict[int, TableLine] = {}  # what each line of the screen shows, from 1: line 0 is the header
        self._wanted: list[int] = []
        self._slots: tuple[Slot, ...] = ()
        self._colours: dict[str, Style] = {}
        self._shown_size = Size(0, 0)

    # what the owner says

    def show(self, keys: Sequence[str], changed: Iterable[str] | None = None) -> None:
        """Show rows in this order.

        The cursor stays on its key; if that is gone, it goes to the next row that is still there. Cells that look as
        before are not written again.

        Args:
            keys: All rows, no key twice.
            changed: Keys whose cells may be other than before; None for any.
        """
        if changed is None:
            self._rows.clear()
        else:
            for key in changed:
                self._rows.pop(key, None)
        before, order = self.cursor_key, list(keys)
        if order != self._keys:
            self._reorder(order)
        self._update()
        if self.cursor_key != before:
            self._tell_moved()

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Have other columns; nothing is asked for before the next :meth:`show`, which follows at once."""
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self._rows.clear()
            self._lines, self._wanted, self._slots = {}, [], ()

    @property
    def empty(self) -> str:
        """Shown when there are no rows."""
        return self._empty

    @empty.setter
    def empty(self, text: str) -> None:
        if text != self._empty:
            self._empty = text
            if not self._keys:
                self.refresh()

    @property
    def marks(self) -> frozenset[str]:
        """The marked keys, shown or not."""
        return self._marks

    @marks.setter
    def marks(self, keys: Iterable[str]) -> None:
        self._marks = frozenset(keys)
        self._update()

    @property
    def letters(self) -> Mapping[str, str | Cell]:
        """One letter for each marked key; a cell when it has a colour of its own."""
        return self._letters

    @letters.setter
    def letters(self, letters: Mapping[str, str | Cell]) -> None:
        self._letters = dict(letters)
        self._update()

    def set_sorted(self, column_key: str | None, descending: bool) -> None:
        """Say in the header which column the order follows; the order itself is the owner's."""
        if (column_key, descending) != self._sorted:
            self._sorted = (column_key, descending)
            self.refresh(Region(0, 0, self.size.width, 1))

    # what the person does

    def action_toggle_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away."""
        if self.cursor_key is not None:
            self.marks = self._marks ^ {self.cursor_key}
            self.post_message(self.Marked(self, self._marks))

    def action_open(self) -> None:
        """Choose the row under the cursor."""
        if self.cursor_key is not None:
            self.post_message(self.Opened(self, self.cursor_key))

    def on_click(self, event: events.Click) -> None:
        """A row takes the cursor, a second click opens it; a title is told to the owner."""
        place = event.get_content_offset(self)
        if place is None or event.button != 1:
            return
        event.stop()
        if place.y == 0:
            slot = next((slot for slot in self._slots if slot.x <= place.x < slot.x + slot.width + GAP), None)
            if slot is not None:
                self.post_message(self.HeaderClicked(self, self._columns[slot.column].key))
        elif place.y in self._lines:
            index = self.scroll_offset.y + place.y - 1
            again = index == self._cursor
            self._go(index)
            if again and event.chain == 2:
                self.action_open()

    # where the rows are

    def _tell_moved(self) -> None:
        self.post_message(self.Moved(self, self.cursor_key))

    def on_resize(self) -> None:
        """Widths are laid out anew from what is seen; a cursor that was in sight stays in sight."""
        was_seen = 0 <= self._cursor - self.scroll_offset.y < max(1, self._shown_size.height - 1)
        self._wanted = []
        if was_seen:
            self._into_sight()
        self._update()

    def notify_style_update(self) -> None:
        """The theme or the focus is other."""
        self._colours.clear()
        super().notify_style_update()

    # what the lines show

    def _line(self, index: int) -> TableLine:
        key = self._keys[index]
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = tuple(plain(cell) for cell in self._cells(key))
        here = index == self._cursor
        letter = self._letters.get(key, _MARK) if key in self._marks else " "
        mark = letter if isinstance(letter, Cell) else Cell(letter, "accent")
        return TableLine(here, plain(Cell((">" if here else " ") + mark.text[:1], mark.style)), row)

    def _update(self) -> None:
        """Bring the lines up to date and have those parts written that look different."""
        room = self.scrollable_content_region.size
        if not self.is_mounted or not room:
            return
        top = self.scroll_offset.y
        seen = range(top, min(top + room.height - 1, len(self._keys)))
        before, self._lines = self._lines, {index - top + 1: self._line(index) for index in seen}
        if len(self._rows) > 4 * room.height + 64:
            near = {self._keys[index] for index in seen}
            self._rows = {key: row for key, row in self._rows.items() if key in near}
        if self._lay_out(room.width) or room != self._shown_size:
            self._shown_size = room
            self.refresh()
            return
        for y in range(1, room.height):
            if span := difference(before.get(y), self._lines.get(y), self._slots, room.width):
                self.refresh(Region(span[0], y, span[1] - span[0], 1))

    def _lay_out(self, room: int) -> bool:
        """Whether a column stands elsewhere now. Widths only grow, so that numbers do not push each other about."""
        wanted = self._wanted or [column.bounded(cell_len(column.title)) for column in self._columns]
        for line in self._lines.values():
            for index, cell in enumerate(line.cells):
                wanted[index] = max(wanted[index], cell_len(cell.text))
        self._wanted = wanted
        close = bool(self._columns) and self._columns[0].maximum == 1
        slots = lay_out(self._columns, wanted, room, start=GUTTER if close else GUTTER + GAP)
        moved, self._slots = slots != self._slots, slots
        return moved

    # drawing

    def render_line(self, y: int) -> Strip:
        """The header, a row, or a line of the text for an empty table."""
        room = self.scrollable_content_region.width
        over = None
        line = self._lines.get(y)
        if y == 0:
            line = header(self._columns, self._slots, self._sorted[0], descending=self._sorted[1])
            over = self._style("text-muted") + _HEADER
        elif line is not None and line.under_cursor:
            over = self._component("table--cursor" if self.has_focus else "table--blurred")
        elif line is None:
            return Strip([Segment(fit(self._instead_of_row(y - 2, room), room), self._style("text-muted"))], room)
        return strip(line, self._columns, self._slots, room, self._style, over)

    def _instead_of_row(self, index: int, room: int) -> str:
        if self._keys or index < 0:
            return ""
        lines = [part for text in self._empty.split("\n") for part in textwrap.wrap(text, max(1, room - 2)) or [""]]
        return f" {plain(Cell(lines[index])).text}" if index < len(lines) else ""

    def _component(self, name: str) -> Style:
        return self.rich_style + self.get_component_rich_style(name, partial=True)

    def _style(self, variable: str) -> Style:
        """The table's style in a theme variable's colour.

        Raises:
            KeyError: The theme has no such variable.
        """
        known = self._colours.get(variable)
        if known is None:
            known = self.rich_style
            if variable:
                name = variable if variable.startswith("#") else self.app.theme_variables[variable]
                known += Style(color=_over(self.background_colors[1], name).rich_color)
            self._colours[variable] = known
        return known


def _over(ground: Color, name: str) -> Color:
    """A theme's colour as it looks on a ground; `auto 60%` is black or white, whichever is read better there."""
    if name.startswith("ansi"):  # the terminal's own colours cannot be mixed
        return Color.parse(name.split()[0])
    if not name.startswith("auto"):
        return ground + Color.parse(name)
    share = name.removeprefix("auto").strip().rstrip("%")
    return ground + ground.get_contrast_text(float(share) / 100 if share else 1.0)
