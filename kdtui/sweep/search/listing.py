"""The searches of a store as rows of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdtui.errors import KdtuiError
from kdtui.store.store import RunStore
from kdtui.sweep.folder import SweepFolder, listing
from kdtui.sweep.search.results import ResultReader, Results, to_json
from kdtui.sweep.search.spec import KIND
from kdtui.text import number, one_line


@dataclass(frozen=True)
class SearchRow:
    """A search in the list.

    Attributes:
        outcome: Its results, or why it cannot be read.
    """

    id: str
    outcome: Results | KdtuiError

    def cells(self) -> list[str]:
        """The cells of its row: glyph, id, budget, candidates, best score, stage."""
        if isinstance(self.outcome, KdtuiError):
            return ["?", self.id, "-", "-", "-", one_line(self.outcome.brief)]
        results = self.outcome
        scores = [entry.score for entry in results.of("student", "trial") if entry.score is not None]
        stage = results.stage or results.state.word.lower()
        budget = str(results.spec.budget)
        best = number(max(scores, default=None))
        return [results.state.glyph, self.id, budget, f"{results.measured}/{results.total}", best, stage]

    def to_json(self) -> dict[str, Any]:
        """The search with stable keys."""
        if isinstance(self.outcome, KdtuiError):
            return {"id": self.id, "problem": one_line(self.outcome.brief)}
        return to_json(self.outcome) | {"problem": None}


class SearchListing:
    """Reads all searches of a store as often as needed.

    Args:
        store: A store for this thread only.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._readers: dict[str, ResultReader] = {}

    def rows(self) -> list[SearchRow]:
        """The searches, oldest first.

        Raises:
            StoreError: The folder of the sweeps cannot be listed.
        """
        return [self._row(folder) for folder in listing(self._store.root) if folder.verb == KIND]

    def _row(self, folder: SweepFolder) -> SearchRow:
        try:
            if folder.id not in self._readers:
                self._readers[folder.id] = ResultReader(self._store, folder)
            return SearchRow(folder.id, self._readers[folder.id].read())
        except KdtuiError as error:  # the others are listed
            return SearchRow(folder.id, error)


def searches(store: RunStore) -> list[SearchRow]:
    """The searches of a store, oldest first."""
    return SearchListing(store).rows()
