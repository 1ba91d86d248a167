"""What a sampled sweep has found so far, derived from its files: for the command line and the cockpit."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kdtui.compare.statistics import Interval, over_seeds
from kdtui.errors import StoreError
from kdtui.launch.slots import place
from kdtui.store.files import read_file, write_atomically
from kdtui.store.state import RunSummary, State
from kdtui.store.values import MOST_BYTES, is_number, is_whole, parse_json
from kdtui.sweep.controlled import ControllerState, controller_state
from kdtui.sweep.folder import SweepFolder
from kdtui.sweep.members import Members
from kdtui.sweep.runs import time_left
from kdtui.sweep.sampled.baseline import baselines_of
from kdtui.sweep.sampled.spec import SampledSpec, from_tables, read_request
from kdtui.sweep.sampled.trials import Trial, best_of, trials_of

if TYPE_CHECKING:
    from kdtui.store.store import RunStore

_IMPORTANCE = "importance.json"
NEEDED = 8
"""Finished trials that the importance of keys needs."""


@dataclass(frozen=True)
class Importance:
    """How much of the differences between trials each key explains.

    Attributes:
        shares: By key, the largest first; they add up to 1. Empty before enough trials have finished.
        finished: Number of finished trials.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    finished: int = 0


@dataclass(frozen=True)
class SampledRuns:
    """A sampled sweep as it is now.

    Attributes:
        controller: The state of its controller.
        wanted: How many trials there shall be; None if that is not known.
        trials: In the order in which they were made.
        baselines: The matched baselines of the best trial by seed, as far as they exist.
        importance: As the controller recorded it last.
    """

    id: str
    spec: SampledSpec
    controller: ControllerState
    wanted: int | None
    trials: tuple[Trial, ...]
    baselines: Mapping[int, RunSummary] = field(default_factory=dict)
    importance: Importance = Importance()

    @cached_property
    def best(self) -> Trial | None:
        """The best finished trial."""
        return best_of(self.trials)

    @property
    def score_name(self) -> str:
        """The name of the score."""
        return next((trial.score_name for trial in self.trials if trial.score is not None), "miou")

    @property
    def total(self) -> int:
        """Number of trials, with those that were not begun."""
        return max(len(self.trials), self.wanted or 0)

    @property
    def ended(self) -> int:
        """Number of trials that train no further."""
        return sum(trial.outcome != "open" for trial in self.trials)

    def counts(self) -> dict[str, int]:
        """Number of trials by state, with ``to begin``."""
        counts = Counter(trial.word for trial in self.trials)
        return {**counts, **({"to begin": left} if (left := self.total - len(self.trials)) else {})}

    @property
    def at_once(self) -> int:
        """How many runs this machine trains at once."""
        training = self.spec.base.training
        slots = place(training.accelerator, training.devices)
        return max(1, len(slots.names) // max(1, slots.needed))

    @property
    def eta_seconds(self) -> float | None:
        """Time until all trials have ended; None without a run to estimate it from."""
        rows = [row for trial in self.trials for row in trial.runs]
        open_places = sum(len(trial.members) - len(trial.runs) for trial in self.trials if trial.outcome == "open")
        missing = open_places + (self.total - len(self.trials)) * len(self.spec.seeds)
        return time_left(rows, missing, self.at_once)

    @property
    def delta(self) -> Interval | float | None:
        """The best trial minus its matched baseline: with several seeds an interval; None without finished pairs."""
        name = self.score_name
        pairs = [
            (member.summary.best(name), self.baselines[seed].best(name))
            for seed, member in (self.best.members.items() if self.best is not None else ())
            if member is not None and seed in self.baselines and self.baselines[seed].state is State.FINISHED
        ]
        differences = [own - other for own, other in pairs if own is not None and other is not None]
        if not differences:
            return None
        return over_seeds(differences) or statistics.fmean(differences)


class SampledReader:
    """Reads the results of one sampled sweep as often as needed.

    Args:
        store: A store for this thread only.
        folder: The folder of the sweep.

    Raises:
        StoreError: Its specification cannot be used.
    """

    def __init__(self, store: RunStore, folder: SweepFolder) -> None:
        self._store, self.folder = store, folder
        self.spec = from_tables(folder)
        self._members = Members(store, folder.id)

    def read(self) -> SampledRuns:
        """The results as they are now."""
        members = self._members.read()
        trials = trials_of(self.spec, members)
        best = best_of(trials)
        baselines: dict[int, RunSummary] = {}
        if self.spec.with_baseline and best is not None:
            for at, planned in baselines_of(self._store, self.spec, self.folder.id, best).items():
                row = members[at].summary if at in members else planned.reused
                baselines |= {at.seed: row} if row is not None else {}
        return SampledRuns(
            self.folder.id,
            self.spec,
            controller_state(self.folder),
            _wanted(self.folder, self.spec),
            tuple(trials),
            baselines,
            recorded_importance(self.folder),
        )


def _wanted(folder: SweepFolder, spec: SampledSpec) -> int | None:
    try:
        trials = read_request(folder).trials
    except StoreError:  # the trials that exist are listed
        return None
    return trials if spec.size is None else min(trials, spec.size)


def record_importance(folder: SweepFolder, shares: Mapping[str, float], finished: int) -> None:
    """Keep the importance of the keys, which only the controller can compute."""
    body = {"finished": finished, "importance": dict(shares)}
    write_atomically(folder.path / _IMPORTANCE, json.dumps(body).encode() + b"\n")


def recorded_importance(folder: SweepFolder) -> Importance:
    """The importance of the keys as it was recorded last; without shares if it is missing or damaged."""
    try:
        body = parse_json(read_file(folder.path / _IMPORTANCE, most=MOST_BYTES))
        shares, finished = body["importance"], body["finished"]
        if not is_whole(finished) or not all(is_number(share) for share in shares.values()):
            return Importance()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Importance()
    return Importance(shares, finished)
