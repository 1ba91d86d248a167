"""Base classes of the screens (header, body, status line and key bar) and of the dialogs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widget import Widget

from kdtui.tui.cockpit import Cockpit
from kdtui.tui.compositor import NarrowCompositor
from kdtui.tui.keys import bar
from kdtui.tui.values import Part
from kdtui.tui.widgets.line import KeyBar, Line

W = TypeVar("W", bound=Widget)


class CockpitScreen(Screen[None]):
    """Base of the screens; a subclass defines its scopes and its body.

    Attributes:
        SCOPES: Scopes of the key table that are active on the screen; the key bar displays their labelled keys.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._compositor = NarrowCompositor()

    @property
    def cockpit(self) -> Cockpit:
        """The app, through its interface for screens."""
        return cast(Cockpit, self.app)

    @property
    def ready(self) -> bool:
        """Whether the widgets of the screen exist: it is neither being composed nor being removed."""
        # The key bar is composed last, and removed with the others: an app that exits removes widgets from mounted
        # screens.
        return self.is_mounted and self in self.app.screen_stack and self._own("keys", KeyBar) is not None

    def _own(self, name: str, kind: type[W]) -> W | None:
        """A line of the screen itself; a query would go through every widget of the body."""
        return next((child for child in self.children if child.id == name and isinstance(child, kind)), None)

    def leave(self) -> None:
        """Go back to the previous screen, unless an earlier key has done so already."""
        if self.app.screen is self:
            self.cockpit.say("")  # the message was about this screen
            self.app.pop_screen()

    def compose(self) -> ComposeResult:
        """Compose header, body, status line and key bar."""
        yield Line(id="header")
        yield from self.body()
        yield Line(firm="left", id="status")
        yield KeyBar(self.bar_keys(), id="keys")

    def body(self) -> Iterable[Widget]:
        """The widgets between header and status line."""
        return ()

    def bar_keys(self) -> list[tuple[str, str, str]]:
        """``(shown, label, action)`` of the keys in the bar; those of the app are last."""
        own = [(key.shown, key.label, key.action) for key in bar(self.SCOPES) if key.scope != "app"]
        return own + [(key.shown, key.label, f"app.{key.action}") for key in bar(("app",))]

    def board_changed(self, ids: frozenset[str]) -> None:
        """Called when the summaries of these runs changed; an empty set stands for all runs."""

    def history_changed(self, run_id: str) -> None:
        """Called when the history of a followed run grew or was replaced."""

    def measured(self) -> None:
        """Called when runs were measured: their ``measurements.json`` changed."""

    def on_screen_resume(self) -> None:
        """Update the screen when it is on top again."""
        self.cockpit.show_header()
        self.say(*self.cockpit.said)
        self.board_changed(frozenset())

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """Display a message in the status line, with the equivalent command."""
        if not self.ready:
            return
        # A screen that is being removed has no status line, but a thread may still post a message.
        line = self._own("status", Line)
        if line is not None:
            left = [Part(text, "error" if error else "")] if text else self.silence()
            line.show(left, [Part(f" {command}", "text-muted")] if command else [])

    def silence(self) -> Sequence[Part]:
        """Content of the status line without a message."""
        return ()

    def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        """Run the action of a clicked key."""
        self.run_worker(self.run_action(event.action), name="clicked key")


class Dialog(ModalScreen[ScreenResultType]):
    """A screen above another one that returns a result."""

    def answer(self, result: ScreenResultType) -> None:
        """Close with ``result``; a second key typed quickly is ignored, and closes no other screen."""
        if self.app.screen is self:
            self.dismiss(result)
