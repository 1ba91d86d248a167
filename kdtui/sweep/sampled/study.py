"""The only module that imports Optuna: its study chooses values, and tells which trials are worse than others.

The journal in the folder of the sweep is the memory of the study. What it lacks is added from the runs, so that one
that was cut, damaged or removed loses nothing but trials whose runs were removed.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdtui.sweep.members import cell_key
from kdtui.sweep.ranges import Range
from kdtui.sweep.sampled.results import NEEDED
from kdtui.sweep.sampled.spec import SampledSpec
from kdtui.sweep.sampled.trials import Trial
from kdtui.sweep.spec import Axis

STARTUP = 5
"""Trials whose values are random, before the others are modelled."""
COMPARED = 3
"""Finished trials that pruning needs to compare with."""
WARM_UP = 0.25
"""Share of the horizon during which no trial is pruned."""
TRIES = 20
"""How often values are drawn again that were tried already."""


_UNREADABLE = (AssertionError, AttributeError, LookupError, TypeError, ValueError, optuna.exceptions.OptunaError)
"""What Optuna raises for a journal of JSON objects that are no operations of one study."""


class Study:
    """The study of one sweep; one process at a time uses it.

    Args:
        journal: Its file; made if it is missing, and repaired if its end was not written completely.
        spec: The sweep.
    """

    def __init__(self, journal: Path, spec: SampledSpec) -> None:
        self._spec = spec
        self._distributions = {axis.key: _distribution(axis) for axis in spec.axes}
        epochs = spec.base.training.epochs
        self._pruner = optuna.pruners.MedianPruner(
            n_startup_trials=COMPARED, n_warmup_steps=max(1, math.ceil(WARM_UP * epochs))
        )
        repair(journal)
        try:
            self._study = self._open(journal)
        except _UNREADABLE as error:
            print(f"{journal}: {type(error).__name__}: {error}; it is made again from the runs", file=sys.stderr)
            journal.replace(f"{journal}.damaged")
            self._study = self._open(journal)

    def _open(self, journal: Path) -> optuna.Study:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(
            study_name=self._spec.id, storage=storage, direction="maximize", pruner=self._pruner, load_if_exists=True
        )

    def update(self, trials: Sequence[Trial]) -> None:
        """Tell the study what became of the trials; it remembers what it knows already."""
        known = self._known()
        for trial in trials:
            entry = known.get(trial.key)
            if entry is None or (entry.state.is_finished() and not _agrees(entry, trial)):
                entry = self._add(trial.cell)
            if not entry.state.is_finished():
                self._report(entry, trial)

    def _known(self) -> dict[str, FrozenTrial]:
        """The trials of the study by their values; of several with the same ones an unfinished one, else the last."""
        found: dict[str, FrozenTrial] = {}
        for entry in self._study.get_trials(deepcopy=False):
            if set(entry.params) == set(self._distributions):
                found[cell_key(self._cell(entry.params))] = entry
            elif not entry.state.is_finished():  # the process was killed while it chose the values
                self._study.tell(entry.number, state=TrialState.FAIL)
        return found

    def _add(self, cell: Mapping[str, Any]) -> FrozenTrial:
        """Add a running trial with some values."""
        params = {
            axis.key: cell_key(cell[axis.key]) if isinstance(axis, Axis) else cell[axis.key] for axis in self._spec.axes
        }
        self._study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=self._distributions))
        return self._study.get_trials(deepcopy=False)[-1]

    def _report(self, entry: FrozenTrial, trial: Trial) -> None:
        running = optuna.trial.Trial(self._study, entry._trial_id)
        for epoch, score in trial.scores.items():
            if epoch not in entry.intermediate_values:
                running.report(score, epoch)
        if trial.outcome == "finished" and _is_score(trial.score):
            self._study.tell(entry.number, trial.score)
        elif trial.outcome == "pruned":
            self._study.tell(entry.number, state=TrialState.PRUNED)
        elif trial.outcome != "open":
            self._study.tell(entry.number, state=TrialState.FAIL)

    def losers(self, trials: Sequence[Trial]) -> list[Trial]:
        """The open trials that are worse than others at an equal epoch: their best score is below the median there."""
        known = self._known()
        entries = [(trial, known.get(trial.key)) for trial in trials if trial.outcome == "open"]
        return [trial for trial, entry in entries if entry is not None and self._pruner.prune(self._study, entry)]

    def ask(self, taken: Collection[str]) -> dict[str, Any] | None:
        """The values of the next trial.

        Args:
            taken: The keys of all trials that have a run.

        Returns:
            Value by key; None if no new ones were drawn in :data:`TRIES` attempts, or all combinations have a run.
        """
        for entry in self._known().values():
            cell = self._cell(entry.params)
            if not entry.state.is_finished() and cell_key(cell) not in taken:
                return cell  # chosen before, and then the process was killed
        for _ in range(TRIES):
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = _sampler(f"{self._spec.base.seed} {number}")
            drawn = self._study.ask(self._distributions)
            cell = self._cell(drawn.params)
            if cell_key(cell) not in taken:
                return cell
            self._study.tell(drawn, state=TrialState.FAIL)
        return self._untried(taken)

    def _untried(self, taken: Collection[str]) -> dict[str, Any] | None:
        """The first combination without a run; None if all have one."""
        if self._spec.size is None:
            return None
        keys = [axis.key for axis in self._spec.axes]
        for values in itertools.product(*(axis.all_values() for axis in self._spec.axes)):
            cell = dict(zip(keys, values, strict=True))
            if cell_key(cell) not in taken:
                self._add(cell)
                return cell
        return None

    def drop(self, cell: Mapping[str, Any]) -> None:
        """Discard values for which no run can be made."""
        entry = self._known().get(cell_key(cell))
        if entry is not None and not entry.state.is_finished():
            self._study.tell(entry.number, state=TrialState.FAIL)

    def importance(self) -> dict[str, float]:
        """The importance of each key, the largest first, which add up to 1; empty with too few finished trials.

        By PED-ANOVA, Watanabe et al. 2023: how much the values of the best trials differ from those of all.
        """
        finished = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(finished) < NEEDED:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = PedAnovaImportanceEvaluator()  # its options differ between versions
        found = get_param_importances(self._study, evaluator=evaluator)
        return {key: float(share) for key, share in found.items()}

    def _cell(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values by key, from those of the study."""
        return {
            axis.key: axis.value(params[axis.key]) if isinstance(axis, Range) else json.loads(params[axis.key])
            for axis in self._spec.axes
        }


def _agrees(entry: FrozenTrial, trial: Trial) -> bool:
    """Whether a finished trial of the study is what became of a trial."""
    if trial.outcome == "finished":
        return entry.state is TrialState.COMPLETE or not _is_score(trial.score)
    if trial.outcome == "pruned":
        return entry.state in (TrialState.PRUNED, TrialState.COMPLETE)
    return trial.outcome == "failed"


def _is_score(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _distribution(axis: Axis | Range) -> BaseDistribution:
    if isinstance(axis, Axis):
        return CategoricalDistribution([cell_key(value) for value in axis.values])  # values may be lists
    if axis.integer:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _sampler(seed: str) -> optuna.samplers.TPESampler:
    """A sampler whose next values follow from a seed and the trials, so that a new process draws other ones."""
    mixed = random.Random(seed).getrandbits(32)  # first draws of consecutive seeds are alike
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(n_startup_trials=STARTUP, constant_liar=True, seed=mixed)


def repair(journal: Path) -> None:
    """Cut a journal before the first line that is not whole, and remove the lock of a process that was killed.

    The lock of the sweep is held, so no other process writes.
    """
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    size = 0
    with journal.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n") or not _is_object(line):
                break
            size += len(line)
    with journal.open("r+b") as file:
        file.truncate(size)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
