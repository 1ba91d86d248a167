"""The watch: one thread that polls everything the screens display, and the messages that it posts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from textual.message import Message

from kdtui.errors import StoreError
from kdtui.events import Event, Started
from kdtui.store.event_log import Tail
from kdtui.store.history import History
from kdtui.store.run import Run
from kdtui.store.store import ListingChange, RunListing, RunStore


class RunsListed(Message, bubble=False):
    """Posted when a part of the store was listed."""

    def __init__(self, change: ListingChange) -> None:
        self.change = change
        super().__init__()


class HistoryReady(Message, bubble=False):
    """Posted with the history of a followed run; the receiver may modify it.

    Attributes:
        partial: Whether its beginning is still being read.
    """

    def __init__(self, run_id: str, history: History, *, partial: bool) -> None:
        self.run_id = run_id
        self.history = history
        self.partial = partial
        super().__init__()


class RunAdvanced(Message, bubble=False):
    """Posted when the file of a followed run gained events."""

    def __init__(self, run_id: str, events: Sequence[Event]) -> None:
        self.run_id = run_id
        self.events = events
        super().__init__()


class HistoryBroken(Message, bubble=False):
    """Posted when the events of a followed run cannot be read."""

    def __init__(self, run_id: str, reason: str) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__()


class HistoryDropped(Message, bubble=False):
    """Posted when a run is no longer followed; following it again posts a new history."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__()


class MachineRead(Message, bubble=False):
    """Posted with the load of this machine, as short texts for the header."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        super().__init__()


class SourceFailed(Message, bubble=False):
    """Posted when a source cannot be read; the watch tries again."""

    def __init__(self, source: object, error: Exception) -> None:
        self.source = source
        self.error = error
        super().__init__()


BIG = 4 << 20
"""Size of ``events.jsonl`` in bytes from which on its end is displayed first."""
END = 512 << 10
HEAD = 16 << 10
PIECE = 256 << 10
REST = 0.004
"""Seconds for which the reading of a long file pauses after each piece, so that other threads can run."""
MOST_FOLLOWED = 12
"""Number of runs that stay followed after no screen displays them, so that returning costs nothing."""


class Follower:
    """A source of the watch for histories.

    Args:
        run: Function from the id of a run to the run.
        period: Seconds between two updates.
    """

    def __init__(self, run: Callable[[str], Run], period: float) -> None:
        self.period = period
        self._run = run
        self._ids: tuple[str, ...] = ()
        self._open: dict[str, _Followed] = {}

    def want(self, ids: Collection[str]) -> None:
        """Set the runs to follow; thread-safe."""
        self._ids = tuple(dict.fromkeys(ids))

    def poll(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.WatchSource`."""
        ids = self._ids  # may be replaced by another thread
        for run_id in ids:
            # Move to the end: the runs still wanted are dropped last.
            followed = self._open.pop(run_id) if run_id in self._open else _Followed(self._run(run_id))
            self._open[run_id] = followed
        for run_id in list(self._open)[: max(0, len(self._open) - max(MOST_FOLLOWED, len(ids)))]:
            self._open.pop(run_id).close()
            yield HistoryDropped(run_id)
        for run_id in ids:
            yield from self._open[run_id].poll()

    def close(self) -> None:
        """Stop reading long histories."""
        for followed in list(self._open.values()):
            followed.close()


class _Followed:
    """One followed run: the tail of its file, and for a long file a thread that reads it from the start."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tail: Tail | None = None
        self._generation = 0
        self._filler: _Filler | None = None
        self._reason: str | None = None

    def poll(self) -> Iterable[Message]:
        """The first history, then added events."""
        try:
            yield from self._poll()
        except StoreError as error:
            self.close()  # start again from the beginning once it is readable
            reason = error.brief
            if reason != self._reason:
                self._reason = reason
                yield HistoryBroken(self._run.id, reason)
        else:
            self._reason = None

    def _poll(self) -> Iterable[Message]:
        if self._tail is None:
            yield from self._begin()
            return
        if self._filler is not None and self._filler.done:
            self._tail, history = self._filler.tail, self._filler.history
            self._generation, self._filler = self._tail.generation, None
            yield HistoryReady(self._run.id, history, partial=False)
        events = self._tail.read(BIG)
        if self._tail.generation != self._generation or self._lags(self._tail):
            self.close()
            yield from self._begin()
        elif events:
            yield RunAdvanced(self._run.id, events)

    def _lags(self, tail: Tail) -> bool:
        """Whether so much was appended that the end is displayed first again, for example after a suspend."""
        try:
            return self._run.events_path.stat().st_size - tail.position > BIG
        except OSError:  # removed: the next read starts again
            return False

    def _begin(self) -> Iterable[Message]:
        path = self._run.events_path
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0
        except OSError as error:
            raise StoreError("The events cannot be read", where=path, found=error.strerror) from error
        if size <= BIG:
            tail = Tail(path)
            history = History(tail.read())
            self._tail = tail
            yield HistoryReady(self._run.id, history, partial=False)
            return
        head = [event for event in Tail(path).read(HEAD) if isinstance(event, Started)]
        tail = Tail(path, last=END)
        history = History([*head[:1], *tail.read()])
        self._tail = tail
        self._filler = _Filler(Tail(path))
        yield HistoryReady(self._run.id, history, partial=True)

    def close(self) -> None:
        """Stop reading a long history; the next update starts from the beginning."""
        self._cancel()
        self._tail = None
        self._generation = 0

    def _cancel(self) -> None:
        if self._filler is not None:
            self._filler.cancelled = True
            self._filler = None


class _Filler(threading.Thread):
    """Reads a long file from its start, in pieces, while its end is displayed already."""

    def __init__(self, tail: Tail) -> None:
        super().__init__(name="kdtui-filler", daemon=True)
        self.tail = tail
        self.history = History()
        self.done = False
        self.cancelled = False
        self.start()

    def run(self) -> None:
        """Read to the end."""
        generation = self.tail.generation
        while not self.cancelled:
            before = self.tail.position
            try:
                events = self.tail.read(PIECE)
            except StoreError:  # reported by the tail that is displayed
                return
            if self.tail.generation != generation:  # another file: discard what was read of the old one
                generation, self.history = self.tail.generation, History()
            self.history.extend(events)
            if self.tail.position == before:
                self.done = True
                return
            time.sleep(REST)


_IDLE = 5.0


class WatchSource(Protocol):
    """Something that the watch polls.

    Attributes:
        period: Seconds between two updates.
    """

    period: float

    def poll(self) -> Iterable[Message]:
        """Return what is new; called only by the thread of the watch."""
        ...


class Watch:
    """Polls sources in a thread and posts their messages.

    Args:
        post: Thread-safe function that posts a message: the app's ``post_message``.

    Attributes:
        followed: Ids of the runs whose histories are followed.
    """

    def __init__(self, post: Callable[[Message], object]) -> None:
        self._post = post
        self._due: dict[WatchSource, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="kdtui-watch", daemon=True)
        self._follower: Follower | None = None
        self._runs: RunsSource | None = None
        self.followed: tuple[str, ...] = ()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; wait at most 0.5 s for a running update, as its disk may hang."""
        self._over = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=0.5)
        if self._follower is not None:
            self._follower.close()

    def add(self, source: WatchSource) -> None:
        """Poll ``source`` at once, and from now on."""
        with self._lock:
            self._due[source] = 0.0
        if isinstance(source, Follower):
            self._follower = source
        if isinstance(source, RunsSource):
            self._runs = source
        self._wake.set()

    def remove(self, source: WatchSource) -> None:
        """Stop polling a source."""
        with self._lock:
            self._due.pop(source, None)

    def nudge(self, ids: Collection[str] = ()) -> None:
        """Poll all sources now, and update these runs in any case, as an action may have changed them."""
        if self._runs is not None:
            self._runs.changed = frozenset(ids)
        with self._lock:
            for source in self._due:
                self._due[source] = 0.0
        self._wake.set()

    def follow(self, ids: Collection[str]) -> None:
        """Set the runs whose histories are followed; their summaries are updated as often as those of live runs."""
        if tuple(ids) == self.followed:
            return
        self.followed = tuple(ids)
        if self._runs is not None:
            self._runs.ids = frozenset(ids)
        if self._follower is not None:
            self._follower.want(ids)
            with self._lock:
                if self._follower in self._due:
                    self._due[self._follower] = 0.0
            self._wake.set()

    def _run(self) -> None:
        while not self._over:
            self._wake.clear()
            now = time.monotonic()
            with self._lock:
                ready = [source for source, due in self._due.items() if due <= now]
                for source in ready:
                    self._due[source] = now + source.period
            for source in ready:
                self._poll(source)
            with self._lock:
                next_due = min(self._due.values(), default=now + _IDLE)
            self._wake.wait(max(0.01, min(_IDLE, next_due - time.monotonic())))

    def _poll(self, source: WatchSource) -> None:
        try:
            for message in source.poll():
                if self._over:
                    return
                self._post(message)
        except Exception as error:  # an error in one source is reported and does not stop the others
            if not self._over:
                self._post(SourceFailed(source, error))


class RunsSource:
    """A source of the watch for the summaries of runs.

    Args:
        store: The store, used only by this thread.
        period: Seconds between two updates.

    Attributes:
        ids: Ids of runs that are read at every update, like live runs.
        changed: Ids of runs changed by an action, which are read at every update as well.
    """

    HURRY = 0.02
    """Seconds between updates until every run was read once."""

    def __init__(self, store: RunStore, period: float) -> None:
        self._listing = RunListing(store)
        self._period = period
        self.period = self.HURRY
        self.ids: frozenset[str] = frozenset()
        self.changed: frozenset[str] = frozenset()

    def poll(self) -> Iterable[Message]:
        """See :class:`WatchSource`."""
        change = self._listing.update(self.ids | self.changed)
        self.period = self._period if change.whole else self.HURRY
        yield RunsListed(change)


def follower(store: RunStore, seconds: float) -> Follower:
    """Create the source of histories."""
    return Follower(lambda run_id: Run(store.root / run_id), seconds)
