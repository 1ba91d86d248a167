"""What a Δ is worth beyond the numbers of the summaries: from counts per image and events, which take time to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kdtui.compare.bootstrap import difference
from kdtui.compare.comparison import Comparison
from kdtui.compare.entries import ComparedRun, by_score
from kdtui.compare.groups import Group, timed_note
from kdtui.compare.wallclock import EqualTime, equal_time
from kdtui.errors import StoreError
from kdtui.store.run import Run
from kdtui.text import score_title

_SAME_SCORE = 1e-3
"""Largest difference between the score of counts and that of the run, of which another device may be the reason."""


def with_evidence(
    comparison: Comparison, entries: Sequence[ComparedRun], *, wanted: Callable[[], bool] = lambda: True
) -> Comparison:
    """The comparison with the intervals of single runs, or why they have none.

    Args:
        comparison: Of the entries.
        entries: Runs with their folders.
        wanted: Asked before each group; the groups after the first False are unchanged.
    """
    by_id = {entry.summary.id: entry for entry in by_score(entries)}
    groups = [_with_time(_with_bootstrap(group, by_id), by_id) if wanted() else group for group in comparison.groups]
    timed = [_with_bootstrap(group, by_id) if wanted() else group for group in comparison.timed]
    notes = {timed_note(before): timed_note(after) for before, after in zip(comparison.timed, timed, strict=True)}
    return replace(
        comparison,
        groups=tuple(groups),
        timed=tuple(timed),
        notes=tuple(notes.get(note, note) for note in comparison.notes),
    )


def _with_time(group: Group, entries: Mapping[str, ComparedRun]) -> Group:
    pairs = [(entries[pair.run], entries[pair.baseline]) for pair in group.pairs]
    if pairs[0][0].split != "val":
        return group
    try:
        return replace(group, equal_time=equal_time(pairs))
    except StoreError as error:
        return replace(group, equal_time=EqualTime(reason=error.brief))


def _with_bootstrap(group: Group, entries: Mapping[str, ComparedRun]) -> Group:
    if len(group.pairs) > 1:
        return group
    (pair,) = group.pairs
    run, baseline = entries[pair.run], entries[pair.baseline]
    try:
        found = difference(Run(run.summary.path), Run(baseline.summary.path), run.split, run.score)
    except StoreError as error:
        return replace(group, without_interval="; ".join(filter(None, (error.brief, error.hint))))
    for entry, counted, score in zip((run, baseline), found.scores, (pair.miou, pair.baseline_miou), strict=True):
        if abs(counted - score) > _SAME_SCORE:
            title = score_title(run.score)
            reason = f"the counts per image of {entry.summary.id} give {title} {counted:.4f}, not {score:.4f}"
            return replace(group, without_interval=reason)
    return replace(group, interval=found.score, classes=found.classes)
