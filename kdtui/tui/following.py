"""Histories of the runs that are looked at: the end of a long one first, the rest beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable

from textual.message import Message

from kdtui.errors import StoreError
from kdtui.events import Started
from kdtui.store.files import Tail
from kdtui.store.history import History
from kdtui.store.run import Run
from kdtui.tui.messages import HistoryBroken, HistoryDropped, HistoryReady, RunAdvanced

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
