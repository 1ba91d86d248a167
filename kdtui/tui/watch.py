"""The watch: one thread that looks at everything the screens show, and the messages it posts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from textual.message import Message

from kdtui.errors import StoreError
from kdtui.events import Event, Started
from kdtui.store.files import Tail
from kdtui.store.history import History
from kdtui.store.run import Run
from kdtui.store.store import Listing, ListingChange, RunStore


class RunsLooked(Message, bubble=False):
    """A piece of the store was looked at."""

    def __init__(self, look: ListingChange) -> None:
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


BIG = 4 << 20
"""Bytes of ``events.jsonl`` from which on its end is shown first."""
END = 512 << 10
HEAD = 16 << 10
PIECE = 256 << 10
REST = 0.004
"""Seconds in which the filling lets everything else run, after each piece."""
KEPT = 12
"""Runs that stay followed although no screen asks for them now: coming back costs nothing."""


class Follower:
    """The watch's source of histories.

    Args:
        run: The run of an id.
        period: Seconds between two looks.
    """

    def __init__(self, run: Callable[[str], Run], period: float) -> None:
        self.period = period
        self._run = run
        self._wanted: tuple[str, ...] = ()
        self._open: dict[str, _Followed] = {}

    def want(self, ids: Collection[str]) -> None:
        """Which runs are looked at from now on; called by any thread."""
        self._wanted = tuple(dict.fromkeys(ids))

    def look(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.Source`."""
        wanted = self._wanted  # another thread replaces it
        for run_id in wanted:
            # Last in the order: the ones that are wanted go last when there are too many.
            followed = self._open.pop(run_id) if run_id in self._open else _Followed(self._run(run_id))
            self._open[run_id] = followed
        for run_id in list(self._open)[: max(0, len(self._open) - max(KEPT, len(wanted)))]:
            self._open.pop(run_id).close()
            yield HistoryDropped(run_id)
        for run_id in wanted:
            yield from self._open[run_id].look()

    def close(self) -> None:
        """End the filling of long histories."""
        for followed in list(self._open.values()):
            followed.close()


class _Followed:
    """One run: a tail, and for a long file a thread that reads it from its start."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tail: Tail | None = None
        self._generation = 0
        self._filler: _Filler | None = None
        self._reason: str | None = None

    def look(self) -> Iterable[Message]:
        """The first history, then what was gained."""
        try:
            yield from self._look()
        except StoreError as error:
            self.close()  # once it is readable again, it is read from the start
            reason = f"{error.what}: {error.found}"
            if reason != self._reason:
                self._reason = reason
                yield HistoryBroken(self._run.id, reason)
        else:
            self._reason = None

    def _look(self) -> Iterable[Message]:
        if self._tail is None:
            yield from self._begin()
            return
        if self._filler is not None and self._filler.done:
            self._tail, history = self._filler.tail, self._filler.history
            self._generation, self._filler = self._tail.generation, None
            yield HistoryReady(self._run.id, history, partial=False)
        events = self._tail.read(BIG)
        if self._tail.generation != self._generation or self._is_far_behind(self._tail):
            self.close()
            yield from self._begin()
        elif events:
            yield RunAdvanced(self._run.id, events)

    def _is_far_behind(self, tail: Tail) -> bool:
        """Whether the file gained so much that its end is shown first again, as after a pause of the cockpit."""
        try:
            return self._run.events_path.stat().st_size - tail.position > BIG
        except OSError:  # gone: the next read starts again
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
        """End the filling; what comes next is read from the start."""
        self._cancel()
        self._tail = None
        self._generation = 0

    def _cancel(self) -> None:
        if self._filler is not None:
            self._filler.cancelled = True
            self._filler = None


class _Filler(threading.Thread):
    """Reads a long file from its start, in pieces, while its end is already shown."""

    def __init__(self, tail: Tail) -> None:
        super().__init__(name="kdtui-filler", daemon=True)
        self.tail = tail
        self.history = History()
        self.done = False
        self.cancelled = False
        self.start()

    def run(self) -> None:
        """Read until nothing is left."""
        generation = self.tail.generation
        while not self.cancelled:
            before = self.tail.position
            try:
                events = self.tail.read(PIECE)
            except StoreError:  # the tail that is shown says so
                return
            if self.tail.generation != generation:  # another file: what was read of the former is void
                generation, self.history = self.tail.generation, History()
            self.history.extend(events)
            if self.tail.position == before:
                self.done = True
                return
            time.sleep(REST)


_IDLE = 5.0


class Source(Protocol):
    """Something to look at.

    Attributes:
        period: Seconds between two looks.
    """

    period: float

    def look(self) -> Iterable[Message]:
        """What is new; called by the watch's thread alone."""
        ...


class Watch:
    """Runs the sources' looks in a thread of its own and posts what they find.

    Args:
        post: Takes a message from another thread: the app's ``post_message``.

    Attributes:
        followed: Ids of the runs whose histories are wanted.
    """

    def __init__(self, post: Callable[[Message], object]) -> None:
        self._post = post
        self._due: dict[Source, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="kdtui-watch", daemon=True)
        self._follower: Follower | None = None
        self._runs: RunsSource | None = None
        self.followed: tuple[str, ...] = ()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look under way is not waited for longer than a moment: its disk may hang."""
        self._over = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=0.5)
        if self._follower is not None:
            self._follower.close()

    def add(self, source: Source) -> None:
        """Look at ``source`` at once, and from now on."""
        with self._lock:
            self._due[source] = 0.0
        if isinstance(source, Follower):
            self._follower = source
        if isinstance(source, RunsSource):
            self._runs = source
        self._wake.set()

    def remove(self, source: Source) -> None:
        """Look at it no more."""
        with self._lock:
            self._due.pop(source, None)

    def nudge(self, ids: Collection[str] = ()) -> None:
        """Look at everything now, at these runs in any case: something was just done to them."""
        if self._runs is not None:
            self._runs.changed = frozenset(ids)
        with self._lock:
            for source in self._due:
                self._due[source] = 0.0
        self._wake.set()

    def follow(self, ids: Collection[str]) -> None:
        """Which runs' histories are wanted from now on; their rows are looked at as often as those of live runs."""
        if tuple(ids) == self.followed:
            return
        self.followed = tuple(ids)
        if self._runs is not None:
            self._runs.wanted = frozenset(ids)
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
                self._look(source)
            with self._lock:
                next_due = min(self._due.values(), default=now + _IDLE)
            self._wake.wait(max(0.01, min(_IDLE, next_due - time.monotonic())))

    def _look(self, source: Source) -> None:
        try:
            for message in source.look():
                if self._over:
                    return
                self._post(message)
        except Exception as error:  # a mistake in one source is told, and makes nobody blind to all others
            if not self._over:
                self._post(SourceFailed(source, error))


class RunsSource:
    """The rows of the store.

    Args:
        store: Of this thread alone.
        period: Seconds between two looks.

    Attributes:
        wanted: Ids of runs that are looked at each time, as live ones are.
        changed: Ids of runs that something was done to a moment ago, looked at each time as well.
    """

    HURRY = 0.02
    """Seconds between looks until every run was seen once."""

    def __init__(self, store: RunStore, period: float) -> None:
        self._listing = Listing(store)
        self._period = period
        self.period = self.HURRY
        self.wanted: frozenset[str] = frozenset()
        self.changed: frozenset[str] = frozenset()

    def look(self) -> Iterable[Message]:
        """See :class:`Source`."""
        look = self._listing.look(self.wanted | self.changed)
        self.period = self._period if look.whole else self.HURRY
        yield RunsLooked(look)


def follower(store: RunStore, seconds: float) -> Follower:
    """The source of histories."""
    return Follower(lambda run_id: Run(store.root / run_id), seconds)
