"""What the watch tells the app. Messages carry all that changed; only handlers change what is shown."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from kdtui.events import Event
from kdtui.store.history import History
from kdtui.store.store import Look


class RunsLooked(Message, bubble=False):
    """A piece of the store was looked at."""

    def __init__(self, look: Look) -> None:
        self.look = look
        super().__init__()


class HistoryReady(Message, bubble=False):
    """What is known of a followed run, from now on the receiver's own.

    Attributes:
        partial: Whether its beginning is still being read.
    """

    def __init__(self, run_id: str, history: History, *, partial: bool) -> None:
        self.run_id = run_id
        self.history = history
        self.partial = partial
        super().__init__()


class RunAdvanced(Message, bubble=False):
    """A followed run's file gained events."""

    def __init__(self, run_id: str, events: Sequence[Event]) -> None:
        self.run_id = run_id
        self.events = events
        super().__init__()


class HistoryBroken(Message, bubble=False):
    """A followed run's events cannot be read."""

    def __init__(self, run_id: str, reason: str) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__()


class HistoryDropped(Message, bubble=False):
    """A run is no longer followed; its history starts again once it is."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__()


class MachineRead(Message, bubble=False):
    """How busy this machine is, as short words for the header."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        super().__init__()


class SourceFailed(Message, bubble=False):
    """Something the watch looks at cannot be read; it will be looked at again."""

    def __init__(self, source: object, error: Exception) -> None:
        self.source = source
        self.error = error
        super().__init__()
