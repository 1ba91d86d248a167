"""The watch: one thread that looks at everything the screens show, so that no slow disk stops a key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from textual.message import Message

from kdtui.store.run import Run
from kdtui.store.store import Listing, RunStore
from kdtui.tui.following import Follower
from kdtui.tui.messages import RunsLooked, SourceFailed

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
