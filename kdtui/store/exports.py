"""Where exports lie: beside the checkpoint they come from, each with its report, and the folder they are made in."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from kdtui.exports import REPORT_SUFFIX, suffix
from kdtui.store.identity import start_ticks

_WORK = ".export-"


def export_path(checkpoint: Path, precision: str) -> Path:
    """Where the export of a checkpoint lies: beside it, under its name; in a ``save_pretrained`` folder, in it."""
    folder, stem = (checkpoint, "model") if checkpoint.is_dir() else (checkpoint.parent, checkpoint.stem)
    return folder / (stem + suffix(precision))


def report_of(export: Path) -> Path:
    """The report beside an ONNX file."""
    return export.with_name(export.name + REPORT_SUFFIX)


@contextlib.contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` for this process alone, so that the last step is a rename; gone afterwards.

    Raises:
        OSError: It cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_left(target.parent)
    work = target.parent / f"{_WORK}{os.getpid()}-{start_ticks(os.getpid())}"
    try:
        work.mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def clear_left(folder: Path) -> None:
    """Take away what exports of processes that are gone left in ``folder``: one that was killed tidies nothing."""
    for left in folder.glob(f"{_WORK}*"):
        pid, _, ticks = left.name.removeprefix(_WORK).partition("-")
        ours = pid.isdecimal() and ticks.isdecimal()  # a folder that only begins so is somebody else's
        if ours and str(start_ticks(int(pid))) != ticks:
            shutil.rmtree(left, ignore_errors=True)
