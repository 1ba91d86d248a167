"""Every key and what it does, made from the key table; and what the glyphs of the states mean."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from kdtui.store.state import State
from kdtui.tui.keys import SCOPES, keys_of
from kdtui.tui.screens.dialog import Dialog


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
