"""Disk usage of runs, and the training states of ended runs that nothing needs any more."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kdtui.errors import StoreError, UsageError
from kdtui.events import Finished
from kdtui.store.aside import SWEEPS
from kdtui.store.checkpoint_files import damage
from kdtui.store.files import is_safe, reading, remedy, try_lock
from kdtui.store.run import Run
from kdtui.store.scan import scan
from kdtui.store.state import RunSummary, State
from kdtui.store.store import RunStore
from kdtui.text import one_line

Keep = Literal["best", "last"]
KEEPS: tuple[Keep, ...] = get_args(Keep)
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}


@dataclass(frozen=True)
class Usage:
    """Disk usage of a run in bytes; several hard links to one file are counted once."""

    checkpoints: int = 0
    exports: int = 0
    pictures: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.checkpoints + self.exports + self.pictures + self.other


@dataclass(frozen=True)
class Collectable:
    """The files of a run that can be removed.

    Attributes:
        files: In the order of removal: the newest state last, so that a run is never resumed from an older one.
        bytes: What their removal frees.
        needed: Checkpoints that stay because of other runs: file name to the id of one of these runs.
    """

    run: Run
    files: tuple[Path, ...]
    bytes: int
    needed: Mapping[str, str]


def usage(run: Run) -> Usage:
    """Measure a run folder; files that disappear while it reads are left out."""
    sizes = {"checkpoints": 0, "exports": 0, "pictures": 0, "other": 0}
    counted: set[tuple[int, int]] = set()
    for path, status in _files(run.path):
        if (status.st_dev, status.st_ino) in counted:
            continue
        counted.add((status.st_dev, status.st_ino))
        sizes[_kind(run, path)] += status.st_size
    return Usage(**sizes)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()


def _kind(run: Run, path: Path) -> str:
    if path.is_relative_to(run.visualizations):
        return "pictures"
    if path.parent != run.checkpoints:
        return "other"
    return "checkpoints" if path.suffix == ".pth" else "exports"


def seconds(text: str) -> float:
    """Read an age such as ``30d``, ``12h`` or ``2w``.

    Raises:
        UsageError: It is none.
    """
    number, unit = text[:-1], text[-1:]
    try:
        age = float(number) * _DAYS[unit] * 86400
    except (KeyError, ValueError):
        age = -1.0
    if not 0 <= age < float("inf"):
        raise UsageError(
            "not an age",
            where="--older",
            found=one_line(text),
            allowed="a number and h, d or w",
            hint="`kdtui gc --older 30d`",
        )
    return age


def collectable(
    store: RunStore, runs: Iterable[Run] | None = None, *, keep: Keep = "best", older: float = 0.0
) -> list[Collectable]:
    """Find the training states that can be removed.

    Of finished and pruned runs with an intact ``best_model.pth``: ``last.pth`` and the checkpoints of epochs, except
    those from which another run was started or distilled. A pruned run of a search that has not finished keeps them,
    as it is trained on if the winner is over the budget.

    Args:
        store: The runs that may need checkpoints of each other.
        runs: Only these; None for all.
        keep: ``best`` also removes ``last.pth``, without which a run cannot be resumed; ``last`` keeps it.
        older: Seconds since the last event of a run.

    Raises:
        StoreError: The manifest of a run is damaged, so it is unknown which checkpoints it needs.
    """
    needed = _needed(store)
    chosen = store.runs() if runs is None else list(runs)
    latest = time.time() - older
    found = []
    for summary in store.summaries(chosen):
        run = Run(summary.path)
        if _ended(store, summary, latest) and not run.path.is_symlink() and damage(run.best) is None:
            found.append(_of(run, keep, needed))
    return [one for one in found if one.files]


def _ended(store: RunStore, summary: RunSummary, latest: float) -> bool:
    over = summary.state is State.FINISHED or (summary.pruned and not _continues(store, summary.sweep))
    return over and summary.last_event is not None and summary.last_event <= latest


def _continues(store: RunStore, sweep: str | None) -> bool:
    """Whether a sweep or search with a controller has not finished."""
    if sweep is None or not is_safe(sweep):
        return False
    events = Run(store.root / SWEEPS / sweep).events_path
    return events.is_file() and not isinstance(scan(events).word, Finished)


def _needed(store: RunStore) -> dict[tuple[str, str], str]:
    """Run and file name of each checkpoint that another run names, and the id of that run."""
    needed: dict[tuple[str, str], str] = {}
    for run in store.runs():
        try:
            manifest = run.manifest()
        except StoreError as error:
            raise StoreError(
                "the manifest of a run is damaged, so it is unknown which checkpoints it needs",
                where=run.manifest_path,
                found=error.what,
                hint=f"restore that file, or `kdtui remove {one_line(run.id)}`",
            ) from error
        entries = [*manifest.teachers, *([manifest.weights] if isinstance(manifest.weights, Mapping) else ())]
        paths = [*(entry.get("checkpoint") for entry in entries), manifest.resume_from]
        for path in (Path(path) for path in paths if isinstance(path, str)):
            owner = path.parent.parent.name  # by its id, as a store may have been moved
            if owner != run.id:
                needed.setdefault((owner, path.name), run.id)
    return needed


def _of(run: Run, keep: Keep, needed: Mapping[tuple[str, str], str]) -> Collectable:
    states = [*run.epoch_checkpoints(), *([run.last] if keep == "best" and run.last.exists() else ())]
    by_others = {path.name: needed[run.id, path.name] for path in states if (run.id, path.name) in needed}
    files = tuple(path for path in states if path.name not in by_others)
    return Collectable(run, files, _freed(files), by_others)


def _freed(files: Iterable[Path]) -> int:
    """Bytes of the files of which all hard links are removed."""
    links: dict[tuple[int, int], int] = {}
    freed = 0
    for path in files:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        key = status.st_dev, status.st_ino
        links[key] = links.get(key, 0) + 1
        if links[key] == status.st_nlink:
            freed += status.st_size
    return freed


def collect(store: RunStore, one: Collectable) -> int:
    """Remove the files, unless the run was resumed since they were found.

    Returns:
        The bytes freed.

    Raises:
        UsageError: The run is queued or running.
        StoreError: A file could not be removed.
    """
    busy = UsageError("a queued or running run keeps its files", found=one.run.id, hint=f"kdtui stop {one.run.id}")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):  # never launched on this machine
            file = stack.enter_context(reading(one.run.beat_path))
            if not try_lock(file.fileno()):
                raise busy
        if not _ended(store, store.summary(one.run), time.time()):
            raise busy
        freed = _freed(one.files)
        for path in one.files:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(
                    "a checkpoint could not be removed", where=path, found=error.strerror, hint=remedy(error)
                ) from error
    return freed
