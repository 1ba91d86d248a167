"""The sweeps of a store as rows of a list."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kdtui.errors import KdtuiError
from kdtui.store.state import RunSummary, State
from kdtui.sweep.folder import GRID, SAMPLED, SweepFolder, listing
from kdtui.sweep.heatmap import HeatMap, heat_map
from kdtui.sweep.runs import SweepReader, SweepRuns
from kdtui.sweep.sampled.render import to_json
from kdtui.sweep.sampled.results import SampledReader, SampledRuns
from kdtui.sweep.spec import from_tables, label_of
from kdtui.text import number, one_line, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdtui.store.store import RunStore


@dataclass(frozen=True)
class Overview:
    """What the list shows of a sweep.

    Attributes:
        state: The state of the whole.
        total: Number of runs, or of trials.
        ended: How many of them train no further.
        eta_seconds: Time until all have ended; None if it is not known.
        best: The best score.
        keys: The label of each key with its values.
    """

    state: State
    total: int
    ended: int
    eta_seconds: float | None
    best: float | None
    keys: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SweepRow:
    """A sweep in the list.

    Attributes:
        runs: The runs of a grid; None for another sweep, or if its folder cannot be used.
        problem: Why it cannot be used; empty otherwise.
        sampled: The trials of a sampled sweep; None for a grid.
    """

    id: str
    runs: SweepRuns | None
    problem: str = ""
    sampled: SampledRuns | None = None

    @property
    def state(self) -> State:
        """The state of the whole: of a grid running if any run is, and finished if all are."""
        return State.LOST if self.overview is None else self.overview.state

    @property
    def grid(self) -> HeatMap | None:
        """Its heat map."""
        return None if self.runs is None else heat_map(self.runs)

    @cached_property
    def overview(self) -> Overview | None:
        """What the list shows; None if it cannot be used."""
        if self.sampled is not None:
            return _of_sampled(self.sampled)
        return None if self.runs is None else _of_grid(self.runs)

    def cells(self) -> list[str]:
        """The cells of its row: glyph, id, runs, finished, time left, best score, keys."""
        seen = self.overview
        if seen is None:
            return ["?", self.id, "-", "-", "-", "-", self.problem]
        eta = span(seen.eta_seconds) if seen.eta_seconds else "-"
        best = number(seen.best)
        keys = one_line(", ".join(map(" ".join, seen.keys)))
        return [seen.state.glyph, self.id, str(seen.total), str(seen.ended), eta, best, keys]

    def to_json(self) -> dict[str, Any]:
        """The sweep with stable keys."""
        if self.sampled is not None:
            trial = self.sampled.best
            shown = {"problem": None, "runs": self.sampled.total, "best": None if trial is None else trial.score}
            return to_json(self.sampled) | shown
        if self.runs is None:
            return {"id": self.id, "problem": self.problem}
        best = heat_map(self.runs).best_cell
        return {
            "id": self.id,
            "problem": None,
            "keys": {axis.key: list(axis.values) for axis in self.runs.spec.axes},
            "seeds": list(self.runs.spec.seeds),
            "states": self.runs.counts(),
            "runs": len(self.runs.members),
            "eta_seconds": self.runs.eta_seconds,
            "best": None if best is None else best.mean,
        }


def _of_grid(runs: SweepRuns) -> Overview:
    field = heat_map(runs).best_cell
    keys = tuple((axis.label, ",".join(axis.texts)) for axis in runs.spec.axes)
    order = (State.RUNNING, State.QUEUED, State.FAILED, State.LOST, State.STOPPED)
    usual = State.NEVER_LAUNCHED if runs.missing else State.FINISHED
    state = next((state for state in order if runs.in_state(state)), usual)
    finished = len(runs.in_state(State.FINISHED))
    return Overview(state, len(runs.members), finished, runs.eta_seconds, field.mean if field else None, keys)


def _of_sampled(runs: SampledRuns) -> Overview:
    best = None if runs.best is None else runs.best.score
    keys = tuple((label_of(axis.key), axis.text) for axis in runs.spec.axes)
    return Overview(runs.controller.state, runs.total, runs.ended, runs.eta_seconds, best, keys)


class SweepListing:
    """Reads all sweeps of a store as often as needed; each folder is resolved once.

    Args:
        store: A store for this thread only.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._readers: dict[str, SweepReader | SampledReader] = {}
        self._others: set[str] = set()

    def rows(self, summaries: Sequence[RunSummary] | None = None) -> list[SweepRow]:
        """The sweeps, oldest first.

        Args:
            summaries: Summaries of all runs of the store; None reads them.

        Raises:
            StoreError: The folder of the sweeps cannot be listed.
        """
        folders = [folder for folder in listing(self._store.root) if folder.id not in self._others]
        summaries = self._store.summaries() if summaries is None and folders else summaries or []
        rows = [self._row(folder, summaries) for folder in folders]
        return [row for row in rows if row is not None]

    def _row(self, folder: SweepFolder, summaries: Sequence[RunSummary]) -> SweepRow | None:
        try:
            if (reader := self._readers.get(folder.id)) is None:
                kind = folder.kind
                if kind not in (GRID, SAMPLED):
                    self._others.add(folder.id)
                    return None
                reader = self._readers[folder.id] = self._reader(folder, kind)
            if isinstance(reader, SampledReader):
                return SweepRow(folder.id, None, sampled=reader.read())
            return SweepRow(folder.id, reader.read(summaries))
        except KdtuiError as error:  # the others are listed
            if folder.verb != GRID:
                return None
            return SweepRow(folder.id, None, one_line(error.brief))

    def _reader(self, folder: SweepFolder, kind: str) -> SweepReader | SampledReader:
        if kind == SAMPLED:
            return SampledReader(self._store, folder)
        return SweepReader(self._store, from_tables(folder), folder.id)


def sweep_rows(store: RunStore) -> list[SweepRow]:
    """The sweeps of a store, oldest first."""
    return SweepListing(store).rows()
