"""What a Δ is worth beyond the numbers of the summaries: from counts per image and events, which take time to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kdtui.compare.bootstrap import Counts, bootstrap, read_counts
from kdtui.compare.comparison import Comparison
from kdtui.compare.entries import ComparedRun
from kdtui.compare.groups import Group
from kdtui.errors import StoreError
from kdtui.store.run import Run

_SAME_MIOU = 1e-3
"""Largest difference between the mIoU of counts and that of the run, of which another device may be the reason."""


def with_evidence(comparison: Comparison, entries: Sequence[ComparedRun]) -> Comparison:
    """The comparison with the intervals of single runs, or why they have none.

    Args:
        comparison: Of the entries.
        entries: Runs with their folders.
    """
    by_id = {entry.summary.id: entry for entry in entries}
    return replace(comparison, groups=tuple(_with_bootstrap(group, by_id) for group in comparison.groups))


def _with_bootstrap(group: Group, entries: Mapping[str, ComparedRun]) -> Group:
    if len(group.pairs) > 1:
        return group
    (pair,) = group.pairs
    try:
        difference = bootstrap(_counts(entries[pair.run]), _counts(entries[pair.baseline]))
    except StoreError as error:
        return replace(group, without_interval="; ".join(filter(None, (error.brief, error.hint))))
    return replace(group, interval=difference.miou, classes=difference.classes)


def _counts(entry: ComparedRun) -> Counts:
    """The counts of a run's best checkpoint.

    Raises:
        StoreError: There are none, or they are those of another checkpoint.
    """
    run, miou = Run(entry.summary.path), entry.summary.best_miou or 0.0
    counts = read_counts(run, entry.split)
    if abs(counts.miou - miou) > _SAME_MIOU:
        raise StoreError(
            "the counts per image are not those of the best epoch",
            where=run.counts(entry.split),
            found=f"mIoU {counts.miou:.4f}, not {miou:.4f}",
        )
    return counts
