"""A question before what cannot be undone."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from kdtui.text import clean
from kdtui.tui.screens.dialog import Dialog


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
