"""One line to type in: one row high, and nothing blinks, because a blinking cursor writes 2.6 KB a second."""

from __future__ import annotations

from typing import Any

from textual.events import Key
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widgets import Input


class Entry(Input):
    """A borderless input of one row.

    Args:
        placeholder: Stands there, dimmed, while nothing is typed.
        options: As :class:`textual.widgets.Input` has them.
    """

    DEFAULT_CSS = """
    Entry { height: 1; border: none; padding: 0 1; background: $surface; }
    Entry:focus { border: none; background: $panel; }
    Entry.-invalid, Entry.-invalid:focus { border: none; }
    """
    # Textual lays out the whole screen when this changes, 10 ms a key; an entry is as wide as its container.
    virtual_size = Reactive(Size(0, 0))

    def __init__(self, value: str = "", *, placeholder: str = "", **options: Any) -> None:
        super().__init__(value, placeholder=placeholder, **options)
        self.cursor_blink = False

    async def on_key(self, event: Key) -> None:
        """Take enter here: a binding goes where the focus is by then, and who types fast is elsewhere already."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            await self.action_submit()

    def put(self, value: str) -> None:
        """Show another text without telling anybody: whoever calls this knows it already."""
        if value != self.value:
            with self.prevent(Input.Changed):
                self.value = value
