"""The folder in which all run stores and users of one machine queue for its devices.

Everybody may write there, so nothing in it is trusted: names are checked, links are not followed, only regular files
are opened, and of their text a bounded part is read and only shown. Files that exist are opened without ``O_CREAT``,
which ``fs.protected_regular`` refuses for files of other users.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from kdtui.errors import LaunchError

SLOT_DIR = "KDTUI_SLOT_DIR"
"""Environment variable: another folder than :data:`DEFAULT`."""
DEFAULT = Path("/tmp/kdtui-slots")
MOST_FILES = 4096
"""Files of the folder that are looked at; a folder with more is somebody's mischief."""
_MODE = 0o1777
_LEFT = 60.0  # seconds; between making a file and naming it less than one passes
_MOST_BYTES = 64 * 1024
_OPEN = os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


class SharedFolder:
    """An open folder; its files are named relative to the descriptor, so nobody can exchange the folder meanwhile.

    Args:
        path: The folder.
        make: Make it, writable for everybody, where it does not exist.

    Raises:
        LaunchError: It cannot be made or used.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.path = path
        default = path == DEFAULT
        try:
            made = make and _make(path)
            # A link in a folder where everybody writes may be anyone's; one that the user names is the user's.
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
        """The names of at most :data:`MOST_FILES` files, sorted.

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
        """A descriptor of a file of the folder with its lock, or None where another process holds it.

        Raises:
            LaunchError: It cannot be opened or locked.
        """
        try:
            descriptor = self._open_or_make(name)
            return descriptor if try_lock(descriptor) else None
        except OSError as error:
            raise self.failure(error, name) from error

    def publish(self, name: str, text: bytes) -> int:
        """A new file that is locked and written before anybody can see its name.

        Raises:
            LaunchError: It cannot be made.
        """
        aside = f".new-{name}"
        self._clear_left()
        try:
            descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o644, dir_fd=self._fd)
            os.fchmod(descriptor, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_text(descriptor, text)
            os.rename(aside, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            raise self.failure(error, name) from error
        return descriptor

    def open(self, name: str) -> int | None:
        """A descriptor for reading, or None where there is no regular file that this user may read."""
        try:
            descriptor = os.open(name, os.O_RDONLY | _OPEN, dir_fd=self._fd)
        except OSError:  # gone meanwhile, a link, a socket, or not ours to read: nothing that counts
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def unlink(self, name: str) -> None:
        """Remove a file; one of another user stays."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except OSError:  # gone meanwhile, or another user's: it does no harm
            return

    def _clear_left(self) -> None:
        """Remove files that a killed process left before it could give them their names."""
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
                os.fchmod(descriptor, 0o666)  # every user takes this lock, whatever this one's umask is
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(0, "it is not a regular file", name)
            return descriptor

    def _open_existing(self, name: str) -> int:
        try:
            return os.open(name, os.O_RDWR | _OPEN, dir_fd=self._fd)
        except PermissionError:  # a lock needs no more than reading
            return os.open(name, os.O_RDONLY | _OPEN, dir_fd=self._fd)

    def failure(self, error: OSError, name: str = "") -> LaunchError:
        """The error of a folder that cannot be used."""
        return LaunchError(
            "The folder of this machine's device queue cannot be used",
            where=self.path / name,
            found=error.strerror,
            allowed="a folder in which every user can create files (mode 1777)",
            hint=f"set {SLOT_DIR} to such a folder, for all users of the machine",
        )


def machine_folder(*, make: bool = True) -> SharedFolder:
    """The folder of this machine: ``KDTUI_SLOT_DIR``, else ``/tmp/kdtui-slots``.

    Args:
        make: Make it where it does not exist.

    Raises:
        LaunchError: It cannot be made or used.
    """
    given = os.environ.get(SLOT_DIR)
    return SharedFolder(Path(given).absolute() if given else DEFAULT, make=make)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock a file, or close it where another process holds its lock.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        os.close(descriptor)
        raise
    return True


def is_held(descriptor: int) -> bool:
    """Whether another process holds the file's lock; the descriptor stays open and without one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def write_text(descriptor: int, text: bytes) -> None:
    """Replace a file's text, which is only for show: a full disk or a file of another user's keeps its old one.

    A file with a second name may be anybody's and is left alone.
    """
    try:
        if os.fstat(descriptor).st_nlink == 1:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)
    except OSError:
        return


def read_json(descriptor: int) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is none within a bounded part of it."""
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
    except FileExistsError:  # another process was faster; or it is something else, which opening it says
        return False
    return True
