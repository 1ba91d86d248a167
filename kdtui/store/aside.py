"""Temporary files beside their targets: names with the mark of their process, and what killed processes left."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdtui.store.identity import boot_id, hostname, start_ticks

NEW, GONE, OWNER = ".new-", ".gone-", ".owner-"
"""Prefixes of a run folder that is being created, of one that is being deleted, and of the owner mark in the former."""
_MARK = re.compile(r"(?P<host>.*)-(?P<pid>\d{1,19})-(?P<ticks>\d{1,19})-(?P<boot>[0-9a-f]{8})(?:-\d+)?", re.DOTALL)
# Temporary files of versions without marks: only names that kdtui itself uses, as the folder may hold other files.
_UNMARKED = re.compile(
    r"\.(?:(?:launch|measurements|summaries|train|val|test|[0-9a-f]{24}\.of\d+)\.json|notes\.toml"
    r"|(?:last|best_model|untrained_model|checkpoint_epoch_\d+)\.pth)\.\d+\.tmp|\.[0-9a-f]{24}\.\d+of\d+\.npy\.\d+"
)
_RUN = re.compile(rf"(?:{re.escape(NEW)}|{re.escape(GONE)})\d{{8}}-\d{{6}}-.+", re.DOTALL)
_DAY = 86400.0
_counter = itertools.count()

SWEEPS = ".sweeps"
"""Folder of the sweeps and searches in a run store."""


def mark() -> str:
    """The mark of this process in the names of its temporary files."""
    return f"{hostname()}-{os.getpid()}-{start_ticks(os.getpid())}-{_boot()}"


def aside(path: Path) -> Path:
    """An unused temporary path next to ``path``; temporary files of killed processes are removed first."""
    remove_leftovers(path.parent)
    return path.with_name(f".{path.name}.{mark()}-{next(_counter)}.tmp")


@dataclass(frozen=True)
class Leftover:
    """A temporary file or folder that has not replaced its target.

    Attributes:
        bytes: Size, including the contents of a folder.
        ownerless: Whether its process has exited; otherwise it is running, or on another host.
    """

    path: Path
    bytes: int
    ownerless: bool


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes directly in ``folder``."""
    _remove_all(_asides(folder))


def remove_leftovers_of_store(root: Path) -> None:
    """Remove incomplete runs, partly deleted runs and temporary files of killed processes from a run store."""
    _remove_all(_runs_aside(root))
    for folder in _folders(root):
        remove_leftovers(folder)


def leftovers(root: Path) -> list[Leftover]:
    """All temporary files and folders in a run store, in use or left by killed processes."""
    paths = [*_runs_aside(root), *(path for folder in _folders(root) for path in _asides(folder))]
    return [Leftover(path, _size(path), _ownerless(path)) for path in paths]


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if _ownerless(path):
            _remove(path)


def _folders(root: Path) -> Iterator[Path]:
    """The folders of a run store in which temporary files are written."""
    yield root
    yield root / ".cache"
    for name in ("teachers", "doubts", "labels", "data", "untrained"):
        yield root / ".cache" / name
    yield root / SWEEPS
    yield from _entries(root / SWEEPS)
    for path in _entries(root):
        if not path.name.startswith("."):
            yield path
            yield path / "checkpoints"
            yield path / "evaluations"


def _asides(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        name = path.name
        if (
            name.startswith(OWNER)
            or (name.endswith(".tmp") and _MARK.fullmatch(name[:-4]))
            or _UNMARKED.fullmatch(name)
        ):
            yield path


def _runs_aside(root: Path) -> list[Path]:
    """Run folders that are being created or deleted."""
    return [path for path in _entries(root) if _RUN.fullmatch(path.name)]


def _entries(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries)
    except OSError:  # no folder, or no permission: nothing can be removed there
        return []


def _ownerless(path: Path) -> bool:
    """Whether no running process owns a temporary file or folder."""
    name = path.name
    if name.startswith(NEW):
        owner = next((entry.name for entry in _entries(path) if entry.name.startswith(OWNER)), None)
        name = "" if owner is None else owner
    match = _MARK.fullmatch(name.removesuffix(".tmp"))
    if match is None or not match["host"].endswith((f".{hostname()}", f"-{hostname()}")):
        return _untouched(path, time.time() - _DAY)  # from an older version, or from another host
    if match["boot"] == _boot():
        return str(start_ticks(int(match["pid"]))) != match["ticks"]
    # From an earlier boot, or from a container whose processes are not visible here.
    return _untouched(path, max(time.time() - _DAY, _booted()))


def _untouched(path: Path, since: float) -> bool:
    """Whether nothing in it was written since a time."""
    try:
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
        return all(entry.lstat().st_mtime < since for entry in (path, *inside))
    except OSError:  # it is being removed, or there is no permission
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        import shutil  # here: importing it is slow, and few processes remove folders

        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # another process was faster, or the folder is not writable
            path.unlink()


def _size(path: Path) -> int:
    total = 0
    for entry in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        with contextlib.suppress(OSError):
            total += 0 if entry.is_dir() else entry.lstat().st_size
    return total


@functools.cache
def _boot() -> str:
    """Tag of the boot and the pid namespace of this process; pids are unique only within both."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path, but a name)
    except OSError:  # no /proc
        namespace = ""
    return hashlib.sha256(f"{boot_id()} {namespace}".encode()).hexdigest()[:8]


def _booted() -> float:
    """Unix time of this machine's boot; 0 if unknown."""
    try:
        return time.time() - float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
