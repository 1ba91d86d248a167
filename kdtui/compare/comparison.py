"""The comparison of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdtui.compare.entries import ComparedRun, by_score, matched, same, settings
from kdtui.compare.groups import Aggregate, Group, aggregates, groups, left_out, timed_groups, timed_note
from kdtui.compare.measured import measured_apart, measured_columns
from kdtui.errors import UsageError
from kdtui.profile.matched import IDENTITY
from kdtui.store.state import State
from kdtui.text import score_title


@dataclass(frozen=True)
class Row:
    """One run in a comparison.

    Attributes:
        rank: 1 for the best score; None without one.
        miou: Validation mIoU at the best epoch.
        iou: IoU per class at that epoch.
        retention: Score divided by the teacher's score.
        compression: Parameters of the teacher divided by those of the run.
        baseline: Id of the run that ``delta_baseline`` refers to; None without one.
        delta_baseline: Score minus the baseline's score.
        macs: Multiply-accumulates for one image; None for a run that was not measured, as the two below.
        latency: Median time for one image in torch, in seconds.
        speedup: The teacher's latency divided by this one, measured in the same series.
        method: Kinds of its distillation terms; None without distillation.
        score: By which the runs are ranked, see :class:`Comparison`.
        metrics: Further scores at the best epoch, by name.
    """

    id: str
    name: str
    state: str
    encoder: str | None
    parameters: int | None
    seed: int | None
    epoch: int | None
    distilled: bool
    temperature: float | None
    alpha: float | None
    rank: int | None
    miou: float | None
    iou: Mapping[str, float]
    retention: float | None
    compression: float | None
    baseline: str | None
    delta_baseline: float | None
    macs: int | None = None
    latency: float | None = None
    speedup: float | None = None
    method: str | None = None
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The compared runs, best first, and their differing settings.

    Attributes:
        baseline: The run that every Δ refers to; None if there is none, or one per seed.
        differing: Profile key to its value in each row, in row order; None if a profile does not have the key.
        aggregates: Groups of two or more seeds.
        groups: Runs of one profile, by seed, with their baselines; best first.
        notes: Remarks, one sentence each.
        score: Name of the score by which runs are ranked and of which each Δ is: the one that determines the best epoch
            of all runs, ``miou`` unless their kind of network has another one.
        timed: As ``groups``, with baselines of ``--equal-time``, which differ in their epochs; each has a note.
    """

    baseline: str | None
    rows: tuple[Row, ...]
    differing: Mapping[str, tuple[Any, ...]]
    aggregates: tuple[Aggregate, ...]
    notes: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    score: str = "miou"
    timed: tuple[Group, ...] = ()


def compare(entries: Sequence[ComparedRun], baseline: str | None = None) -> Comparison:
    """Compare runs.

    Args:
        entries: The runs.
        baseline: Id of one of them that every Δ refers to; default: the matched baseline of each distilled run.

    Raises:
        UsageError: ``baseline`` is not one of them.
    """
    entries = by_score(entries)
    by_id = {entry.summary.id: entry for entry in entries}
    if baseline is not None and baseline not in by_id:
        raise UsageError("the baseline is not among the compared runs", found=baseline, allowed=", ".join(by_id))
    notes = [entry.unmeasured for entry in entries if entry.unmeasured]
    chosen = _baselines(entries, baseline, notes)
    notes += _unequal(entries, chosen)
    timed = timed_groups(entries)
    notes += map(timed_note, timed)
    notes += left_out(entries)
    notes += _weak_teachers(entries)
    notes += classes_apart(entries)
    notes += measured_apart(entry.measurements for entry in entries)
    notes += _warnings(entries)
    teacher = _teacher(entries)
    ranked = sorted(entries, key=lambda entry: (_descending(entry.value), entry.summary.id))
    rows = tuple(
        _row(entry, None if entry.value is None else rank, by_id, chosen, teacher)
        for rank, entry in enumerate(ranked, start=1)
    )
    bases = {row.baseline for row in rows if row.baseline is not None}
    return Comparison(
        baseline=baseline or (bases.pop() if len(bases) == 1 else None),
        rows=rows,
        differing=_differing(ranked),
        aggregates=aggregates(ranked, {row.id: row.delta_baseline for row in rows}),
        notes=tuple(notes),
        groups=groups(ranked, chosen),
        score=entries[0].score if entries else "miou",
        timed=timed,
    )


def _descending(value: float | None) -> float:
    return float("inf") if value is None else -value


def _baselines(entries: Sequence[ComparedRun], baseline: str | None, notes: list[str]) -> dict[str, str]:
    """Run id to the id of its baseline."""
    if baseline is not None:
        return {entry.summary.id: baseline for entry in entries if entry.summary.id != baseline}
    chosen: dict[str, str] = {}
    distilled = [entry for entry in entries if entry.summary.distilled]
    for entry in distilled:
        candidates = matched(entry, entries)
        if candidates:
            chosen[entry.summary.id] = candidates[0].summary.id
        else:
            notes.append(
                f"{entry.summary.id} has no Δ: no matched baseline among these runs"
                " (a run whose profile differs only in teacher and distillation)"
            )
        if len(candidates) > 1:
            notes.append(f"{entry.summary.id} has {len(candidates)} matched baselines; the newest is used")
    if not distilled:
        notes.append("no Δ: none of these runs is distilled; --baseline RUN chooses any run as baseline")
    return chosen


def _unequal(entries: Sequence[ComparedRun], chosen: Mapping[str, str]) -> list[str]:
    """Notes on Δ that are not comparable although the profiles match: unfinished runs, or other epoch counts."""
    by_id = {entry.summary.id: entry.summary for entry in entries}
    unequal = []
    for run_id, base_id in chosen.items():
        run, base = by_id[run_id], by_id[base_id]
        unfinished = [one for one in (run, base) if one.state is not State.FINISHED]
        if unfinished:
            states = " and ".join(f"{one.id} is {one.state.word}" for one in unfinished)
            unequal.append(f"{states}: Δ of {run_id} is not final")
        elif run.epochs != base.epochs:
            unequal.append(f"{run_id} has {run.epochs} epochs but its baseline {base.epochs}: Δ is not matched")
    return unequal


def _weak_teachers(entries: Sequence[ComparedRun]) -> list[str]:
    """Notes on runs that are better than their teacher, whose retention says nothing about the distillation."""
    return [
        f"{entry.summary.id} is better than its teacher ({score_title(entry.score)} {teacher:.4f}): check the teacher"
        for entry in entries
        if (teacher := entry.teacher_value) and entry.value is not None and entry.value > teacher
    ]


def _warnings(entries: Sequence[ComparedRun]) -> list[str]:
    """Notes with the warnings of the runs; a warning of several runs is one note."""
    runs_by_message: dict[str, list[str]] = {}
    for entry in entries:
        for warning in entry.summary.warnings:
            runs_by_message.setdefault(str(warning["message"]), []).append(entry.summary.id)
    return [f"warning in {', '.join(runs)}: {message}" for message, runs in runs_by_message.items()]


def classes_apart(entries: Sequence[ComparedRun]) -> list[str]:
    """A note if the mIoU of the runs is the mean over different classes; otherwise empty."""
    scored = [entry for entry in entries if entry.summary.best_iou]
    same_data: dict[str, list[frozenset[str]]] = {}
    for entry in scored:
        same_data.setdefault(_validation(entry), []).append(frozenset(entry.summary.best_iou))
    groups: dict[frozenset[str], list[str]] = {}
    for entry in scored:
        # A class without pixels has no score unless a run predicts it, so on the same data a missing class is ignored.
        all_sets = same_data[_validation(entry)]
        most = max(all_sets, key=len)
        own = frozenset(entry.summary.best_iou)
        groups.setdefault(most if frozenset.union(*all_sets) == most else own, []).append(entry.summary.id)
    if len(groups) < 2:
        return []
    common = frozenset.intersection(*groups)
    own_classes = [f"{', '.join(ids)}: {_some(sorted(names - common))}" for names, ids in groups.items()]
    return [
        "these runs have different classes, so their mIoU is not comparable; classes that not all have: "
        + "; ".join(own_classes)
    ]


def _some(names: Sequence[str], most: int = 6) -> str:
    return (", ".join(names[:most]) or "none") + (f", … ({len(names)})" if len(names) > most else "")


def _teacher(entries: Sequence[ComparedRun]) -> ComparedRun | None:
    """A distilled run with the only teacher of this comparison; None if there are several teachers or none."""
    taught = [entry for entry in entries if entry.teacher_value is not None]
    checkpoints = {entry.summary.teacher_checkpoint for entry in taught}
    return taught[0] if len(checkpoints) == 1 else None


def _validation(entry: ComparedRun) -> str:
    """Key of the data on which a run's mIoU was measured."""
    from kdtui.profile.data_tables import training_keys

    data = entry.profile.get("data", {})
    without = training_keys(data.get("kind"))
    return same({key: value for key, value in data.items() if key not in without})


def _row(
    entry: ComparedRun,
    rank: int | None,
    by_id: Mapping[str, ComparedRun],
    chosen: Mapping[str, str],
    teacher: ComparedRun | None,
) -> Row:
    run = entry.summary
    base = chosen.get(run.id)
    base_value = None if base is None else by_id[base].value
    # A run without a teacher is compared with the only teacher, if both were validated on the same data.
    lender = teacher if entry.teacher_value is None else entry
    teacher_parameters = None if lender is None else lender.summary.teacher_parameters
    teacher_value = None
    if lender is not None and _validation(lender) == _validation(entry):
        teacher_value = lender.teacher_value
    return Row(
        id=run.id,
        name=run.name,
        state=run.state.word,
        encoder=run.encoder,
        parameters=run.parameters,
        seed=run.seed,
        epoch=run.epoch,
        distilled=run.distilled,
        temperature=run.temperature,
        alpha=run.alpha,
        rank=rank,
        miou=run.best_miou,
        iou=dict(run.best_iou),
        retention=entry.value / teacher_value if entry.value is not None and teacher_value else None,
        compression=teacher_parameters / run.parameters if teacher_parameters and run.parameters else None,
        baseline=base,
        delta_baseline=None if entry.value is None or base_value is None else entry.value - base_value,
        score=entry.value,
        metrics=dict(run.best_metrics),
        **measured_columns(entry.measurements),
        method=run.method,
    )


def _differing(entries: Sequence[ComparedRun]) -> dict[str, tuple[Any, ...]]:
    from kdtui.profile.tables import KL_WEIGHTS

    flat = [settings(entry.profile, without=IDENTITY) for entry in entries]
    keys = list(dict.fromkeys(key for table in flat for key in table))
    columns = {key: tuple(table.get(key) for table in flat) for key in keys}
    # A profile with terms has no weights of the KL: only the other profiles can differ in them.
    by_weights = [table.get("distillation.terms") is None for table in flat]
    of_weights = {f"distillation.{key}" for key in KL_WEIGHTS}
    return {
        key: values
        for key, values in columns.items()
        if len({same(value) for value, own in zip(values, by_weights, strict=True) if own or key not in of_weights}) > 1
    }
