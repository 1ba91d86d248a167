"""The run to compare with one run: its matched baseline, or the run that the user chose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdtui.compare import ComparedRun, matched
from kdtui.errors import AmbiguousRun, RunNotFound, StoreError, UsageError
from kdtui.store.run import Run
from kdtui.store.state import RunSummary

MOST_READ = 400
"""Most profiles read to find a run to compare with, the likeliest first; each takes 1 ms."""


@dataclass(frozen=True)
class Partner:
    """The run to compare with.

    Attributes:
        why: Why this run was selected.
        trouble: Why its profile cannot be used; empty if it can.
    """

    run_id: str
    why: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


def beside(run: Run, why: str) -> Partner:
    """Read the profile of the run to compare with."""
    try:
        return Partner(run.id, why, run.profile_table())
    except StoreError as error:
        return Partner(run.id, why, trouble=error.brief)


def partner(
    own: RunSummary, profile: Mapping[str, Any], rows: Iterable[RunSummary], over: Callable[[], bool]
) -> Partner | None:
    """The matched baseline of a distilled run, or for a run without a teacher a distilled run that it matches.

    Args:
        own: The run.
        profile: Its profile as tables.
        rows: Runs of the store.
        over: Returns whether the search was cancelled.
    """
    mine = ComparedRun(own, profile)
    alike = [
        row
        for row in rows
        if row.id != own.id
        and row.distilled != own.distilled
        and (row.encoder, row.architecture, row.seed) == (own.encoder, own.architecture, own.seed)
    ]
    alike.sort(key=lambda row: (row.best_miou is not None, row.created or 0.0, row.id), reverse=True)
    for row in alike[:MOST_READ]:
        if over():
            return None
        try:
            table = Run(row.path).profile_table()
        except StoreError:  # skip a damaged folder
            continue
        theirs = ComparedRun(row, table)
        if own.distilled and matched(mine, [theirs]):
            return Partner(row.id, "its matched baseline", table)
        if not own.distilled and matched(theirs, [mine]):
            return Partner(row.id, "distilled, otherwise the same", table)
    return None


def find(text: str, own: str, rows: Mapping[str, RunSummary], order: Sequence[str]) -> str:
    """Find a run by its id, its name, or a prefix of its id.

    Args:
        text: The typed text.
        own: Id of the current run.
        rows: All runs by id.
        order: Ids, newest first.

    Raises:
        UsageError: No other run or several runs match.
    """
    text = text.strip()
    found = [key for key in order if text == key] or [key for key in order if rows[key].name == text != ""]
    found = found or [key for key in order if text and key.startswith(text)]
    others = [key for key in found if key != own]
    if not others:
        if found:
            raise UsageError("cannot compare a run with itself", found=text)
        raise RunNotFound(f"No run matches '{text}'", allowed="an id, a name, or the beginning of an id")
    if len(others) > 1:
        some = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise AmbiguousRun(f"{len(others)} runs match '{text}'", found=some)
    return others[0]
