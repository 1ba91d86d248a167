"""The page of logs: what the engine wrote for people, and what its processes printed."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from kdtui.tui.screens.run.sources import LOGS, LogRead
from kdtui.tui.widgets.line import Line, Part
from kdtui.tui.widgets.log_view import LogView

_IDS = {name: name.partition(".")[0].replace("_", "-") for name in LOGS}


class Logs(Vertical):
    """One of the logs, following."""

    DEFAULT_CSS = """
    Logs #log-title { padding: 0 1; }
    Logs LogView { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.chosen = LOGS[0]
        self._skipped = dict.fromkeys(LOGS, 0)
        self._troubles = dict.fromkeys(LOGS, "")

    def compose(self) -> ComposeResult:
        """A title and both logs, of which one is shown."""
        yield Line(id="log-title")
        for name in LOGS:
            view = LogView(id=_IDS[name])
            view.display = name == self.chosen
            yield view

    def on_mount(self) -> None:
        """Say which log it is before anything was read."""
        self._title()

    @property
    def view(self) -> LogView:
        """The log that is shown."""
        return self._view(self.chosen)

    def _view(self, name: str) -> LogView:
        return self.query_one(f"#{_IDS[name]}", LogView)

    def take(self, read: LogRead) -> None:
        """Append what a log gained."""
        view = self._view(read.name)
        if read.fresh:
            view.restart()
        view.add(read.text)
        self._skipped[read.name], self._troubles[read.name] = read.skipped, read.trouble
        self._title()

    def switch(self) -> None:
        """Show the other log."""
        focused = self.view.has_focus
        self.chosen = LOGS[(LOGS.index(self.chosen) + 1) % len(LOGS)]
        for name in LOGS:
            self._view(name).display = name == self.chosen
        if focused:
            self.view.focus()
        self._title()

    def on_log_view_following(self, event: LogView.Following) -> None:
        """Say so."""
        event.stop()
        self._title()

    def _title(self) -> None:
        view, trouble = self.view, self._troubles[self.chosen]
        skipped = self._skipped[self.chosen]
        parts = [Part(f"{name}  ", "" if name == self.chosen else "text-muted", name == self.chosen) for name in LOGS]
        if skipped or view.dropped:
            parts.append(Part(f"earlier lines: logs/{self.chosen}  ", "text-muted"))
        if trouble:
            parts.append(Part(trouble, "error"))
        elif not view.lines:
            parts.append(Part("nothing written yet", "text-muted"))
        state = Part("following ", "success") if view.following else Part("paused: End follows ", "warning")
        self.query_one("#log-title", Line).show(parts, [state] if view.lines else [])
