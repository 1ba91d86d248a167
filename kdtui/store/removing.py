"""Delete a run folder; if that fails, the rest of it is still listed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from kdtui.errors import StoreError
from kdtui.events import Failed
from kdtui.store.event_log import EventLog
from kdtui.store.files import remedy
from kdtui.store.run import Run, owner
from kdtui.text import one_line


def check_removable(run: Run) -> None:
    """Check that this user can empty all folders of a run, before anything is deleted.

    Raises:
        StoreError: One of them cannot be emptied, or the run folder is a link.
    """
    if run.path.is_symlink():
        raise StoreError(
            "The run cannot be removed: it is a symbolic link",
            where=one_line(str(run.path)),
            found=one_line(os.readlink(run.path)),  # noqa: PTH115 (shown as it is)
            hint="delete that folder, then the link",
        )

    def refuse(folder: str) -> None:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            cause = OSError(errno.EROFS, os.strerror(errno.EROFS))
            raise StoreError(
                "The run cannot be removed; nothing was deleted",
                where=one_line(folder),
                found=cause.strerror,
                hint=remedy(cause),
            )
        raise StoreError(
            "The run cannot be removed: one of its folders cannot be emptied; nothing was deleted",
            where=one_line(folder),
            found=_owner(Path(folder)),
            hint=f"`chmod -R u+rwx` or `sudo chown -R {os.geteuid()}` it, then `kdtui remove {one_line(run.id)}`",
        )

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            refuse(str(error.filename))

    for folder, folders, files in os.walk(run.path, onerror=unreadable):
        if (folders or files) and not _may_write(folder):
            refuse(folder)


def delete(run: Run, aside: Path) -> None:
    """Rename a run folder to a hidden name and delete it; if that fails, rename the rest back.

    The small files that describe the run are deleted last.

    Args:
        run: A run without processes, whose lock is held.
        aside: An unused path next to it.

    Raises:
        StoreError: Some files could not be deleted.
    """
    try:
        run.path.rename(aside)
    except OSError as error:
        raise StoreError(
            "The run could not be removed", where=run.path, found=error.strerror, hint=remedy(error)
        ) from error
    try:
        for entry in sorted(aside.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
        shutil.rmtree(aside)
    except OSError as error:
        raise _put_back(run, aside, error) from error


def _put_back(run: Run, aside: Path, error: OSError) -> StoreError:
    stuck = Path(str(error.filename or aside))
    if stuck.is_relative_to(aside):
        stuck = run.path / stuck.relative_to(aside)
    failure = StoreError(
        "The run is only partly removed; some of its files could not be deleted",
        where=one_line(str(stuck)),
        found=error.strerror,
        hint=f"make that folder writable, then `kdtui remove {one_line(run.id)}`",
    )
    try:
        aside.rename(run.path)
    except OSError:
        failure.where = str(aside)
        failure.hint = f"make that folder writable, then delete it: rm -r {aside}"
        return failure
    with contextlib.suppress(StoreError), EventLog(run.events_path) as log:  # the reason, for the list of runs
        log.append(Failed("StoreError", "partly removed: some of its files could not be deleted", failure.hint))
    return failure


def _may_write(folder: str) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)


def _owner(path: Path) -> str:
    try:
        return f"owner {owner(path)}, mode {stat.S_IMODE(path.stat().st_mode):o}"
    except OSError as error:
        return str(error.strerror)
