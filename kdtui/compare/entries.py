"""Runs to compare, and which of them are matched baselines of which."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kdtui.compare.measured import usable_measurements
from kdtui.errors import StoreError
from kdtui.profile.matched import IDENTITY, untreated, without_own_view_seed
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.store.summary import further_metrics
from kdtui.text import jsonable

if TYPE_CHECKING:
    from kdtui.store.store import RunStore


@dataclass(frozen=True)
class ComparedRun:
    """A run to compare.

    Attributes:
        profile: Its resolved profile as plain tables.
        measurements: Results of `kdtui measure`; None for a run that was not measured.
        unmeasured: Why its measurements cannot be used, as a sentence; otherwise empty.
        split: The split of its scores.
        score: Name of the scalar by which it is compared, see :func:`by_score`.
    """

    summary: RunSummary
    profile: Mapping[str, Any]
    measurements: Mapping[str, Any] | None = None
    unmeasured: str = ""
    split: str = "val"
    score: str = "miou"

    @property
    def value(self) -> float | None:
        """Its score at the best epoch."""
        return self.summary.best(self.score)

    @property
    def teacher_value(self) -> float | None:
        """The score of its teacher."""
        return self.summary.of_teacher(self.score)

    @cached_property
    def matching(self) -> str:
        """Equal for a distilled run and its matched baselines, see :mod:`kdtui.profile.matched`."""
        return key(untreated(self.profile))

    @cached_property
    def matching_any_seed(self) -> str:
        """As :attr:`matching`, but for baselines of any seed."""
        return key(untreated(self.profile), without=("seed",))


def entries_of(store: RunStore, runs: Sequence[Run]) -> list[ComparedRun]:
    """Read everything that a comparison of the runs needs, in order.

    Unusable measurements are noted in the entry: the run is compared without them.

    Raises:
        StoreError: The profile of one of them cannot be read.
    """
    summaries = store.summaries(runs)
    return [
        ComparedRun(summary, run.profile_table(), *usable_measurements(run))
        for run, summary in zip(runs, summaries, strict=True)
    ]


def by_score(entries: Sequence[ComparedRun]) -> list[ComparedRun]:
    """The entries, compared by the score that determines the best epoch of all of them; ``miou`` if they differ."""
    scores = {entry.summary.score for entry in entries if entry.summary.best_miou is not None}
    score = scores.pop() if len(scores) == 1 else "miou"
    return [dataclasses.replace(entry, score=score) for entry in entries]


def reused_baselines(store: RunStore, runs: Sequence[Run]) -> list[Run]:
    """The newest matched baseline in the store of each distilled run that has none among ``runs``.

    Raises:
        StoreError: The profile of one of the runs cannot be read.
    """
    entries = entries_of(store, runs)
    alone = [entry for entry in entries if entry.summary.distilled and not matched(entry, entries)]
    seeds = {entry.summary.seed for entry in alone}
    others = []
    for row in store.summaries():
        if not row.distilled and row.best_miou is not None and row.seed in seeds:
            with contextlib.suppress(StoreError):  # damaged: no baseline
                others += entries_of(store, [Run(row.path)])
    found = [matched(entry, others)[:1] for entry in alone]
    return list(dict.fromkeys(Run(base.summary.path) for one in found for base in one))


SPLITS = ("val", "test", "train")
"""The splits on which runs can be compared."""


def split_note(split: str) -> str:
    """Where the scores of a comparison on a split are from."""
    return f"mIoU and IoU are those of the {split} split, of the best checkpoint on val"


def on_split(entry: ComparedRun, answer: Mapping[str, Any]) -> ComparedRun:
    """A run with the scores of its best checkpoint on a split that was evaluated afterwards.

    Args:
        entry: The run.
        answer: Result of its evaluation. The teacher's scores on that split are not known.
    """
    summary = dataclasses.replace(
        entry.summary,
        best_miou=answer.get("miou"),
        best_iou={name: iou for name, iou in (answer.get("iou") or {}).items() if iou is not None},
        best_metrics=further_metrics(answer.get("metrics") or {}),
        teacher_metrics={},
        teacher_miou=None,
        retention=None,
        agreement=None,
    )
    return dataclasses.replace(entry, summary=summary, split=str(answer["split"]))


def settings(profile: Mapping[str, Any], *, without: Iterable[str] = ()) -> dict[str, Any]:
    """Flatten a profile to ``{"a.b": value}``, without the top-level keys in ``without``."""
    left_out = frozenset(without)
    flat: dict[str, Any] = {}
    for key, value in profile.items():
        if key in left_out:
            continue
        if isinstance(value, Mapping):
            flat |= {f"{key}.{below}": item for below, item in settings(value).items()}
        else:
            flat[key] = value
    return flat


def same(value: Any) -> str:
    """A text that is equal only for equal values of the same type; in Python, ``False == 0``."""
    try:
        return json.dumps(value, sort_keys=True, default=str)
    except ValueError:  # an integer with too many digits
        return json.dumps(jsonable(value), sort_keys=True, default=str)


def key(profile: Mapping[str, Any], *, without: Iterable[str] = ()) -> str:
    """Equal for profiles that differ only in what describes a run, and in the top-level keys in ``without``."""
    return same(settings(without_own_view_seed(profile), without=IDENTITY | {*without}))


def matched(entry: ComparedRun, others: Iterable[ComparedRun]) -> list[ComparedRun]:
    """Runs without distillation that differ from ``entry`` only in what describes it and in its treatment.

    Runs with a score come first, then newer ones.
    """
    baselines = [
        other
        for other in others
        if other.summary.id != entry.summary.id and not other.summary.distilled and other.matching == entry.matching
    ]
    return sorted(baselines, key=_scored_and_new, reverse=True)


def _scored_and_new(entry: ComparedRun) -> tuple[bool, float, str]:
    run = entry.summary
    return run.best_miou is not None, run.created or 0.0, run.id
