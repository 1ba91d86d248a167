"""One line asked for: epochs, a note, a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from kdtui.errors import KdtuiError
from kdtui.text import clean
from kdtui.tui.screens.dialog import Dialog
from kdtui.tui.widgets.entry import Entry


class Prompt(Dialog[str | None]):
    """Asks for a text; None when the person left without one.

    Args:
        title: What is asked for.
        value: What stands there at first.
        detail: What is allowed.
        check: Raises a :class:`KdtuiError` for a text that will not do; its message stays below the line.
        command: The command line's way to do the same.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]

    def __init__(
        self,
        title: str,
        value: str = "",
        *,
        detail: str = "",
        check: Callable[[str], object] | None = None,
        command: str = "",
    ) -> None:
        super().__init__()
        self._title, self._value, self._detail, self._check, self._command = title, value, detail, check, command

    def compose(self) -> ComposeResult:
        """Title, line, what is wrong with it."""
        with Vertical(classes="dialog"):
            yield Static(clean(self._title), markup=False, classes="title")
            if self._detail:
                yield Static(clean(self._detail), markup=False, classes="muted")
            yield Entry(clean(self._value), id="answer")
            yield Static("", markup=False, id="mistake")
            if self._command:
                yield Static(clean(self._command), markup=False, classes="muted")
            yield Static("enter takes it   esc goes back", markup=False, classes="title")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong."""
        self.query_one("#mistake", Static).update(clean(self._mistake(event.value)))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go back with the text, if it will do."""
        event.stop()
        if not self._mistake(event.value):
            self.answer(event.value)

    def action_leave(self) -> None:
        """Go back without."""
        self.answer(None)

    def _mistake(self, text: str) -> str:
        if self._check is None:
            return ""
        try:
            self._check(text)
        except KdtuiError as error:
            return error.message
        return ""
