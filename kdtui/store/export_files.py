"""Paths of exports: next to their checkpoint, each with its report, and the folder in which they are made."""

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
    """A folder next to ``target`` for this process alone, so that the last step is a rename; removed afterwards.

    Raises:
        OSError: It cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_left(target.parent)
    work = target.parent / f"{_WORK}{hostname()}-{os.getpid()}-{start_ticks(os.getpid())}"
    try:
        work.mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def clear_left(folder: Path) -> None:
    """Take away what exports of processes that are gone left in ``folder``: one that was killed tidies nothing.

    The folder may be shared with other hosts, whose processes cannot be seen from here: what one of them left is taken
    away once nothing was written in it for a day, which is longer than an export takes.
    """
    for left in folder.glob(f"{_WORK}*"):
        # A host's name may hold dashes. Names without a host are those of an older kdtui, on whichever host.
        *host, pid, ticks = ["", *left.name.removeprefix(_WORK).rsplit("-", 2)][-3:]
        if not (pid.isdecimal() and ticks.isdecimal()):
            continue  # a folder with the same prefix that kdtui did not make
        gone = str(start_ticks(int(pid))) != ticks if host == [hostname()] else _untouched(left)
        if gone:
            shutil.rmtree(left, ignore_errors=True)


def _untouched(folder: Path) -> bool:
    try:
        written = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:  # it is being removed, or there is no permission
        return False
    return time.time() - written > _DAY
