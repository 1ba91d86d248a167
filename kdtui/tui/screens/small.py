"""What a terminal below 80x24 shows."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Static


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
