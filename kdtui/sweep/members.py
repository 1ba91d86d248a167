"""The runs of a sweep or search with a controller: which exist, how far they are, and their scores by epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kdtui.errors import StoreError
from kdtui.events import Measured, Started, score_name
from kdtui.store.event_log import Tail
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.store.store import RunStore

PAUSED, SEARCH_STOPPED, SWEEP_STOPPED = "paused", "search stopped", "sweep stopped"
"""Reasons of stops, as the controller writes them, beside :data:`kdtui.store.state.PRUNED`."""


@dataclass(frozen=True)
class Place:
    """What a run is for: a candidate or the values of a trial, a seed, and ``student`` or ``baseline``."""

    key: str
    seed: int
    role: str


@dataclass(frozen=True)
class Member:
    """A run of a sweep or search.

    Attributes:
        scores: Validation score by epoch; of each epoch the last attempt's.
    """

    run: Run
    summary: RunSummary
    scores: Mapping[int, float]

    @property
    def live(self) -> bool:
        """Whether it is queued or running."""
        return self.summary.state in LIVE

    @property
    def best(self) -> float | None:
        """The best score so far."""
        return max((score for score in self.scores.values() if not math.isnan(score)), default=None)

    @property
    def epoch(self) -> int:
        """The last epoch with a score."""
        return max(self.scores, default=0)


class Members:
    """Reads the runs of a sweep or search as often as needed; of each run only what its files gained.

    Args:
        store: A store for this thread only.
        sweep_id: Id of the sweep or search.
        key_of: The key of the place of a cell, which has the form of :func:`cell_key`; None for one of no place.
    """

    def __init__(self, store: RunStore, sweep_id: str, key_of: Callable[[str], str | None] = str) -> None:
        self._store, self._id, self._key_of = store, sweep_id, key_of
        self._places: dict[str, Place | None] = {}
        self._scores: dict[str, _Scores] = {}

    def read(self) -> dict[Place, Member]:
        """The runs by what they are for; of several for one place a finished one, else the newest."""
        runs = self._store.runs()
        for run in runs:
            if run.id not in self._places:
                self._places[run.id] = self._place(run)
        own = [run for run in runs if self._places[run.id] is not None]
        found: dict[Place, Member] = {}
        rows = sorted(
            self._store.read_summaries(own),
            key=lambda row: (row.state is State.FINISHED, row.created or 0.0, row.id),
        )
        for row in rows:
            run = Run(row.path)
            place = self._places[run.id]
            if place is not None:
                scores = self._scores.setdefault(run.id, _Scores(run))
                found[place] = Member(run, row, scores.read())
        return found

    def _place(self, run: Run) -> Place | None:
        try:
            entry = run.manifest().sweep or {}
        except StoreError:  # damaged, so it belongs to no search
            return None
        key = self._key_of(cell_key(entry.get("cell")))
        if entry.get("id") != self._id or key is None or not isinstance(entry.get("seed"), int):
            return None
        return Place(key, entry["seed"], str(entry.get("role")))


def cell_key(cell: Any) -> str:
    """Equal for cells with equal values, whatever the order of their keys."""
    return json.dumps(cell, sort_keys=True, default=str)


class _Scores:
    """The scores of one run, read from what its events gained."""

    def __init__(self, run: Run) -> None:
        self._tail = Tail(run.events_path)
        self._found: dict[int, tuple[int, float]] = {}  # step and score by epoch

    def read(self) -> dict[int, float]:
        for event in self._tail.read():
            if isinstance(event, Started):  # points after the step from which it continues are void
                resumed = event.resumed_step
                self._found = {epoch: entry for epoch, entry in self._found.items() if entry[0] <= resumed}
            elif isinstance(event, Measured) and event.split == "val":
                value = event.scalars.get(score_name(event.scalars))
                self._found[event.epoch] = event.step, math.nan if value is None else float(value)
        return {epoch: score for epoch, (_, score) in self._found.items()}
