"""A searchable list: text is typed into the search input, arrow keys move in the list, enter picks a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.choices import LineInput
from kdtui.tui.widgets.table import Table


def matching(text: str, about: Mapping[str, str]) -> list[str]:
    """Keys that begin with a text; without one, those with all of its words in the key or in what it is about."""
    words = text.lower().split()
    begin = [key for key in about if key.startswith(text.strip().lower())]
    return begin or [key for key in about if all(word in f"{key} {about[key]}".lower() for word in words)]


CHOSEN = "●"
"""Marks the row that was picked."""


class Picker(Vertical):
    """A search input above a table; the focus stays in the input.

    Args:
        columns: Columns of the table.
        cells: Function from the key of a row to its cells.
        find: Function from the typed text to the matching keys, in order; it returns None when the search takes time,
            and then the parent calls :meth:`show`.
        placeholder: Dimmed text in the empty search input.
        empty: Displayed when nothing matches.
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
            """The picker that posted the message."""
            return self.picker

    class Moved(_Message):
        """Posted when the cursor moved to another key; None when there are no rows."""

        def __init__(self, picker: Picker, key: str | None) -> None:
            super().__init__(picker)
            self.key = key

    class Picked(_Message):
        """Posted when a row was picked, by enter or a double click."""

        def __init__(self, picker: Picker, key: str) -> None:
            super().__init__(picker)
            self.key = key

    class Typed(_Message):
        """Posted when the typed text changed."""

        def __init__(self, picker: Picker, text: str) -> None:
            super().__init__(picker)
            self.text = text

    class Entered(_Message):
        """Posted when enter was pressed while no row matches the text, or while the search is still running."""

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
        self._entry = LineInput(placeholder=placeholder)
        self._table = Table(columns, cells, empty=empty)
        # One stop for the tab key: the keys of the input control the table.
        self._table.can_focus = False

    def compose(self) -> ComposeResult:
        """Compose the input and the table."""
        yield self._entry
        yield self._table

    def on_mount(self) -> None:
        """Display all rows."""
        self.search()

    @property
    def text(self) -> str:
        """The typed text."""
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
        """Displayed when nothing matches."""
        return self._table.empty

    @empty.setter
    def empty(self, text: str) -> None:
        self._table.empty = text

    def show(self, keys: Sequence[str]) -> None:
        """Display the rows that match the current text; all cells are formatted again."""
        self._shown_for = self.text
        self._table.show(keys)

    def search(self) -> None:
        """Repeat the search, for example after the searched list changed."""
        keys = self._find(self.text)
        if keys is not None:
            self.show(keys)

    def choose(self, key: str | None) -> None:
        """Mark a row as picked and move the cursor to it; None removes the mark."""
        self._table.letters = {} if key is None else {key: CHOSEN}
        self._table.marks = frozenset() if key is None else {key}
        if key is not None:
            self._table.move_to(key)

    def move_to(self, key: str) -> None:
        """Move the cursor to a row."""
        self._table.move_to(key)

    def leave(self) -> None:
        """Clear the search: all rows are displayed again."""
        self.text = ""

    def on_key(self, event: Key) -> None:
        """Move the cursor of the table.

        Not bindings: a binding acts on the widget that has focus when it runs, and fast typing may have moved the
        focus.
        """
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
        """Filter the rows."""
        event.stop()
        self.search()
        self.post_message(self.Typed(self, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Pick the row under the cursor."""
        event.stop()
        key = self.cursor_key if self._shown_for == self.text else None
        self.post_message(self.Entered(self, self.text) if key is None else self.Picked(self, key))

    def on_table_moved(self, event: Table.Moved) -> None:
        """Post the move as a message of the picker."""
        event.stop()
        self.post_message(self.Moved(self, event.key))

    def on_table_opened(self, event: Table.Opened) -> None:
        """Pick the row that was double-clicked."""
        event.stop()
        self.post_message(self.Picked(self, event.key))

    def on_table_header_clicked(self, event: Table.HeaderClicked) -> None:
        """Stop the message: sorting is up to the parent."""
        event.stop()

    def on_descendant_focus(self) -> None:
        """Display the table as focused; `:focus-within` does not apply to the style of its rows."""
        self._table.add_class("-led")

    def on_descendant_blur(self) -> None:
        """Display the table as not focused."""
        self._table.remove_class("-led")

    def on_mouse_down(self) -> None:
        """Focus the input, so that the keyboard works after a click on a row."""
        if not self._entry.has_focus:
            self._entry.focus()
