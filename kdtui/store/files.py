"""Files of the store: valid names, bounded reads and atomic replacement."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from kdtui.errors import StoreError, UsageError
from kdtui.store.aside import aside
from kdtui.text import one_line

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
# Neither matters for regular files. O_NONBLOCK: opening a pipe does not wait for its other end, so that it can be
# detected. O_NOCTTY: opening a terminal does not make it the controlling one.
_SAFELY = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFile(OSError):
    """The path is not a regular file; ``strerror`` says what it is."""


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file; never blocks on a pipe, socket or device.

    Args:
        path: The file, or a link to it.
        flags: Flags of :func:`os.open`.

    Returns:
        The file descriptor.

    Raises:
        NotAFile: It is a pipe, a socket, a folder or a device.
        OSError: It does not exist or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _SAFELY, 0o666)
    except OSError as error:
        # A socket, a device without a driver, a pipe without a reader, or a folder opened for writing.
        if error.errno in (errno.ENXIO, errno.EISDIR) and not stat.S_ISREG(mode := path.stat().st_mode):
            raise _not_a_file(mode, path) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_a_file(mode, path)
    return descriptor


def try_lock(file: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock.

    Raises:
        OSError: The file system does not support locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _not_a_file(mode: int, path: Path) -> NotAFile:
    return NotAFile(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file", str(path))


class TooLarge(OSError):
    """The file has more bytes than its reader accepts; ``strerror`` contains both sizes."""


def read_file(path: Path, *, most: int | None = None) -> bytes:
    """Read a regular file.

    Args:
        path: The file, or a link to it.
        most: Maximum number of bytes; the size is checked before reading.

    Raises:
        TooLarge: It has more than ``most`` bytes.
        OSError: As :func:`open_file`, or it cannot be read.
    """
    descriptor = open_file(path)
    try:
        size = os.fstat(descriptor).st_size
        if most is not None and size > most:
            raise TooLarge(errno.EFBIG, f"it has {byte_count(size)}; the limit is {byte_count(most)}", str(path))
        pieces, left = [], most
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
            if left is not None and (left := left - len(piece)) < 0:  # it grew while it was read
                raise TooLarge(errno.EFBIG, f"it has more than {byte_count(most)}", str(path))
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def byte_count(size: int | None) -> str:
    """Format a number of bytes with a suitable unit."""
    amount = float(size or 0)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "bytes" else f"{amount:.1f} {unit}"


def reading(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: As :func:`open_file`.
    """
    return os.fdopen(open_file(path), "rb")


def appending(path: Path) -> BinaryIO:
    """Open a regular file for appending; create it if it does not exist.

    Raises:
        OSError: As :func:`open_file`.
    """
    return os.fdopen(open_file(path, _APPEND), "ab")


def sha256_of(path: Path) -> str:
    """Hash of the bytes of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def brief(error: StoreError) -> str:
    """A short text of the error for the list of runs: with the reason only if the file could not be opened."""
    return error.brief if isinstance(error.__cause__, OSError) else error.what


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


def is_safe(text: str) -> bool:
    """Whether ``text`` may be joined to the store's root: no separator, leading dot or control character."""
    return bool(text) and text.isprintable() and not text.startswith(".") and not {"/", "\\"} & set(text)


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid run name.

    Raises:
        UsageError: It contains characters that are not allowed.
    """
    if NAME.fullmatch(name) is None or ".." in name:
        raise UsageError(
            "not a valid run name",
            found=one_line(name),
            allowed="up to 80 letters, digits and . _ + -, starting with a letter or digit, without '..'",
            hint="choose another with --name",
        )
    return name


def remedy(error: OSError) -> str:
    """Hint that lets the same command succeed in writing the file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, then repeat the command"
    if error.errno == errno.EFBIG:
        return "raise the file size limit of this user (ulimit -f), then repeat the command"
    if error.errno == errno.EROFS:
        return "remount the disk read-write, then repeat the command"
    return "grant write permission for the folder, then repeat the command"


def write_atomically(path: Path, data: bytes, *, fsync: bool = False) -> None:
    """Replace the contents of ``path`` by ``data``; readers, also after a crash, see either the old or the new file.

    Raises:
        StoreError: The file could not be written; an existing one is unchanged.
    """
    written = aside(path)
    try:
        with written.open("wb") as file:
            file.write(data)
            if fsync:
                file.flush()
                os.fsync(file.fileno())
        written.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a read-only disk has no file to remove and raises here again
            written.unlink(missing_ok=True)
        raise StoreError(
            "a file could not be written; the existing one is unchanged",
            where=path,
            found=error.strerror,
            hint=remedy(error),
        ) from error
