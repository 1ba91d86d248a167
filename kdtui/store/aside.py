"""Files written aside before they take their place, and what of them a killed process left.

The name of such a file says who writes it: host, pid, start time of the process, and a tag of the boot and the pid
namespace in which that pid means something. Whoever writes next in a folder removes what no running process owns.
"""

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
"""Prefixes: a run folder that is being made, one that is being deleted, the mark inside the former."""
_MARK = re.compile(r"(?P<host>.*)-(?P<pid>\d{1,19})-(?P<ticks>\d{1,19})-(?P<boot>[0-9a-f]{8})(?:-\d+)?", re.DOTALL)
# What versions without marks wrote aside: only the names of their own files, as a folder may be somebody else's too.
_UNMARKED = re.compile(
    r"\.(?:(?:launch|measurements|summaries|train|val|test|[0-9a-f]{24}\.of\d+)\.json|notes\.toml"
    r"|(?:last|best_model|untrained_model|checkpoint_epoch_\d+)\.pth)\.\d+\.tmp|\.[0-9a-f]{24}\.\d+of\d+\.npy\.\d+"
)
_RUN = re.compile(rf"(?:{re.escape(NEW)}|{re.escape(GONE)})\d{{8}}-\d{{6}}-.+", re.DOTALL)
_DAY = 86400.0
_counter = itertools.count()


def mark() -> str:
    """This process, as the names of its files say it."""
    return f"{hostname()}-{os.getpid()}-{start_ticks(os.getpid())}-{_boot()}"


def aside(path: Path) -> Path:
    """A free name beside ``path`` for what will replace it; what killed processes left there is removed first."""
    remove_left(path.parent)
    return path.with_name(f".{path.name}.{mark()}-{next(_counter)}.tmp")


@dataclass(frozen=True)
class Left:
    """Something written aside that has not taken its place.

    Attributes:
        bytes: With everything in it.
        ownerless: Whether no running process owns it; else its writer is at work, or on a host that cannot be seen.
    """

    path: Path
    bytes: int
    ownerless: bool


def remove_left(folder: Path) -> None:
    """Remove what killed processes left directly in ``folder``."""
    _remove_all(_asides(folder))


def remove_left_in_store(root: Path) -> None:
    """Remove what killed processes left in a run store: half-made and half-deleted runs, and files in the others."""
    _remove_all(_runs_aside(root))
    for folder in _folders(root):
        remove_left(folder)


def left_in_store(root: Path) -> list[Left]:
    """Everything in a run store that is written aside now, or was left so."""
    paths = [*_runs_aside(root), *(path for folder in _folders(root) for path in _asides(folder))]
    return [Left(path, _size(path), _ownerless(path)) for path in paths]


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if _ownerless(path):
            _remove(path)


def _folders(root: Path) -> Iterator[Path]:
    """The folders of a run store in which files are written aside."""
    yield root
    yield root / ".cache"
    yield root / ".cache" / "teachers"
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
    """Run folders that are being made or deleted."""
    return [path for path in _entries(root) if _RUN.fullmatch(path.name)]


def _entries(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries)
    except OSError:  # no folder, or one that nobody may enter: nothing can be removed there
        return []


def _ownerless(path: Path) -> bool:
    """Whether no running process owns a file or folder that was written aside."""
    name = path.name
    if name.startswith(NEW):
        owner = next((entry.name for entry in _entries(path) if entry.name.startswith(OWNER)), None)
        name = "" if owner is None else owner
    match = _MARK.fullmatch(name.removesuffix(".tmp"))
    if match is None or not match["host"].endswith((f".{hostname()}", f"-{hostname()}")):
        return _untouched(path, time.time() - _DAY)  # of an older version, or of another host
    if match["boot"] == _boot():
        return str(start_ticks(int(match["pid"]))) != match["ticks"]
    # Of an earlier boot, or of a container whose processes cannot be seen from here.
    return _untouched(path, max(time.time() - _DAY, _booted()))


def _untouched(path: Path, since: float) -> bool:
    """Whether nothing was written there since a time."""
    try:
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
        return all(entry.lstat().st_mtime < since for entry in (path, *inside))
    except OSError:  # it is being removed, or nobody may look
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        import shutil  # here: importing it is slow, and few processes remove folders

        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # another writer was faster, or the folder cannot be written
            path.unlink()


def _size(path: Path) -> int:
    total = 0
    for entry in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        with contextlib.suppress(OSError):
            total += 0 if entry.is_dir() else entry.lstat().st_size
    return total


@functools.cache
def _boot() -> str:
    """Tag of the boot and the pid namespace of this process: a pid means something within both only."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path, but a name)
    except OSError:  # no /proc
        namespace = ""
    return hashlib.sha256(f"{boot_id()} {namespace}".encode()).hexdigest()[:8]


def _booted() -> float:
    """Unix time at which this machine was booted; 0 where nothing says so."""
    try:
        return time.time() - float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
