"""Checkpoints that could teach: best ones of runs, and files in folders; nothing of them is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdtui.errors import UsageError
from kdtui.launch.choices import owner
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore

ENDINGS = frozenset({".pth", ".pt", ".ckpt", ".safetensors", ".bin"})


@dataclass(frozen=True)
class TeacherRow:
    """One checkpoint; what only its tensors tell is None for a file that is no run's.

    Attributes:
        checkpoint: The file.
        run: Id of the run it belongs to.
        miou: Best validation mIoU of that run.
        bytes: Size of the file.
    """

    checkpoint: str
    run: str | None
    encoder: str | None
    architecture: str | None
    parameters: int | None
    miou: float | None
    bytes: int


def teacher_rows(
    store: RunStore, folders: Iterable[Path] = (), summaries: Iterable[RunSummary] | None = None
) -> list[TeacherRow]:
    """The checkpoints of the store's runs, oldest first, then those below ``folders``.

    Args:
        store: Whose runs are looked at.
        folders: Searched with everything below them.
        summaries: The store's rows where they are known already.

    Raises:
        UsageError: One of the folders is none.
    """
    rows = [row for run in (store.summaries() if summaries is None else summaries) if (row := _of_run(run)) is not None]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError("no such folder", found=folder)
        rows += _below(folder)
    return rows


def _of_run(run: RunSummary) -> TeacherRow | None:
    best = Run(run.path).best
    try:
        size = best.stat().st_size
    except OSError:  # none yet, or removed meanwhile
        return None
    return TeacherRow(str(best), run.id, run.encoder, run.architecture, run.parameters, run.best_miou, size)


def _below(folder: Path) -> Iterator[TeacherRow]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in ENDINGS and path.is_file() and os.access(path, os.R_OK) and owner(path) is None:
            yield TeacherRow(str(path), None, None, None, None, None, path.stat().st_size)
