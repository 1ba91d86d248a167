"""Successive halving: which trials train on, from their scores at equal epochs of the whole horizon.

Every function is pure, so that a controller that was killed decides the same from the same files. See Jamieson and
Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization" (2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kdtui.sweep.search.screening import Screened

Status = Literal["new", "live", "idle", "finished", "failed"]


@dataclass(frozen=True)
class Trial:
    """A trial as it is now.

    Attributes:
        key: Name of its candidate.
        status: ``new`` without a run, ``live`` while it is queued or running, ``idle`` if it can be continued.
        scores: Validation score by epoch, counted from 1.
    """

    key: str
    status: Status
    scores: Mapping[int, float] = field(default_factory=dict)

    def score_at(self, epoch: int) -> float | None:
        """Its score at an epoch; after an early end, its last one. None before that epoch."""
        if epoch in self.scores or self.status != "finished" or not self.scores:
            return self.scores.get(epoch)
        return self.scores[max(self.scores)]


@dataclass(frozen=True)
class Decision:
    """What happens next.

    Attributes:
        epoch: The rung that trials train to; the last epoch once the winner is known.
        start: Trials to start or continue, in order.
        pause: Trials that have reached the rung and wait for others.
        pruned: Trials that train no further, the first dropped first.
        winner: The best trial; None before that is decided, or if all failed.
        decided: Whether nothing is left to decide.
    """

    epoch: int
    start: tuple[str, ...] = ()
    pause: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    winner: str | None = None
    decided: bool = False

    @property
    def ranking(self) -> tuple[str, ...]:
        """Winner and pruned trials, the best first; empty before all is decided."""
        return () if self.winner is None else (self.winner, *reversed(self.pruned))


def rungs(trials: int, epochs: int, every: int = 1) -> tuple[int, ...]:
    """The epochs at which trials are compared: the horizon, halved once for each halving of the number of trials.

    Args:
        trials: Number of trials at the beginning.
        epochs: The horizon.
        every: Epochs between evaluations; others have no score, so each rung is a multiple of it.
    """
    halvings = math.ceil(math.log2(trials)) if trials > 1 else 0
    marks = {max(1, round(epochs / 2**count / every)) * every for count in range(1, halvings + 1)}
    return tuple(sorted(mark for mark in marks if mark < epochs)) or ((epochs,) if trials > 1 else ())


def kept(trials: int, count: int, place: int) -> int:
    """How many trials are left after a rung: about the same share at each, and one after the last.

    Args:
        trials: Number of trials at the beginning.
        count: Number of rungs.
        place: The rung, counted from 0.
    """
    return max(1, round(math.pow(trials, 1 - (place + 1) / count)))


def decide(trials: Sequence[Trial], epochs: int, every: int = 1) -> Decision:
    """What happens next.

    Args:
        trials: All trials in the order in which they start; of equal scores the earlier one wins.
        epochs: The horizon.
        every: Epochs between evaluations.
    """
    marks = rungs(len(trials), epochs, every)
    left, pruned = list(trials), list[str]()
    for place, epoch in enumerate(marks):
        left = [trial for trial in left if trial.status != "failed" or trial.score_at(epoch) is not None]
        waiting = [trial for trial in left if trial.score_at(epoch) is None]
        if waiting:
            return Decision(
                epoch,
                start=tuple(trial.key for trial in waiting if trial.status in ("new", "idle")),
                pause=tuple(trial.key for trial in left if trial not in waiting and trial.status == "live"),
                pruned=tuple(pruned),
            )
        left.sort(key=lambda trial: -_comparable(trial.score_at(epoch)))
        number = kept(len(trials), len(marks), place)
        pruned += [trial.key for trial in reversed(left[number:])]
        left = left[:number]
    left = [trial for trial in left if trial.status != "failed"]
    return Decision(epochs, pruned=tuple(pruned), winner=left[0].key if left else None, decided=True)


def _comparable(score: float | None) -> float:
    return -math.inf if score is None or math.isnan(score) else score


def pick(found: Sequence[Screened], count: int) -> list[Screened]:
    """The candidates to train: of each encoder and architecture first the slowest that fits, then the next.

    A network that uses the budget is more likely to be the best one, and encoders differ more than decoder widths.

    Args:
        found: All candidates.
        count: How many of those that fit.
    """
    families: dict[tuple[str, str], list[Screened]] = {}
    for one in sorted((one for one in found if one.fits), key=lambda one: -(one.latency or 0.0)):
        families.setdefault((one.candidate.encoder, one.candidate.architecture), []).append(one)
    turns = [(turn, -(one.latency or 0.0), one) for family in families.values() for turn, one in enumerate(family)]
    return [one for _, _, one in sorted(turns, key=lambda entry: entry[:2])][:count]
