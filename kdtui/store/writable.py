"""Checks whether a run store and a run folder can be written, with owner, mode and a remedy if not."""

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
from kdtui.store.files import remedy

_BYTES = 64 * 1024
"""Size of the test file, larger than the files of a new run, so that a full disk or quota is detected."""
_ELSEWHERE = "choose another folder with --runs-dir or KDTUI_RUNS"


def check_writable(root: Path) -> None:
    """Check that runs can be created: create a folder with a file in the store and remove both.

    Missing parent folders are created and removed too.

    Raises:
        StoreError: It failed; the error contains owner, mode and a remedy.
    """
    made: list[Path] = []
    try:
        for folder in [*reversed(root.parents), root]:
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        with (
            # Named like an incomplete run, which is not listed.
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
            with contextlib.suppress(OSError):  # another process has created a run there
                folder.rmdir()


def check_run_writable(folder: Path) -> None:
    """Check that a run can be resumed in its folder: write an unnamed file there.

    Raises:
        StoreError: It failed.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * _BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            "the run folder is not writable", where=folder, found=error.strerror, hint=remedy(error)
        ) from error


def not_writable(root: Path, error: OSError) -> StoreError:
    """The error for a store at ``root`` that is not writable."""
    folder = next((path for path in (root, *root.parents) if path.exists()), root)
    if not folder.is_dir():
        return StoreError("the run store is not a folder", where=folder, found=_kind(folder), hint=_ELSEWHERE)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "the disk of the run store is full",
            where=folder,
            found=error.strerror,
            hint=f"free some space, or {_ELSEWHERE}",
        )
    if error.errno not in (errno.EACCES, errno.EPERM):
        return StoreError("the run store is not writable", where=folder, found=error.strerror, hint=_ELSEWHERE)
    status = folder.stat()
    owner, group, you = _user(status.st_uid), _group(status.st_gid), _user(os.geteuid())
    share = f"; or let {owner} share it: chmod g+rwxs {folder}, with umask 002 for all its users"
    return StoreError(
        "the run store is not writable",
        where=folder,
        found=f"{error.strerror}: it belongs to {owner}, group {group}, mode {stat.filemode(status.st_mode)}"
        f" ({stat.S_IMODE(status.st_mode):o}); you are {you}",
        hint=f"{_ELSEWHERE}{'' if status.st_uid == os.geteuid() else share}",
    )


def _kind(path: Path) -> str:
    return "a file" if path.is_file() else "not a folder"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a user of a container, or a removed one
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
