"""All rows of a store, looked at piece by piece: no look takes long, however many runs there are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary
from kdtui.store.store import RunStore
from kdtui.store.summary import number_the_queue

FIRST = 60
"""Rows of the first look: more than a screen shows."""
PIECE = 200
"""Further rows a look."""
KEEP = 30.0
"""Seconds between two writes of the summary cache."""


@dataclass(frozen=True)
class Look:
    """What a look found.

    Attributes:
        changed: Rows that are new or different, by id.
        gone: Ids of runs that are there no more.
        whole: Whether every run was looked at once.
        total: How many runs there are.
    """

    changed: dict[str, RunSummary]
    gone: frozenset[str]
    whole: bool
    total: int


class Listing:
    """Keeps the rows of a store true, a bounded amount of work a look.

    Newest runs come first. Later looks see every run that lives, those that are wanted, and the others in turns, so
    that what another process does to an old run is seen as well. Used by one thread.

    Args:
        store: Used by that thread alone: :meth:`RunStore.for_thread`.
        first: Rows of the first look.
        piece: Rows of every later one, beside the live and the wanted ones.
    """

    def __init__(self, store: RunStore, *, first: int = FIRST, piece: int = PIECE) -> None:
        self._store = store
        self._first, self._piece = first, piece
        self._runs: dict[str, Run] = {}
        self._rows: dict[str, RunSummary] = {}
        self._shown: dict[str, RunSummary] = {}
        self._turn: list[str] = []  # ids that come next, last first
        self._unseen = 0
        self._stamp: int | None = None
        self._kept = time.monotonic()

    def look(self, wanted: Iterable[str] = ()) -> Look:
        """Look at a piece.

        Args:
            wanted: Ids to look at in any case.

        Raises:
            StoreError: The store's folder cannot be listed.
        """
        gone = self._list()
        piece = self._piece if self._rows else self._first
        ids = {run_id for run_id, row in self._rows.items() if row.state in LIVE} if self._rows else set()
        ids |= {run_id for run_id in wanted if run_id in self._runs}
        while self._turn and piece:
            ids.add(self._turn.pop())
            piece -= 1
        first_whole = self._unseen > 0
        chosen = [self._runs[run_id] for run_id in ids if run_id in self._runs]
        for run, row in zip(chosen, self._store.look_at(chosen), strict=True):
            if run.id not in self._rows:
                self._unseen -= 1
            self._rows[run.id] = row
        if not self._turn:
            self._turn = self._oldest_first()
        whole = self._unseen == 0
        self._keep(at_once=whole and first_whole)
        return Look(self._changed({run.id for run in chosen}), gone, whole, len(self._runs))

    def _list(self) -> frozenset[str]:
        """List the folder if it changed; the ids that went."""
        try:
            stamp: int | None = os.stat(self._store.root).st_mtime_ns  # noqa: PTH116 (a cheap look, at every tick)
        except OSError:  # absent: the listing itself says whether that is wrong
            stamp = None
        # A folder that changed a moment ago may change again within one tick of the file system's clock.
        settled = stamp is not None and time.time_ns() - stamp > 2_000_000_000
        if settled and stamp == self._stamp:
            return frozenset()
        found = {run.id: run for run in self._store.runs()}
        self._stamp = stamp
        gone = frozenset(self._runs.keys() - found.keys())
        new = [run_id for run_id in found if run_id not in self._runs]
        self._runs = found
        for run_id in gone:
            self._rows.pop(run_id, None)
            self._shown.pop(run_id, None)
        self._turn = [run_id for run_id in self._turn if run_id in found] + sorted(new, key=_age)
        self._unseen = len(found) - len(self._rows)
        return gone

    def _oldest_first(self) -> list[str]:
        return sorted(self._runs, key=_age)

    def _changed(self, looked: set[str]) -> dict[str, RunSummary]:
        """Rows to be shown anew, places in the queue told."""
        waiting = [row for row in self._rows.values() if row.waiting_since is not None]
        # By folder name: the id of a row is printable, that of a folder need not be.
        keys = {row.path.name for row in waiting}
        numbered = {row.path.name: row for row in number_the_queue(waiting).values()}
        changed = {}
        for run_id in looked | keys:
            row = numbered.get(run_id, self._rows[run_id])
            if self._shown.get(run_id) != row:
                self._shown[run_id] = changed[run_id] = row
        return changed

    def _keep(self, *, at_once: bool) -> None:
        if self._unseen or not (at_once or time.monotonic() - self._kept > KEEP):
            return
        self._kept = time.monotonic()
        self._store.keep(self._runs.values())


def _age(run_id: str) -> tuple[bool, str]:
    """Sorts oldest first; a folder without a stamp in its name counts as oldest."""
    return run_id[:8].isdigit(), run_id
