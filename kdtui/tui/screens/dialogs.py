"""Dialogs: a confirmation, a text prompt, the help screen, and the notice of a terminal that is too small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Key
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Input, Static

from kdtui.errors import KdtuiError
from kdtui.store.state import State
from kdtui.text import clean
from kdtui.tui.keys import SCOPES, keys_of
from kdtui.tui.screens.base import Dialog
from kdtui.tui.widgets.choices import LineInput


class Confirm(Dialog[bool]):
    """A confirmation: `y` is yes; `n`, enter and escape are no.

    Args:
        question: The action to confirm.
        detail: Its consequences; control characters are removed.
        command: The equivalent command line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,enter,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, detail: str = "", command: str = "") -> None:
        super().__init__()
        self._question, self._detail, self._command = question, detail, command

    def compose(self) -> ComposeResult:
        """Compose question, detail and keys."""
        with Vertical(classes="dialog"):
            yield Static(clean(self._question), markup=False, classes="title")
            if self._detail:
                yield Static(clean(self._detail), markup=False)
            if self._command:
                yield Static(clean(self._command), markup=False, classes="muted")
            yield Static("y yes   n or enter no", markup=False, classes="title")

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.answer(yes)


class Prompt(Dialog[str | None]):
    """A prompt for a text; the result is None if it was cancelled.

    Args:
        title: What to enter.
        value: The initial text.
        detail: What is allowed.
        check: Raises a :class:`KdtuiError` for an invalid text; its message is displayed below the input.
        command: The equivalent command line.
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
        """Compose title, input and error message."""
        with Vertical(classes="dialog"):
            yield Static(clean(self._title), markup=False, classes="title")
            if self._detail:
                yield Static(clean(self._detail), markup=False, classes="muted")
            yield LineInput(clean(self._value), id="answer")
            yield Static("", markup=False, id="mistake")
            if self._command:
                yield Static(clean(self._command), markup=False, classes="muted")
            yield Static("enter accepts   esc cancels", markup=False, classes="title")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Display the error message of the current text."""
        self.query_one("#mistake", Static).update(clean(self._mistake(event.value)))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the text, if it is valid."""
        event.stop()
        if not self._mistake(event.value):
            self.answer(event.value)

    def action_leave(self) -> None:
        """Close without a text."""
        self.answer(None)

    def _mistake(self, text: str) -> str:
        if self._check is None:
            return ""
        try:
            self._check(text)
        except KdtuiError as error:
            return error.message
        return ""


class SplitChoice(Dialog[str | None]):
    """A choice of the split by a letter; the result is None if it was cancelled.

    Args:
        title: What is done with it.
        words: Description of each split, by its name.
        command: The equivalent command line, with SPLIT for the split.
    """

    LETTERS: ClassVar[Mapping[str, str]] = {"val": "v", "test": "t", "train": "r"}
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "answer('')", "Leave")]

    def __init__(self, title: str, words: Mapping[str, str], command: str) -> None:
        super().__init__()
        self._title, self._words, self._command = title, words, command

    def compose(self) -> ComposeResult:
        """Compose the splits and their keys."""
        with Vertical(classes="dialog"):
            yield Static(self._title, markup=False, classes="title")
            for split, words in self._words.items():
                yield Static(f"  {self.LETTERS[split]}  {split:<6} {words}", markup=False)
            yield Static(clean(self._command), markup=False, classes="muted")
            yield Static("a letter chooses   esc cancels", classes="title")

    def on_key(self, event: Key) -> None:
        """Choose the split with the typed letter."""
        split = next((split for split in self._words if self.LETTERS[split] == event.key), None)
        if split is not None:
            event.stop()
            self.answer(split)

    def action_answer(self, split: str) -> None:
        """Close without a choice."""
        self.answer(split or None)


class HelpScreen(Dialog[None]):
    """The key table, with the keys of the current screen first.

    Args:
        scopes: Scopes of the current screen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1", "leave", "Back")]

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__()
        self._scopes = tuple(dict.fromkeys((*scopes, "app", *SCOPES)))

    def compose(self) -> ComposeResult:
        """Compose one block per scope."""
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
        """Close the screen."""
        self.answer(None)


class TooSmall(Screen[None]):
    """Displays that the terminal is too small; the app removes it when the terminal is large enough."""

    WIDTH = 80
    HEIGHT = 24
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "app.quit", "Leave")]

    def compose(self) -> ComposeResult:
        """Compose the message."""
        yield Static("", markup=False)

    @classmethod
    def fits(cls, size: Size) -> bool:
        """Whether a terminal of this size is large enough."""
        return size.width >= cls.WIDTH and size.height >= cls.HEIGHT

    def on_screen_resume(self) -> None:
        """Close, if the terminal was enlarged while another screen was above."""
        if self.fits(self.app.size) and self.app.screen is self:
            self.dismiss(None)

    def on_resize(self) -> None:
        """Display the current size."""
        size = self.app.size
        text = f"kdtui needs {self.WIDTH}x{self.HEIGHT}; this terminal has {size.width}x{size.height}."
        self.query_one(Static).update(f"{text}\nEnlarge it, or press q to quit.")
