"""The folder with the device queue of one machine, shared by all its run stores and users.

It is world-writable, so its contents are not trusted: names are checked, links are not followed, only regular files
are opened, and a bounded part of their text is read and used for display only. Existing files are opened without
``O_CREAT``, which ``fs.protected_regular`` refuses for files of other users.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from kdtui.errors import LaunchError
from kdtui.store.files import try_lock

SLOT_DIR = "KDTUI_SLOT_DIR"
"""Environment variable: the folder to use instead of :data:`DEFAULT`."""
DEFAULT = Path("/tmp/kdtui-slots")
MOST_FILES = 4096
"""Maximum number of files that are read, to bound the cost of a folder filled on purpose."""
_MODE = 0o1777
_LEFT = 60.0  # seconds; between creating a file and renaming it less than one passes
_MOST_BYTES = 64 * 1024
_OPEN = os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


class SharedFolder:
    """An open folder; its files are opened relative to the descriptor, so the folder cannot be replaced in between.

    Args:
        path: The folder.
        make: Create it, world-writable, if it does not exist.

    Raises:
        LaunchError: It cannot be created or used.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.path = path
        default = path == DEFAULT
        try:
            made = make and _make(path)
            # In a world-writable parent any user may have made a link; a path that the user gave may contain links.
            follow = os.O_NOFOLLOW if default else 0
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow)
            status = os.fstat(self._fd)
            if made or (default and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != _MODE):
                os.fchmod(self._fd, _MODE)
        except OSError as error:
            raise self.failure(error) from error

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def names(self) -> list[str]:
        """The sorted names of at most :data:`MOST_FILES` files.

        Raises:
            LaunchError: The folder cannot be listed.
        """
        names: list[str] = []
        try:
            with os.scandir(self._fd) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if len(names) >= MOST_FILES:
                        break
        except OSError as error:
            raise self.failure(error) from error
        return sorted(names)

    def lock(self, name: str) -> int | None:
        """Lock a file of the folder, created if missing; None if another process holds the lock.

        Raises:
            LaunchError: It cannot be opened or locked.
        """
        try:
            descriptor = self._open_or_make(name)
            return descriptor if lock_or_close(descriptor) else None
        except OSError as error:
            raise self.failure(error, name) from error

    def publish(self, name: str, text: bytes) -> int:
        """Create a file that is locked and written before it gets its name.

        Raises:
            LaunchError: It cannot be created.
        """
        aside = f".new-{name}"
        self._clear_temporary()
        try:
            descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o644, dir_fd=self._fd)
            os.fchmod(descriptor, 0o644)
            if not try_lock(descriptor):
                raise BlockingIOError(errno.EAGAIN, "another process has locked the new file")
            write_text(descriptor, text)
            os.rename(aside, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            raise self.failure(error, name) from error
        return descriptor

    def open(self, name: str) -> int | None:
        """A descriptor for reading, or None if there is no regular file that this user may read."""
        try:
            descriptor = os.open(name, os.O_RDONLY | _OPEN, dir_fd=self._fd)
        except OSError:  # removed since the listing, a link, a socket, or unreadable for this user: no valid entry
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def unlink(self, name: str) -> None:
        """Remove a file; a file of another user is kept."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except OSError:  # already removed, or another user's: harmless
            return

    def _clear_temporary(self) -> None:
        """Remove temporary files of processes that were killed before renaming them."""
        for name in self.names():
            if name.startswith(".new-") and (descriptor := self.open(name)) is not None:
                old = time.time() - os.fstat(descriptor).st_mtime > _LEFT
                if old and not is_held(descriptor):
                    self.unlink(name)
                os.close(descriptor)

    def _open_or_make(self, name: str) -> int:
        while True:
            try:
                descriptor = self._open_existing(name)
            except FileNotFoundError:
                try:
                    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o666, dir_fd=self._fd)
                except FileExistsError:  # another process was faster
                    continue
                os.fchmod(descriptor, 0o666)  # every user takes this lock, so the umask must not restrict it
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(0, "it is not a regular file", name)
            return descriptor

    def _open_existing(self, name: str) -> int:
        try:
            return os.open(name, os.O_RDWR | _OPEN, dir_fd=self._fd)
        except PermissionError:  # a file opened for reading can be locked too
            return os.open(name, os.O_RDONLY | _OPEN, dir_fd=self._fd)

    def failure(self, error: OSError, name: str = "") -> LaunchError:
        """The error for a folder that cannot be used."""
        return LaunchError(
            "The folder of this machine's device queue cannot be used",
            where=self.path / name,
            found=error.strerror,
            allowed="a folder in which every user can create files (mode 1777)",
            hint=f"set {SLOT_DIR} to such a folder for all users of the machine",
        )


def machine_folder(*, make: bool = True) -> SharedFolder:
    """The folder of this machine: ``KDTUI_SLOT_DIR``, else ``/tmp/kdtui-slots``.

    Args:
        make: Create it if it does not exist.

    Raises:
        LaunchError: It cannot be created or used.
    """
    given = os.environ.get(SLOT_DIR)
    return SharedFolder(Path(given).absolute() if given else DEFAULT, make=make)


def lock_or_close(descriptor: int, *, shared: bool = False) -> bool:
    """Lock a file, or close it if another process holds the lock.

    Raises:
        OSError: The file system does not support locks.
    """
    try:
        locked = try_lock(descriptor, shared=shared)
    except OSError:
        os.close(descriptor)
        raise
    if not locked:
        os.close(descriptor)
    return locked


def is_held(descriptor: int) -> bool:
    """Whether another process holds the file's lock; the descriptor stays open and unlocked."""
    try:
        if not try_lock(descriptor, shared=True):
            return True
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def write_text(descriptor: int, text: bytes) -> None:
    """Replace a file's text, which is informative only: on failure (full disk, another user's file) the old one stays.

    A file with more than one hard link may be another user's and is not written.
    """
    try:
        if os.fstat(descriptor).st_nlink == 1:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)
    except OSError:
        return


def read_json(descriptor: int) -> dict[str, Any] | None:
    """The JSON object in the first 64 KiB of a file, or None if there is none."""
    try:
        body = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
    except (OSError, ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _make(path: Path) -> bool:
    if path.is_dir():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:  # another process was faster, or it is not a folder, which opening it reports
        return False
    return True
