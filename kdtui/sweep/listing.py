"""The sweeps of a store as rows of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdtui.errors import KdtuiError
from kdtui.store.state import RunSummary, State
from kdtui.sweep.folder import SweepFolder, listing
from kdtui.sweep.heatmap import HeatMap, heat_map
from kdtui.sweep.runs import SweepReader, SweepRuns
from kdtui.sweep.spec import from_tables
from kdtui.text import number, one_line, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdtui.store.store import RunStore


@dataclass(frozen=True)
class SweepRow:
    """A sweep in the list.

    Attributes:
        runs: Its runs; None if its folder cannot be used.
        problem: Why it cannot be used; empty otherwise.
    """

    id: str
    runs: SweepRuns | None
    problem: str = ""

    @property
    def state(self) -> State:
        """The state of the whole: running if any run is, and finished if all are."""
        if self.runs is None:
            return State.LOST
        for state in (State.RUNNING, State.QUEUED, State.FAILED, State.LOST, State.STOPPED):
            if self.runs.in_state(state):
                return state
        return State.NEVER_LAUNCHED if self.runs.missing else State.FINISHED

    @property
    def grid(self) -> HeatMap | None:
        """Its heat map."""
        return None if self.runs is None else heat_map(self.runs)

    def cells(self) -> list[str]:
        """The cells of its row: glyph, id, runs, finished, time left, best score, keys."""
        if self.runs is None:
            return ["?", self.id, "-", "-", "-", "-", self.problem]
        grid = heat_map(self.runs)
        best = grid.best_cell
        keys = ", ".join(f"{axis.label} {','.join(axis.texts)}" for axis in self.runs.spec.axes)
        return [
            self.state.glyph,
            self.id,
            str(len(self.runs.members)),
            str(len(self.runs.in_state(State.FINISHED))),
            span(self.runs.eta_seconds) if self.runs.eta_seconds else "-",
            number(None if best is None else best.mean),
            one_line(keys),
        ]

    def to_json(self) -> dict[str, Any]:
        """The sweep with stable keys."""
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


class SweepListing:
    """Reads all sweeps of a store as often as needed; each folder is resolved once.

    Args:
        store: A store for this thread only.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._readers: dict[str, SweepReader] = {}
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
            if folder.id not in self._readers:
                if folder.kind != "sweep":
                    self._others.add(folder.id)
                    return None
                self._readers[folder.id] = SweepReader(self._store, from_tables(folder), folder.id)
            return SweepRow(folder.id, self._readers[folder.id].read(summaries))
        except KdtuiError as error:  # the others are listed
            return SweepRow(folder.id, None, one_line(error.brief))


def sweep_rows(store: RunStore) -> list[SweepRow]:
    """The sweeps of a store, oldest first."""
    return SweepListing(store).rows()
