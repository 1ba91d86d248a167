"""Whether this user can make runs in a store: found out by writing, for no mode says it for every file system."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path

from kdtui.errors import StoreError
from kdtui.store.writing import remedy

_BYTES = 64 * 1024
"""More than a file of a run has before it starts; a full disk or quota takes less."""
_ELSEWHERE = "choose another folder with --runs-dir or KDTUI_RUNS"


def check_writable(root: Path) -> None:
    """Make a folder in the store as a run would be made, write a file in it, and remove both.

    Folders above that are not there are made and removed too.

    Raises:
        StoreError: It cannot be done; owner and mode are named, and what to do.
    """
    made: list[Path] = []
    try:
        for folder in [*reversed(root.parents), root]:
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        with (
            # The name that a run has before it is whole, which no list shows.
            tempfile.TemporaryDirectory(prefix=".new-check-", dir=root) as aside,
            (Path(aside) / "file").open("wb") as file,
        ):
            file.write(b"\0" * _BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise not_writable(root, error) from error
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # meanwhile another process made a run there
                folder.rmdir()


def check_run_writable(folder: Path) -> None:
    """Write a nameless file in a run folder, as a run that is resumed will write its own.

    Raises:
        StoreError: It cannot be done.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * _BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            "the run folder cannot be written", where=folder, found=error.strerror, hint=remedy(error)
        ) from error


def not_writable(root: Path, error: OSError) -> StoreError:
    """What is said where the store at ``root`` cannot be written."""
    folder = next((path for path in (root, *root.parents) if path.exists()), root)
    if not folder.is_dir():
        return StoreError("the run store is no folder", where=folder, found=_kind(folder), hint=_ELSEWHERE)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "the disk of the run store is full",
            where=folder,
            found=error.strerror,
            hint=f"free some space, or {_ELSEWHERE}",
        )
    if error.errno not in (errno.EACCES, errno.EPERM):
        return StoreError("the run store cannot be written", where=folder, found=error.strerror, hint=_ELSEWHERE)
    status = folder.stat()
    owner, group, you = _user(status.st_uid), _group(status.st_gid), _user(os.geteuid())
    share = f"; or let {owner} share it: chmod g+rwxs {folder}, and umask 002 for all who use it"
    return StoreError(
        "the run store cannot be written",
        where=folder,
        found=f"{error.strerror}: it belongs to {owner}, group {group}, mode {stat.filemode(status.st_mode)}"
        f" ({stat.S_IMODE(status.st_mode):o}); you are {you}",
        hint=f"{_ELSEWHERE}{'' if status.st_uid == os.geteuid() else share}",
    )


def _kind(path: Path) -> str:
    return "a file" if path.is_file() else "no folder"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of a container, or removed
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
