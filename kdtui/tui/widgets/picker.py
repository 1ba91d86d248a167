"""A list that is searched by typing: letters go to the search line, arrows to the list, enter picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from kdtui.tui.widgets.choices import Entry
from kdtui.tui.widgets.table import Cell, Column, Table

CHOSEN = "●"
"""Stands before the row that was picked."""


class Picker(Vertical):
    """A search line above a table; the focus stays in the line.

    Args:
        columns: Of the table.
        cells: The cells of a key's row.
        find: Keys that fit a typed text, in order; None where that takes a while: then the owner shows them.
        placeholder: Stands in the empty search line.
        empty: Shown when nothing fits.
    """

    DEFAULT_CSS = """
    Picker { height: auto; width: 1fr; }
    Picker > Table { height: 8; }
    Picker > Table.-led > .table--blurred { text-style: bold reverse; }
    """

    class _Message(Message):
        def __init__(self, picker: Picker) -> None:
            self.picker = picker
            super().__init__()

        @property
        def control(self) -> Picker:
            """The picker that it came from."""
            return self.picker

    class Moved(_Message):
        """The cursor stands on another key; None when there is none."""

        def __init__(self, picker: Picker, key: str | None) -> None:
            super().__init__(picker)
            self.key = key

    class Picked(_Message):
        """A row was picked: enter, or a double click."""

        def __init__(self, picker: Picker, key: str) -> None:
            super().__init__(picker)
            self.key = key

    class Typed(_Message):
        """Another text stands in the search line."""

        def __init__(self, picker: Picker, text: str) -> None:
            super().__init__(picker)
            self.text = text

    class Entered(_Message):
        """Enter was pressed where no row fits the text, or where it is not known yet which do."""

        def __init__(self, picker: Picker, text: str) -> None:
            super().__init__(picker)
            self.text = text

    def __init__(
        self,
        columns: Sequence[Column],
        cells: Callable[[str], Sequence[Cell]],
        *,
        find: Callable[[str], Sequence[str] | None],
        placeholder: str = "",
        empty: str = "",
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._find = find
        self._shown_for: str | None = None
        self._entry = Entry(placeholder=placeholder)
        self._table = Table(columns, cells, empty=empty)
        # One stop for the tab key; the table is led by the line.
        self._table.can_focus = False

    def compose(self) -> ComposeResult:
        """Line above table."""
        yield self._entry
        yield self._table

    def on_mount(self) -> None:
        """All rows to begin with."""
        self.search()

    @property
    def text(self) -> str:
        """What is typed."""
        return self._entry.value

    @text.setter
    def text(self, text: str) -> None:
        self._entry.value = text
        self._entry.cursor_position = len(text)

    @property
    def cursor_key(self) -> str | None:
        """Key of the row under the cursor."""
        return self._table.cursor_key

    @property
    def empty(self) -> str:
        """Shown when nothing fits."""
        return self._table.empty

    @empty.setter
    def empty(self, text: str) -> None:
        self._table.empty = text

    def show(self, keys: Sequence[str]) -> None:
        """Show the rows that fit the text, all of whose cells may be other than before."""
        self._shown_for = self.text
        self._table.show(keys)

    def search(self) -> None:
        """Find again what fits the text, because there is something else to find."""
        keys = self._find(self.text)
        if keys is not None:
            self.show(keys)

    def choose(self, key: str | None) -> None:
        """Mark a row as the picked one; the cursor goes to it."""
        self._table.letters = {} if key is None else {key: CHOSEN}
        self._table.marks = frozenset() if key is None else {key}
        if key is not None:
            self._table.move_to(key)

    def move_to(self, key: str) -> None:
        """Put the cursor on a row."""
        self._table.move_to(key)

    def leave(self) -> None:
        """Put the search away: every row again."""
        self.text = ""

    def on_key(self, event: Key) -> None:
        """Move the list's cursor. No bindings: those go where the focus is once somebody typed on."""
        move = {
            "up": self._table.action_cursor_up,
            "down": self._table.action_cursor_down,
            "pageup": self._table.action_page_up,
            "pagedown": self._table.action_page_down,
            "ctrl+home": self._table.action_home,
            "ctrl+end": self._table.action_end,
        }.get(event.key)
        if move is not None:
            event.stop()
            move()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter."""
        event.stop()
        self.search()
        self.post_message(self.Typed(self, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Pick."""
        event.stop()
        key = self.cursor_key if self._shown_for == self.text else None
        self.post_message(self.Entered(self, self.text) if key is None else self.Picked(self, key))

    def on_table_moved(self, event: Table.Moved) -> None:
        """Tell the owner."""
        event.stop()
        self.post_message(self.Moved(self, event.key))

    def on_table_opened(self, event: Table.Opened) -> None:
        """A double click picks."""
        event.stop()
        self.post_message(self.Picked(self, event.key))

    def on_table_header_clicked(self, event: Table.HeaderClicked) -> None:
        """The order is the owner's; a click on a title goes no further."""
        event.stop()

    def on_descendant_focus(self) -> None:
        """The list shows that the keys are its own; `:focus-within` would not reach its rows."""
        self._table.add_class("-led")

    def on_descendant_blur(self) -> None:
        """And that they are not."""
        self._table.remove_class("-led")

    def on_mouse_down(self) -> None:
        """Whoever clicks a row goes on with keys."""
        if not self._entry.has_focus:
            self._entry.focus()
