"""The trials of a sampled sweep: which exist and how far they are, from the manifests and events of their runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kdtui.profile.settings import plain
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.sweep.folder import STUDENT
from kdtui.sweep.members import Member, Place, cell_key
from kdtui.sweep.spec import label_of

if TYPE_CHECKING:
    from kdtui.sweep.sampled.spec import SampledSpec

Outcome = Literal["open", "finished", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """A trial: one combination of values, with a run for each seed.

    Attributes:
        number: 1-based, by the creation of its first run.
        cell: Value by key.
        members: Its runs by seed; None for a missing one.
    """

    number: int
    cell: Mapping[str, Any]
    members: Mapping[int, Member | None]

    @property
    def key(self) -> str:
        """Equal for equal values."""
        return cell_key(self.cell)

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """Its runs that exist."""
        return tuple(member.summary for member in self._made)

    @property
    def _made(self) -> list[Member]:
        return [member for member in self.members.values() if member is not None]

    @property
    def outcome(self) -> Outcome:
        """``pruned`` or ``failed`` if one of its runs is and none is training; ``finished`` if all are."""
        if any(row.state in LIVE for row in self.runs):
            return "open"
        if any(row.pruned for row in self.runs):
            return "pruned"
        if any(row.state is State.FAILED for row in self.runs):
            return "failed"
        whole = len(self.runs) == len(self.members) and all(row.state is State.FINISHED for row in self.runs)
        return "finished" if whole else "open"

    @property
    def state(self) -> State:
        """The state that needs attention first; of several finished runs of which one is missing, ``queued``."""
        order = (State.FAILED, State.RUNNING, State.QUEUED, State.LOST, State.STOPPED, State.NEVER_LAUNCHED)
        states = {row.state for row in self.runs}
        missing = len(self.runs) < len(self.members) and self.outcome == "open"
        return next((state for state in order if state in states), State.QUEUED if missing else State.FINISHED)

    @property
    def word(self) -> str:
        """The state in words; ``pruned`` for one that was stopped because others were better."""
        return "pruned" if self.outcome == "pruned" else self.state.word.lower()

    @property
    def score_name(self) -> str:
        """The name of its score: ``miou``, unless its kind of network has another one."""
        return next((row.score for row in self.runs if row.best_miou is not None), "miou")

    @property
    def score(self) -> float | None:
        """Mean over its runs of the best score until now; None without any."""
        found = [value for row in self.runs if (value := row.best(row.score)) is not None]
        return statistics.fmean(found) if found else None

    @property
    def scores(self) -> dict[int, float]:
        """Score by epoch, the mean over seeds; only epochs that all of its runs have reached."""
        made = self._made
        if not made or len(made) < len(self.members):
            return {}
        shared = set.intersection(*(set(member.scores) for member in made))
        return {epoch: statistics.fmean(member.scores[epoch] for member in made) for epoch in sorted(shared)}

    @property
    def epoch(self) -> int:
        """The last epoch with a score; of several runs, the sum."""
        return sum(member.epoch for member in self._made)

    def text(self) -> str:
        """The values in words, as in ``T 2.5, α 0.5``."""
        return ", ".join(f"{label_of(key)} {plain(value)}" for key, value in self.cell.items())


def trials_of(spec: SampledSpec, members: Mapping[Place, Member]) -> list[Trial]:
    """The trials in the order in which they were made, from the runs of a sweep."""
    own = [(place, member) for place, member in members.items() if place.role == STUDENT and place.seed in spec.seeds]
    own.sort(key=lambda pair: (pair[1].summary.created or 0.0, pair[1].summary.id))
    cells = {place.key: _cell(place.key, spec) for place, _ in own}
    return [
        Trial(number, cell, {seed: members.get(Place(key, seed, STUDENT)) for seed in spec.seeds})
        for number, (key, cell) in enumerate(((key, cell) for key, cell in cells.items() if cell), start=1)
    ]


def _cell(key: str, spec: SampledSpec) -> dict[str, Any]:
    """The values of a run by key, in the order of the keys of the sweep; empty if they are not of this sweep."""
    cell = json.loads(key)
    if not isinstance(cell, dict) or set(cell) != {axis.key for axis in spec.axes}:
        return {}
    return {axis.key: cell[axis.key] for axis in spec.axes}


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The finished trial with the highest score; of equal ones the first."""
    scored = [trial for trial in trials if trial.outcome == "finished" and trial.score is not None]
    return max(scored, key=lambda trial: trial.score or 0.0, default=None)
