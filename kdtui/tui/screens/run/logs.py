"""The page of logs: the log of the engine, and the output of its processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from kdtui.errors import StoreError
from kdtui.store.run import Run
from kdtui.store.text_tail import TextTail
from kdtui.tui.screens.run.files import RunFiles, Snapshot, read_files
from kdtui.tui.screens.run.page import RunPage, RunView
from kdtui.tui.terminal import period
from kdtui.tui.values import Part
from kdtui.tui.watch import WatchSource
from kdtui.tui.widgets.line import Line
from kdtui.tui.widgets.log_view import LogView

Post = Callable[[Message], object]
LOGS = ("training_log.txt", "worker.txt")


class FilesRead(Message, bubble=False):
    """Posted when the files of the run changed."""

    def __init__(self, files: RunFiles) -> None:
        self.files = files
        super().__init__()


class LogRead(Message, bubble=False):
    """Posted when a log gained text.

    Attributes:
        name: One of :data:`LOGS`.
        fresh: Whether the text read before is to be discarded.
        skipped: Number of bytes before the first one read.
        trouble: Why it cannot be read; empty if it can.
    """

    def __init__(self, name: str, text: str, *, fresh: bool, skipped: int, trouble: str = "") -> None:
        self.name = name
        self.text = text
        self.fresh = fresh
        self.skipped = skipped
        self.trouble = trouble
        super().__init__()


class FilesSource:
    """A source of the watch for the files of a run.

    Args:
        run: The run.
        post: Posts a message.
    """

    period = 2.0

    def __init__(self, run: Run, post: Post) -> None:
        self.snapshot = Snapshot()
        self._run, self._post = run, post
        self._before: RunFiles | None = None

    def poll(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.WatchSource`."""
        files = read_files(self._run, self.snapshot)
        if files != self._before:
            self._before = files
            self._post(FilesRead(files))
        return ()


class LogsSource:
    """A source of the watch for the two logs of a run.

    Args:
        run: The run.
        post: Posts a message.
        period: Seconds between two updates.
    """

    def __init__(self, run: Run, post: Post, period: float) -> None:
        self.period = period
        self._post = post
        self._tails = dict(zip(LOGS, (TextTail(run.training_log), TextTail(run.worker_log)), strict=True))
        self._generations = dict.fromkeys(LOGS, 0)
        self._troubles = dict.fromkeys(LOGS, "")

    def poll(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.WatchSource`."""
        for name, tail in self._tails.items():
            text, trouble = "", ""
            try:
                text = tail.read()
            except StoreError as error:
                trouble = error.brief
            fresh = tail.generation != self._generations[name]
            if text or fresh or trouble != self._troubles[name]:
                self._generations[name], self._troubles[name] = tail.generation, trouble
                self._post(LogRead(name, text, fresh=fresh, skipped=tail.skipped, trouble=trouble))
        return ()


_IDS = {name: name.partition(".")[0].replace("_", "-") for name in LOGS}


class Logs(Vertical, RunPage):
    """Displays one of the logs, following its end."""

    HINT = "w the other log   ←→ long lines   ↑ pauses, End follows"
    ACTIONS = ("other_log",)
    DEFAULT_CSS = """
    Logs #log-title { padding: 0 1; }
    Logs LogView { padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="logs")
        self.chosen = LOGS[0]
        self._skipped = dict.fromkeys(LOGS, 0)
        self._troubles = dict.fromkeys(LOGS, "")

    def compose(self) -> ComposeResult:
        """Compose the title and both logs, of which one is visible."""
        yield Line(id="log-title")
        for name in LOGS:
            view = LogView(id=_IDS[name])
            view.display = name == self.chosen
            yield view

    def on_mount(self) -> None:
        """Display the title before anything was read."""
        self._title()

    @property
    def view(self) -> LogView:
        """The visible log."""
        return self._view(self.chosen)

    def _view(self, name: str) -> LogView:
        return self.query_one(f"#{_IDS[name]}", LogView)

    def source(self, run: Run) -> WatchSource:
        """The two logs."""
        return LogsSource(run, self.post_message, period())

    def focus_target(self) -> LogView:
        """Focus the log, to scroll it."""
        return self.view

    def show(self, view: RunView) -> None:
        """The text comes from the source."""

    def on_log_read(self, read: LogRead) -> None:
        """Append text to a log."""
        view = self._view(read.name)
        if read.fresh:
            view.restart()
        view.add(read.text)
        self._skipped[read.name], self._troubles[read.name] = read.skipped, read.trouble
        self._title()

    def action_other_log(self) -> None:
        """Switch between the engine's log and the output of its processes."""
        focused = self.view.has_focus
        self.chosen = LOGS[(LOGS.index(self.chosen) + 1) % len(LOGS)]
        for name in LOGS:
            self._view(name).display = name == self.chosen
        if focused:
            self.view.focus()
        self._title()

    def on_log_view_following(self, event: LogView.Following) -> None:
        """Update the title."""
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
