"""A table of any length: only visible rows are formatted, and only changed cells are redrawn.

It is generic: it handles keys, columns and cells, and does not depend on their meaning.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.columns import GAP, Slot, fit, lay_out, plain


class CursorView(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows identified by keys below a fixed header line; if there are rows, one of them has the cursor.

    Subclasses draw the rows; :meth:`_update` and :meth:`_tell_moved` are called when something changed.
    """

    # Movement only: actions on a row are bound by the screen, according to the key table.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, show=False)
        for key, action in (
            ("up", "cursor_up"),
            ("down", "cursor_down"),
            ("pageup", "page_up"),
            ("pagedown", "page_down"),
            ("home", "home"),
            ("end", "end"),
        )
    ]

    # Textual lays out the whole screen when this changes; only a scrollbar that appears or disappears requires that.
    virtual_size = Reactive(Size(0, 0))

    def __init__(self, **kw: Any) -> None:
        super().__init__(**kw)
        self._keys: list[str] = []
        self._cursor = -1

    def _update(self) -> None:
        """Redraw after the cursor, the order or the visible rows changed."""
        raise NotImplementedError

    def _tell_moved(self) -> None:
        """Post a message that the cursor moved to another key."""
        raise NotImplementedError

    @property
    def keys(self) -> Sequence[str]:
        """Keys of the rows, from the top."""
        return tuple(self._keys)

    @property
    def cursor_key(self) -> str | None:
        """Key of the row under the cursor; None without rows."""
        return self._keys[self._cursor] if self._cursor >= 0 else None

    def move_to(self, key: str) -> None:
        """Move the cursor to a key and scroll its row into view; an unknown key is ignored."""
        if key in self._keys:
            self._go(self._keys.index(key))

    # Actions of the user.

    def action_cursor_up(self) -> None:
        """Move one row up."""
        self._go(self._cursor - 1)

    def action_cursor_down(self) -> None:
        """Move one row down."""
        self._go(self._cursor + 1)

    def action_page_up(self) -> None:
        """Move one page up."""
        self._go(self._cursor - self._height)

    def action_page_down(self) -> None:
        """Move one page down."""
        self._go(self._cursor + self._height)

    def action_home(self) -> None:
        """Move to the first row."""
        self._go(0)

    def action_end(self) -> None:
        """Move to the last row."""
        self._go(len(self._keys) - 1)

    # Positions of the rows.

    @property
    def _height(self) -> int:
        """Number of visible rows."""
        return max(1, self.size.height - 1)

    def _reorder(self, keys: list[str]) -> None:
        old, key, on_screen = self._keys, self.cursor_key, self._cursor - self.scroll_offset.y
        self._keys = keys
        if not keys:
            self._cursor = -1
        elif key is None:
            self._cursor = 0
        else:
            here = set(keys)
            if key not in here:
                around = [*old[self._cursor + 1 :], *reversed(old[: self._cursor])]
                key = next((other for other in around if other in here), keys[0])
            self._cursor = keys.index(key)
        # A width of one column is never wider than the widget: there is no horizontal scrolling.
        self.virtual_size = Size(1, len(keys) + 1)
        if self.container_size:
            self._scroll_update(self.virtual_size)
        top = self.scroll_offset.y
        # At the top, new rows appear in place; farther down, the visible rows keep their position.
        self._scroll(self._cursor - on_screen if top and 0 <= on_screen < self._height else top)

    def _go(self, index: int) -> None:
        index = max(0, min(len(self._keys) - 1, index))
        if not self._keys or index == self._cursor:
            self._into_sight()
            return
        self._cursor = index
        self._into_sight()
        self._update()
        self._tell_moved()

    def _into_sight(self) -> None:
        top = self.scroll_offset.y
        self._scroll(max(min(top, self._cursor), self._cursor - self._height + 1))

    def _scroll(self, top: int) -> None:
        if self.size.height:
            self.scroll_to(y=max(0, min(top, len(self._keys) - self._height)), animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Lay out the columns for the newly visible rows before they are drawn."""
        self._update()
        super().watch_scroll_y(old_value, new_value)

    def watch_show_vertical_scrollbar(self) -> None:
        """Lay out the columns anew, and update a scrollbar that was hidden while scrolling."""
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.position = self.scroll_y
        self._update()


GUTTER = 2
"""Terminal columns left of the first column: the cursor symbol and the mark."""


class TableLine(NamedTuple):
    """Content of one line of the screen."""

    under_cursor: bool
    gutter: Cell
    cells: tuple[Cell, ...]


def difference(
    old: TableLine | None, new: TableLine | None, slots: Sequence[Slot], room: int
) -> tuple[int, int] | None:
    """First and last (exclusive) terminal column in which two lines differ; None if they look the same."""
    if old == new:
        return None
    if old is None or new is None or old.under_cursor != new.under_cursor:
        return 0, room
    spans = [(0, GUTTER)] if old.gutter != new.gutter else []
    spans += [(slot.x, slot.x + slot.width) for slot in slots if old.cells[slot.column] != new.cells[slot.column]]
    return (spans[0][0], spans[-1][1]) if spans else None


def header(columns: Sequence[Column], slots: Sequence[Slot], sorted_by: str | None, *, descending: bool) -> TableLine:
    """The line of titles. The sort arrow replaces the end of a title that fills its column: sorting moves no column."""
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

    Adjacent cells of one style become one segment: a change of style costs about 40 bytes of terminal output.

    Args:
        line: Content to display.
        columns: All columns.
        slots: Positions of the displayed columns.
        room: Terminal columns.
        style: Function from the style name of a cell to its style.
        over: Replaces the styles of all cells.
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


__all__ = ["Cell", "Column", "Table"]

_HEADER = Style(bold=True)
_MARK = "*"
"""Displayed for a marked row without a letter."""


class Table(CursorView):
    """Rows below a fixed header; one row has the cursor, any number may be marked.

    Args:
        columns: From left to right. A first column of width 1 has no gap to the cursor symbol and the mark.
        cells: Function from the key of a row to its cells, one per column; called for visible rows only.
        empty: Displayed instead of rows when there are none.
    """

    DEFAULT_CSS = """
    Table { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    Table > .table--cursor { text-style: bold reverse; }
    Table > .table--blurred { text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--cursor", "table--blurred"}

    class FromTable(Message):
        """Base of the messages of a table."""

        def __init__(self, table: Table) -> None:
            self.table = table
            super().__init__()

        @property
        def control(self) -> Table:
            """The table that posted the message."""
            return self.table

    class Moved(FromTable):
        """Posted when the cursor moved to another key; None when there are no rows."""

        def __init__(self, table: Table, key: str | None) -> None:
            super().__init__(table)
            self.key = key

    class Opened(FromTable):
        """Posted when a row was opened, by enter or a double click."""

        def __init__(self, table: Table, key: str) -> None:
            super().__init__(table)
            self.key = key

    class Marked(FromTable):
        """Posted when the user marked or unmarked a row; ``keys`` are all marked keys."""

        def __init__(self, table: Table, keys: frozenset[str]) -> None:
            super().__init__(table)
            self.keys = keys

    class HeaderClicked(FromTable):
        """Posted when the title of a column was clicked."""

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
        self._rows: dict[str, tuple[Cell, ...]] = {}  # formatted rows that are or recently were visible
        self._lines: dict[int, TableLine] = {}  # content of each line of the screen, from 1: line 0 is the header
        self._widths: list[int] = []
        self._slots: tuple[Slot, ...] = ()
        self._colours: dict[str, Style] = {}
        self._shown_size = Size(0, 0)

    # Methods and properties for the parent.

    def show(self, keys: Sequence[str], changed: Iterable[str] | None = None) -> None:
        """Display rows in this order.

        The cursor stays on its key; if that is gone, it moves to the next row that still exists. Unchanged cells are
        not redrawn.

        Args:
            keys: All rows, without duplicates.
            changed: Keys whose cells may have changed; None for all.
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
        """Replace the columns; call :meth:`show` immediately afterwards."""
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self._rows.clear()
            self._lines, self._widths, self._slots = {}, [], ()

    @property
    def empty(self) -> str:
        """Displayed when there are no rows."""
        return self._empty

    @empty.setter
    def empty(self, text: str) -> None:
        if text != self._empty:
            self._empty = text
            if not self._keys:
                self.refresh()

    @property
    def marks(self) -> frozenset[str]:
        """The marked keys, visible or not."""
        return self._marks

    @marks.setter
    def marks(self, keys: Iterable[str]) -> None:
        self._marks = frozenset(keys)
        self._update()

    @property
    def letters(self) -> Mapping[str, str | Cell]:
        """One letter for each marked key; a cell if it has its own colour."""
        return self._letters

    @letters.setter
    def letters(self, letters: Mapping[str, str | Cell]) -> None:
        self._letters = dict(letters)
        self._update()

    def set_sorted(self, column_key: str | None, descending: bool) -> None:
        """Mark the column by which the rows are sorted; sorting them is up to the parent."""
        if (column_key, descending) != self._sorted:
            self._sorted = (column_key, descending)
            self.refresh(Region(0, 0, self.size.width, 1))

    # Actions of the user.

    def action_toggle_mark(self) -> None:
        """Mark or unmark the row under the cursor."""
        if self.cursor_key is not None:
            self.marks = self._marks ^ {self.cursor_key}
            self.post_message(self.Marked(self, self._marks))

    def action_open(self) -> None:
        """Open the row under the cursor."""
        if self.cursor_key is not None:
            self.post_message(self.Opened(self, self.cursor_key))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the clicked row, open it on a double click, or post a click on a title."""
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

    # Positions of the rows.

    def _tell_moved(self) -> None:
        self.post_message(self.Moved(self, self.cursor_key))

    def on_resize(self) -> None:
        """Lay out the columns anew from the visible rows; a visible cursor stays visible."""
        was_seen = 0 <= self._cursor - self.scroll_offset.y < max(1, self._shown_size.height - 1)
        self._widths = []
        if was_seen:
            self._into_sight()
        self._update()

    def notify_style_update(self) -> None:
        """Discard cached colours after a change of theme or focus."""
        self._colours.clear()
        super().notify_style_update()

    # Content of the lines.

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
        """Update the lines and redraw the parts that changed."""
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
        """Lay out the columns; True if one moved. Widths only grow: changing numbers move no column."""
        widths = self._widths or [column.bounded(cell_len(column.title)) for column in self._columns]
        for line in self._lines.values():
            for index, cell in enumerate(line.cells):
                widths[index] = max(widths[index], cell_len(cell.text))
        self._widths = widths
        close = bool(self._columns) and self._columns[0].maximum == 1
        slots = lay_out(self._columns, widths, room, start=GUTTER if close else GUTTER + GAP)
        moved, self._slots = slots != self._slots, slots
        return moved

    # Rendering.

    def render_line(self, y: int) -> Strip:
        """Render the header, a row, or a line of the text of an empty table."""
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
        """The table's style in the colour of a theme variable.

        Raises:
            KeyError: The theme does not define the variable.
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
    """A theme colour blended with a background; `auto 60%` is black or white, whichever has more contrast."""
    if name.startswith("ansi"):  # the terminal's own colours cannot be blended
        return Color.parse(name.split()[0])
    if not name.startswith("auto"):
        return ground + Color.parse(name)
    share = name.removeprefix("auto").strip().rstrip("%")
    return ground + ground.get_contrast_text(float(share) / 100 if share else 1.0)
