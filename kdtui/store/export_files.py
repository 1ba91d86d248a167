"""Paths of exports, which are next to their checkpoint, of their reports, and of the work folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from kdtui.export_options import REPORT_SUFFIX, suffix
from kdtui.store.identity import hostname, start_ticks

_WORK = ".export-"
_DAY = 86400.0


def export_path(checkpoint: Path, precision: str) -> Path:
    """The path of a checkpoint's export: next to it, under its name; inside it for a ``save_pretrained`` folder."""
    folder, stem = (checkpoint, "model") if checkpoint.is_dir() else (checkpoint.parent, checkpoint.stem)
    return folder / (stem + suffix(precision))


def report_of(export: Path) -> Path:
    """The path of the report of an ONNX file."""
    return export.with_name(export.name + REPORT_SUFFIX)


@contextlib.contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A private temporary folder next to ``target``, on the same file system, so that the last step is a rename.

    Raises:
        OSError: It cannot be created.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_temporary(target.parent)
    work = target.parent / f"{_WORK}{hostname()}-{os.getpid()}-{start_ticks(os.getpid())}"
    try:
        work.mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def clear_temporary(folder: Path) -> None:
    """Remove work folders that killed exports left in ``folder``.

    The folder may be shared with other hosts, whose processes are not visible here: their work folders are removed if
    nothing was written in them for a day, which is longer than an export takes.
    """
    for left in folder.glob(f"{_WORK}*"):
        # Host names may contain dashes. Names without a host are from an older kdtui on an unknown host.
        *host, pid, ticks = ["", *left.name.removeprefix(_WORK).rsplit("-", 2)][-3:]
        if not (pid.isdecimal() and ticks.isdecimal()):
            continue  # not created by kdtui
        gone = str(start_ticks(int(pid))) != ticks if host == [hostname()] else _untouched(left)
        if gone:
            shutil.rmtree(left, ignore_errors=True)


def _untouched(folder: Path) -> bool:
    try:
        written = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:  # it is being removed, or there is no permission
        return False
    return time.time() - written > _DAY
