"""Seeds: runs that differ only in their seed and teacher, and their Δ to baselines of the same seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kdtui.compare.entries import ComparedRun, key
from kdtui.compare.named import called
from kdtui.compare.statistics import Interval, over_seeds
from kdtui.compare.wallclock import EqualTime
from kdtui.profile.matched import untreated


@dataclass(frozen=True)
class Aggregate:
    """Statistics over runs that differ only in their seed.

    Attributes:
        ids: The newest run of each seed.
        miou: Mean score, see :class:`kdtui.compare.Comparison`.
        miou_sd: Sample standard deviation of the score.
        delta: Mean of the runs' Δ; None if one of them has none.
        delta_sd: Sample standard deviation of Δ.
    """

    name: str
    ids: tuple[str, ...]
    seeds: tuple[int | None, ...]
    n: int
    miou: float
    miou_sd: float
    delta: float | None
    delta_sd: float | None


@dataclass(frozen=True)
class Pair:
    """A run and its baseline.

    Attributes:
        seed: Of the run.
        miou: Score of the run, as ``baseline_miou`` of the baseline.
        delta: Their difference.
    """

    seed: int | None
    run: str
    baseline: str
    miou: float
    baseline_miou: float
    delta: float


@dataclass(frozen=True)
class Group:
    """Runs that differ only in seed and teacher, each with its baseline.

    Attributes:
        name: A distinct name.
        pairs: By seed.
        miou: Mean score over the pairs, as ``baseline_miou`` and ``delta``.
        miou_sd: Sample standard deviation, as ``baseline_sd``; None for one pair.
        interval: Of Δ; over seeds for several pairs, otherwise of the paired bootstrap. None if there is none.
        classes: Intervals of the IoU of each class.
        without_interval: Why there is no interval; otherwise empty.
        seeds_without_baseline: Seeds of scored runs that have no scored baseline.
        seeds_of_baselines_only: Seeds of scored matched baselines without a scored run.
        equal_time: Δ at equal wall-clock time; None if it was not computed, or for another split than ``val``.
        baseline_epochs: Epochs of baselines of ``--equal-time``; None for other baselines.
    """

    name: str
    pairs: tuple[Pair, ...]
    miou: float
    miou_sd: float | None
    baseline_miou: float
    baseline_sd: float | None
    delta: float
    interval: Interval | None = None
    classes: Mapping[str, Interval] = field(default_factory=dict)
    without_interval: str = ""
    seeds_without_baseline: tuple[int | None, ...] = ()
    seeds_of_baselines_only: tuple[int | None, ...] = ()
    equal_time: EqualTime | None = None
    baseline_epochs: int | None = None

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of its runs, without those of the baselines."""
        return tuple(pair.run for pair in self.pairs)


def aggregates(entries: Sequence[ComparedRun], deltas: Mapping[str, float | None]) -> tuple[Aggregate, ...]:
    """The groups of two or more seeds.

    Args:
        entries: The runs.
        deltas: Δ of each run, by id.
    """
    groups = []
    arms = _by_seed(entries)
    names = _names(arms)
    for members in arms:
        if len(members) < 2:
            continue
        ids = tuple(entry.summary.id for entry in members)
        own = [delta for run in ids if (delta := deltas[run]) is not None]
        whole = len(own) == len(ids)
        groups.append(
            Aggregate(
                name=names[ids[-1]],
                ids=ids,
                seeds=tuple(entry.summary.seed for entry in members),
                n=len(members),
                miou=statistics.fmean(map(_score, members)),
                miou_sd=statistics.stdev(map(_score, members)),
                delta=statistics.fmean(own) if whole else None,
                delta_sd=statistics.stdev(own) if whole else None,
            )
        )
    return tuple(groups)


def groups(entries: Sequence[ComparedRun], chosen: Mapping[str, str]) -> tuple[Group, ...]:
    """The groups of runs with baselines, with intervals over seeds for groups of several pairs.

    Args:
        entries: The runs, best first.
        chosen: Id of a run to that of its baseline.
    """
    by_id = {entry.summary.id: entry for entry in entries}
    arms = _by_seed(entries)
    names = called(entry.summary for entry in entries) | _names(arms)
    found = []
    for members in arms:
        partners = [by_id[base] if (base := chosen.get(one.summary.id)) is not None else None for one in members]
        pairs = [
            (one, base)
            for one, base in zip(members, partners, strict=True)
            if base is not None and base.value is not None
        ]
        if pairs:
            paired = {one.summary.seed for one, _ in pairs}
            first = pairs[0][0]
            alone = [
                base.summary.seed
                for arm in arms
                for base in arm
                if first.summary.distilled
                and not base.summary.distilled
                and base.summary.seed not in paired
                and base.matching_any_seed == first.matching_any_seed
            ]
            unpaired = [one.summary.seed for one in members if one.summary.seed not in paired]
            found.append(_group(names[members[-1].summary.id], pairs, unpaired, alone))
    return tuple(found)


def timed_groups(entries: Sequence[ComparedRun]) -> tuple[Group, ...]:
    """The groups of distilled runs with their baselines of ``--equal-time``, of the same seed but with other epochs."""

    def without_epochs(entry: ComparedRun) -> str:
        table = untreated(entry.profile)
        training = {name: value for name, value in table.get("training", {}).items() if name != "epochs"}
        return key({**table, "training": training})

    baselines: dict[str, dict[int | None, list[ComparedRun]]] = {}
    for one in entries:
        if "-equal-time-" in one.summary.name and not one.summary.distilled and one.value is not None:
            baselines.setdefault(without_epochs(one), {}).setdefault(one.summary.epochs, []).append(one)
    arms = _by_seed(one for one in entries if one.summary.distilled)
    names = called(entry.summary for entry in entries) | _names(arms)
    found = []
    for members in arms:
        by_epochs: dict[int | None, list[tuple[ComparedRun, ComparedRun]]] = {}
        for one in members:
            for epochs, bases in baselines.get(without_epochs(one), {}).items():
                by_epochs.setdefault(epochs, []).append((one, max(bases, key=_age)))
        for pairs in by_epochs.values():
            unpaired = [one.summary.seed for one in members if all(one is not run for run, _ in pairs)]
            name = names[members[-1].summary.id]
            found.append(_group(name, pairs, unpaired, (), epochs=pairs[0][1].summary.epochs))
    return tuple(found)


def timed_note(group: Group) -> str:
    """The Δ of such a group in words."""
    bases = ", ".join(pair.baseline for pair in group.pairs)
    against = f"against {bases}, for equal time ({group.baseline_epochs} epochs)"
    name = group.name if len(group.pairs) > 1 else group.pairs[0].run
    if group.interval is not None:
        return f"{name} {against}: {group.interval.text}"
    return f"{name}: Δ {group.delta:+.4f} {against}"


def left_out(entries: Iterable[ComparedRun]) -> list[str]:
    """Notes on scored runs that are in no group because a newer run has the same settings and seed."""
    return [
        f"in no group, since {new.summary.id} has the same settings and seed and is newer: "
        + ", ".join(old.summary.id for old in older)
        for arm in _arms(entries)
        for *older, new in arm.values()
        if older
    ]


@dataclass(frozen=True)
class _Arm:
    """Runs of several seeds, as :func:`kdtui.compare.named.called` names runs."""

    id: str
    name: str
    method: str | None
    seed: int | None = None


def _names(arms: Iterable[Sequence[ComparedRun]]) -> dict[str, str]:
    """Names of runs of several seeds, by the id of the last: distinct among distilled ones, and among the others."""
    last = [arm[-1].summary for arm in arms if len(arm) > 1]
    kinds = [[_Arm(run.id, run.name, run.method) for run in last if run.distilled is kind] for kind in (True, False)]
    return {run_id: name for kind in kinds for run_id, name in called(kind).items()}


def _group(
    name: str,
    pairs: Sequence[tuple[ComparedRun, ComparedRun]],
    unpaired: Sequence[int | None],
    alone: Sequence[int | None],
    *,
    epochs: int | None = None,
) -> Group:
    several = len(pairs) > 1
    by_seed = all(one.summary.seed == base.summary.seed for one, base in pairs)
    mious, base_mious = ([_score(entry) for entry in side] for side in zip(*pairs, strict=True))
    deltas = [own - base for own, base in zip(mious, base_mious, strict=True)]
    classes = {
        label: [one.summary.best_iou[label] - base.summary.best_iou[label] for one, base in pairs]
        for label in pairs[0][0].summary.best_iou
        if all(label in entry.summary.best_iou for pair in pairs for entry in pair)
    }
    intervals = {label: over_seeds(values) for label, values in classes.items()} if by_seed else {}
    return Group(
        name=name,
        pairs=tuple(
            Pair(one.summary.seed, one.summary.id, base.summary.id, _score(one), _score(base), delta)
            for (one, base), delta in zip(pairs, deltas, strict=True)
        ),
        miou=statistics.fmean(mious),
        miou_sd=statistics.stdev(mious) if several else None,
        baseline_miou=statistics.fmean(base_mious),
        baseline_sd=statistics.stdev(base_mious) if several else None,
        delta=statistics.fmean(deltas),
        interval=over_seeds(deltas) if by_seed else None,
        classes={label: interval for label, interval in intervals.items() if interval is not None},
        without_interval="the baseline has another seed" if several and not by_seed else "",
        seeds_without_baseline=tuple(unpaired),
        seeds_of_baselines_only=tuple(alone),
        baseline_epochs=epochs,
    )


def _by_seed(entries: Iterable[ComparedRun]) -> list[list[ComparedRun]]:
    """Scored runs that differ only in seed and teacher, since each seed may have its own: the newest of each seed."""
    return [
        [arm[seed][-1] for seed in sorted(arm, key=lambda seed: -1 if seed is None else seed)] for arm in _arms(entries)
    ]


def _arms(entries: Iterable[ComparedRun]) -> list[dict[int | None, list[ComparedRun]]]:
    """All scored runs that differ only in seed and teacher, by seed, the newest last."""
    arms: dict[str, dict[int | None, list[ComparedRun]]] = {}
    for entry in entries:
        if entry.value is not None:
            arm = arms.setdefault(key(entry.profile, without=("seed", "teacher")), {})
            arm.setdefault(entry.summary.seed, []).append(entry)
    return [{seed: sorted(runs, key=_age) for seed, runs in arm.items()} for arm in arms.values()]


def _score(entry: ComparedRun) -> float:
    return entry.value or 0.0


def _age(entry: ComparedRun) -> tuple[float, str]:
    return entry.summary.created or 0.0, entry.summary.id
