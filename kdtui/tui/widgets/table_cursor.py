"""The cursor of a table: which row has it, and which rows are in sight because of it."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import Reactive
from textual.scroll_view import ScrollView


class CursorView(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows known by their keys, below one line that stays; one of them has the cursor, which is always a row's.

    What a row looks like is the subclass's: it is told when the cursor moved or other rows are seen.
    """

    # Moving about only: what is done to a row is bound by the screen, which has the key table.
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

    # Textual lays out the whole screen when this changes; only a scrollbar that comes or goes needs that.
    virtual_size = Reactive(Size(0, 0))

    def __init__(self, **kw: Any) -> None:
        super().__init__(**kw)
        self._keys: list[str] = []
        self._cursor = -1

    def _update(self) -> None:
        """Bring what is drawn up to date: the cursor, the order or the rows that are seen are other."""
        raise NotImplementedError

    def _tell_moved(self) -> None:
        """Tell the owner that the cursor stands on another key."""
        raise NotImplementedError

    @property
    def cursor_key(self) -> str | None:
        """Key of the row that has the cursor; None without rows."""
        return self._keys[self._cursor] if self._cursor >= 0 else None

    def move_to(self, key: str) -> None:
        """Put the cursor on a key and bring its row into sight; a key that is not shown leaves it where it is."""
        if key in self._keys:
            self._go(self._keys.index(key))

    # what the person does

    def action_cursor_up(self) -> None:
        """One row up."""
        self._go(self._cursor - 1)

    def action_cursor_down(self) -> None:
        """One row down."""
        self._go(self._cursor + 1)

    def action_page_up(self) -> None:
        """As many rows up as are seen."""
        self._go(self._cursor - self._height)

    def action_page_down(self) -> None:
        """As many rows down as are seen."""
        self._go(self._cursor + self._height)

    def action_home(self) -> None:
        """The first row."""
        self._go(0)

    def action_end(self) -> None:
        """The last row."""
        self._go(len(self._keys) - 1)

    # where the rows are

    @property
    def _height(self) -> int:
        """Rows that are seen at once."""
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
        # One narrow column is never wider than the widget: there is nothing to scroll to the right.
        self.virtual_size = Size(1, len(keys) + 1)
        if self.container_size:
            self._scroll_update(self.virtual_size)
        top = self.scroll_offset.y
        # At the very top new rows come in under the eyes; farther down what is read stays where it is.
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
        """Other rows are seen: columns get their widths before anything is drawn."""
        self._update()
        super().watch_scroll_y(old_value, new_value)

    def watch_show_vertical_scrollbar(self) -> None:
        """The bar takes a column, or gives it back; one that was hidden has heard of no scrolling."""
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.position = self.scroll_y
        self._update()
