"""Dialogs: a question, a line to type, the help, and the notice of a terminal that is too small."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Input, Static

from kdtui.errors import KdtuiError
from kdtui.store.state import State
from kdtui.text import clean
from kdtui.tui.keys import SCOPES, keys_of
from kdtui.tui.screens.base import Dialog
from kdtui.tui.widgets.choices import Entry


class Confirm(Dialog[bool]):
    """Asks; `y` is yes, everything else no.

    Args:
        question: What is about to happen.
        detail: What it means for whom; foreign text is fine.
        command: The command line's way to do the same.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, detail: str = "", command: str = "") -> None:
        super().__init__()
        self._question, self._detail, self._command = question, detail, command

    def compose(self) -> ComposeResult:
        """Question, detail, keys."""
        with Vertical(classes="dialog"):
            yield Static(clean(self._question), markup=False, classes="title")
            if self._detail:
                yield Static(clean(self._detail), markup=False)
            if self._command:
                yield Static(clean(self._command), markup=False, classes="muted")
            yield Static("y yes   n no", markup=False, classes="title")

    def action_answer(self, yes: bool) -> None:
        """Go back with the answer."""
        self.answer(yes)


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


class HelpScreen(Dialog[None]):
    """The key table, the screen in front first.

    Args:
        scopes: Of the screen that is in front.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1", "leave", "Back")]

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__()
        self._scopes = tuple(dict.fromkeys((*scopes, "app", *SCOPES)))

    def compose(self) -> ComposeResult:
        """A block per scope."""
        with VerticalScroll(classes="help"):
            yield Static("Keys of this screen first; esc goes back.", markup=False, classes="muted")
            for scope in self._scopes:
                keys = keys_of(scope)
                if not keys:
                    continue
                yield Static(SCOPES[scope], markup=False, classes="title")
                lines = []
                for key in keys:
                    lines.append(f"  {key.shown:<5} {key.help}")
                    if key.command:
                        lines.append(f"        {key.command}")
                yield Static("\n".join(lines), markup=False)
            yield Static("States", markup=False, classes="title")
            yield Static("\n".join(f"  {s.glyph:<5} {s.word.capitalize()}" for s in State), markup=False)

    def action_leave(self) -> None:
        """Back."""
        self.answer(None)


class TooSmall(Screen[None]):
    """Says that the terminal is too small; the app takes it away when it is not any more."""

    WIDTH = 80
    HEIGHT = 24
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "app.quit", "Leave")]

    def compose(self) -> ComposeResult:
        """One sentence."""
        yield Static("", markup=False)

    @classmethod
    def fits(cls, size: Size) -> bool:
        """Whether a terminal of this size has room for the cockpit."""
        return size.width >= cls.WIDTH and size.height >= cls.HEIGHT

    def on_screen_resume(self) -> None:
        """Go, if the terminal was enlarged while something lay over this."""
        if self.fits(self.app.size) and self.app.screen is self:
            self.dismiss(None)

    def on_resize(self) -> None:
        """Say the size that it is now."""
        size = self.app.size
        text = (
            f"kdtui needs {self.WIDTH}x{self.HEIGHT}; this terminal has {size.width}x{size.height}.\nEnlarge it, or q."
        )
        self.query_one(Static).update(text)
