"""Requests to read every sample of a profile's data, and what a pre-flight check says about that."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import UsageError
from kdtui.launch.engine_process import EngineStep, converse
from kdtui.launch.launcher import Check
from kdtui.processes import cores
from kdtui.store.data_checks import NEEDED, SPLITS, current, kept_checks
from kdtui.text import counted

if TYPE_CHECKING:
    from kdtui.profile import Profile

ALL_DATA = "all data"
"""Name of the pre-flight check."""
_HINT = "`kdtui data PROFILE` shows them"


def check_data(
    profile: Profile,
    root: Path,
    *,
    splits: Sequence[str] = (),
    sheet: Path | None = None,
    on_step: Callable[[EngineStep], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Read every sample in an engine process; returns its report, see ``docs/data.md``.

    Args:
        profile: The profile.
        root: The run store, in which the result is kept.
        splits: Names of splits; by default training, validation and, if there is one, test.
        sheet: File of the contact sheet; by default one in the run store.
        on_step: Called with each progress step.
        cancelled: Polled ten times a second.

    Raises:
        UsageError: There is no such split.
        Interrupted: It was cancelled; what was read is kept.
        KdtuiError: The engine reported an error.
    """
    from kdtui.profile import absolute, dump

    for name in splits:
        if name not in SPLITS:
            raise UsageError("no such split", where="--split", found=name, allowed=", ".join(SPLITS))
    with tempfile.TemporaryDirectory(prefix="kdtui-") as work:
        own, request = Path(work) / "profile.toml", Path(work) / "request.json"
        own.write_bytes(dump(absolute(profile)))
        content = {
            "profile": str(own),
            "root": str(root),
            "splits": list(dict.fromkeys(splits)),
            "sheet": "" if sheet is None else str(sheet.absolute()),
            "processes": cores(),
        }
        request.write_text(json.dumps(content), encoding="utf-8")
        return converse("data", str(request), on_step=on_step, cancelled=cancelled)


def headline(report: Mapping[str, Any]) -> str:
    """Samples and classes of a report, in one line."""
    names = ", ".join(f"{facts['samples']} {name}" for name, facts in report["splits"].items() if facts["samples"])
    again = report["samples"] - report["read"]
    earlier = f"; {counted(again, 'sample')} read earlier" if again else ""
    classes = counted(len(report["classes"]), "class")
    return f"{counted(report['samples'], 'sample')} ({names or 'none'}), {classes}{earlier}"


def kept_check(profile: Profile, root: Path, surveyed: Mapping[str, Sequence[int]]) -> Check | None:
    """What a pre-flight check says about samples beyond those that it reads itself; None if it read all of them.

    Args:
        profile: The profile, with absolute paths.
        root: The run store.
        surveyed: Samples that the engine's check read, and all samples, of each split; empty if it could not read one.
    """
    kept = kept_checks(root, profile.data)
    valid = {name: kept[name] for name in NEEDED if name in kept and current(profile.data, name, kept[name])}
    errors = [error for check in valid.values() for error in check.errors]
    if errors:
        return Check(ALL_DATA, False, "\n  ".join(errors), _HINT)
    partial = {name: counts for name, counts in surveyed.items() if counts[0] < counts[1]}
    if {*NEEDED} <= valid.keys():
        samples = sum(check.samples for check in valid.values())
        day = time.strftime("%Y-%m-%d", time.localtime(min(check.time for check in valid.values())))
        warnings = sum(check.warnings for check in valid.values())
        words = "nothing wrong" if not warnings else f"{counted(warnings, 'warning')}: {_HINT}"
        return Check(ALL_DATA, True, f"all {counted(samples, 'sample')} were read on {day}, {words}")
    if not partial:
        return None
    read = ", ".join(f"{some} of {total:,} {name} samples" for name, (some, total) in partial.items())
    changed = "; the files changed since all were read" if {*NEEDED} <= kept.keys() else ""
    return Check(ALL_DATA, True, f"only {read} read{changed}; `kdtui data PROFILE` reads all")
