"""What the check of a profile leaves to the training that follows in the same process, see :mod:`kdtui.standby`.

Only results that draw no random number of the training are left: it must not depend on which process it runs in. Each
is taken once, and only if all that it was made from is the same. In a process that only checks, or only trains, every
result is made where it is needed.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
_left: dict[str, tuple[object, Any]] = {}
_leaving = False


@contextmanager
def leaving() -> Iterator[None]:
    """Keep what :func:`made_once` returns in this context for its next call outside."""
    global _leaving
    _leaving = True
    try:
        yield
    finally:
        _leaving = False


def made_once(name: str, made_from: Callable[[], object], make: Callable[[], Result]) -> Result:
    """The result that was left under a name, or a new one.

    Args:
        name: Of the result, in this process.
        made_from: Returns all that the result depends on, to be compared; called before the result is made, and only in
            a process that checks and trains. Where it raises OSError, the result is made.
        make: Makes the result.
    """
    if not _leaving and name not in _left:
        return make()
    try:
        key = made_from()
    except OSError:  # reported by what reads the file
        return make()
    if _leaving:
        result = make()
        _left[name] = key, result
        return result
    former, left = _left.pop(name)
    return left if former == key else make()


def state_of_files(path: Path) -> list[tuple[str, int, int, int]]:
    """Path, inode, size and time of a checkpoint, and of the files beside it or in its folder: it may have several."""
    folder = path if path.is_dir() else path.parent
    states = []
    for file in sorted(folder.iterdir()):
        status = file.stat()
        if stat.S_ISREG(status.st_mode):
            states.append((str(file.resolve()), status.st_ino, status.st_size, status.st_mtime_ns))
    return states
