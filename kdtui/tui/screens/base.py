"""What every screen has: header, body, status line, key bar; and dialogs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widget import Widget

from kdtui.tui.cockpit import Cockpit
from kdtui.tui.compositor import NarrowCompositor
from kdtui.tui.keys import bar
from kdtui.tui.widgets.line import KeyBar, Line, Part


class CockpitScreen(Screen[None]):
    """Base of the screens; a subclass says its scopes and its body.

    Attributes:
        SCOPES: Scopes of the key table whose keys work here; the key bar shows their labelled keys.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._compositor = NarrowCompositor()

    @property
    def cockpit(self) -> Cockpit:
        """The app, with what it offers to screens."""
        return cast(Cockpit, self.app)

    @property
    def ready(self) -> bool:
        """Whether its widgets are there: neither still being made, nor going behind a key typed in a hurry."""
        # The key bar is made last, and goes with the others: an app that ends empties its screens where they are.
        return self.is_mounted and self in self.app.screen_stack and bool(self.query("#keys"))

    def leave(self) -> None:
        """Go back to the screen before, unless a key typed before has done so already."""
        if self.app.screen is self:
            self.cockpit.say("")  # it was about this screen
            self.app.pop_screen()

    def compose(self) -> ComposeResult:
        """Header, body, status line and key bar."""
        yield Line(id="header")
        yield from self.body()
        yield Line(firm="left", id="status")
        yield KeyBar(self.bar_keys(), id="keys")

    def body(self) -> Iterable[Widget]:
        """The widgets between header and status line."""
        return ()

    def bar_keys(self) -> list[tuple[str, str, str]]:
        """``(shown, label, action)`` of the keys in the bar; the app's own keys come last."""
        own = [(key.shown, key.label, key.action) for key in bar(self.SCOPES) if key.scope != "app"]
        return own + [(key.shown, key.label, f"app.{key.action}") for key in bar(("app",))]

    def board_changed(self, ids: frozenset[str]) -> None:
        """Rows of these runs are other now; an empty set says that any may be."""

    def history_changed(self, run_id: str) -> None:
        """The history of a followed run grew, or was replaced."""

    def measured(self) -> None:
        """Runs were measured: their ``measurements.json`` says something else."""

    def on_screen_resume(self) -> None:
        """Show what happened while another screen was in front."""
        self.cockpit.show_header()
        self.say(*self.cockpit.said)
        self.board_changed(frozenset())

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """One sentence in the status line, and the command line's way to do the same."""
        if not self.ready:
            return
        # A screen that is being taken down has lost its line already: a thread's last word may still come.
        for line in self.query("#status").results(Line):
            left = [Part(text, "error" if error else "")] if text else self.silence()
            line.show(left, [Part(f" {command}", "text-muted")] if command else [])

    def silence(self) -> Sequence[Part]:
        """What the status line says when nothing was said."""
        return ()

    def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        """A click in the key bar is the key."""
        self.run_worker(self.run_action(event.action), name="clicked key")


class Dialog(ModalScreen[ScreenResultType]):
    """A screen over another one that ends with an answer."""

    def answer(self, result: ScreenResultType) -> None:
        """End with ``result``; the second of two keys typed in a hurry answers nothing, and ends no other screen."""
        if self.app.screen is self:
            self.dismiss(result)
