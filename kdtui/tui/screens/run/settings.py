"""The page of the profile: what differs from another run, and all of it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize

from kdtui.tui.screens.run.differences import Other, difference_lines, differing, profile_lines
from kdtui.tui.screens.run.files import RunFiles
from kdtui.tui.widgets.panel import Panel


class Settings(VerticalScroll):
    """The profile; what differs stands above it, or beside it where there is room (class ``-beside``)."""

    DEFAULT_CSS = """
    Settings { scrollbar-size-vertical: 1; }
    Settings .columns { height: auto; layout: vertical; }
    Settings .column { height: auto; width: 1fr; }
    Settings #differences { margin-bottom: 1; }
    Settings.-beside .columns { layout: horizontal; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._files: RunFiles | None = None
        self._other: Other | None = None
        self._searched = False

    def compose(self) -> ComposeResult:
        """Differences, then the profile."""
        with Horizontal(classes="columns"):
            with Vertical(classes="column", id="left"):
                yield Panel("Differs from", wraps=True, id="differences")
            with Vertical(classes="column"):
                yield Panel("profile.toml", id="profile")

    def show(self, files: RunFiles | None, other: Other | None, *, searched: bool) -> None:
        """Show these.

        Args:
            files: The run's own; None while they are not read.
            other: The run beside it, if there is one.
            searched: Whether the search for one is over.
        """
        self._files, self._other, self._searched = files, other, searched
        own = files.profile if files is not None else {}
        room = self.query_one("#left").content_size.width - 2
        if room > 0:
            self.query_one("#differences", Panel).show(difference_lines(own, other, searched, room))
        if files is None:
            return
        keys = [key for key, _, _ in differing(own, other.profile)] if other is not None and other.profile else []
        text = profile_lines(files.text, keys)
        self.query_one("#profile", Panel).show([((files.trouble, "bad"),)] if files.trouble else text)

    def on_resize(self, event: Resize) -> None:
        """The columns fit the room."""
        self.call_after_refresh(lambda: self.show(self._files, self._other, searched=self._searched))
