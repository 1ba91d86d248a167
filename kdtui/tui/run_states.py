"""The state of all runs. Message handlers change it on the UI thread; screens read it."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from kdtui.compare.named import called, called_as
from kdtui.store.history import History
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.store.store import ListingChange


class RunStates:
    """Summaries, histories and marks of runs.

    Attributes:
        rows: Summary of each run by id, newest first.
        order: Ids, newest first.
        names: Short name of each run by id, which distinguishes it from runs of the same name.
        whole: Whether every run of the store was read.
        total: Number of runs in the store.
        marked: Ids of marked runs, in the order of marking.
        letters: Letter of each marked run.
        histories: Histories of followed runs.
        partial: Ids of histories whose beginning is still being read.
        broken: Why a history cannot be read, by id.
        trouble: Why the store cannot be read; empty if it can.
    """

    def __init__(self) -> None:
        self.rows: dict[str, RunSummary] = {}
        self.order: list[str] = []
        self.names: dict[str, str] = {}
        self._namesakes: dict[str, set[str]] = {}
        self.whole = False
        self.total = 0
        self.marked: list[str] = []
        self.letters: dict[str, str] = {}
        self.histories: dict[str, History] = {}
        self.partial: set[str] = set()
        self.broken: dict[str, str] = {}
        self.trouble = ""

    def take(self, change: ListingChange) -> frozenset[str]:
        """Apply changes of the listing; return the ids of changed runs."""
        moved = any(row.created != self._created(run_id) for run_id, row in change.changed.items())
        added = change.changed.keys() - self.rows.keys()
        # The key of a run is always the name of its folder; the id in its summary is that name made printable.
        rows = {run_id: row if row.id == run_id else replace(row, id=run_id) for run_id, row in change.changed.items()}
        renamed = self._rename({*rows, *change.gone}, rows)
        self.rows.update(rows)
        for run_id in change.gone:
            self.rows.pop(run_id, None)
            self.histories.pop(run_id, None)
            self.partial.discard(run_id)
            self.broken.pop(run_id, None)
        if change.gone:
            self.mark([run_id for run_id in self.marked if run_id not in change.gone])
        if added or change.gone or moved:
            self.order = sorted(self.rows, key=self._age, reverse=True)
            self.rows = {run_id: self.rows[run_id] for run_id in self.order}
        self.whole, self.total = change.whole, change.total
        return frozenset(change.changed) | change.gone | renamed

    def _rename(self, ids: set[str], rows: Mapping[str, RunSummary]) -> frozenset[str]:
        """Update the names of these runs and of runs with the same name; removed runs are not in ``rows``.

        Returns:
            Ids of the runs whose names changed.
        """
        changed: set[str] = set()
        for run_id in ids:
            before, now = self.rows.get(run_id), rows.get(run_id)
            if before is not None and now is not None and called_as(before) == called_as(now):
                continue
            if before is not None:
                self._namesakes[before.name].discard(run_id)
                self.names.pop(run_id, None)
                changed.add(before.name)
            if now is not None:
                self._namesakes.setdefault(now.name, set()).add(run_id)
                changed.add(now.name)
        renamed: dict[str, str] = {}
        for name in changed:
            # By group: naming all of ten thousand runs would take 0.1 s at every update.
            group = sorted(self._namesakes[name])
            renamed |= called([rows.get(run_id) or self.rows[run_id] for run_id in group])
        renamed = {run_id: name for run_id, name in renamed.items() if self.names.get(run_id) != name}
        self.names |= renamed
        return frozenset(renamed)

    def _created(self, run_id: str) -> float | None:
        row = self.rows.get(run_id)
        return None if row is None else row.created

    def _age(self, run_id: str) -> tuple[float, str]:
        return self._created(run_id) or 0.0, run_id

    def mark(self, ids: Iterable[str]) -> None:
        """Mark exactly these runs; a run keeps its letter while it is marked."""
        self.marked = list(dict.fromkeys(ids))
        kept = {run_id: letter for run_id, letter in self.letters.items() if run_id in set(self.marked)}
        free = (letter for letter in string.ascii_uppercase if letter not in set(kept.values()))
        self.letters = {run_id: kept.get(run_id) or next(free, "·") for run_id in self.marked}

    def counts(self) -> Counter[State]:
        """Number of runs in each state."""
        return Counter(row.state for row in self.rows.values())

    def live(self) -> bool:
        """Whether any run is running or queued."""
        # A copy: also called by the thread of the watch, while handlers add rows.
        return any(row.state in LIVE for row in list(self.rows.values()))

    def find(self, run_id: str) -> RunSummary | None:
        """The summary of a run; None if it is unknown, for example removed."""
        return self.rows.get(run_id)
