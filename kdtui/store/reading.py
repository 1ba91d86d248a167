"""Opening the files of a run folder: none of them may keep anybody waiting.

Opening a pipe for reading waits until somebody writes into it, and a device may never end. Whatever stands in the place
of a file was put there by somebody else, so every file of a run is opened here, and nothing but a file is.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from kdtui.errors import StoreError

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
# A regular file has no use for either. O_NONBLOCK: a pipe is opened without waiting for its other end, and then seen to
# be one. O_NOCTTY: looking at a terminal does not make it ours.
_SAFELY = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFile(OSError):
    """Something else stands in the place of a file; ``strerror`` says what, as that of every other failure does."""


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file; never waits for whoever is at the other end of something else.

    Args:
        path: The file, or a link to it.
        flags: As of :func:`os.open`.

    Raises:
        NotAFile: It is a pipe, a socket, a folder or a device.
        OSError: It is not there, or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _SAFELY, 0o666)
    except OSError as error:
        # Of a socket, a device without a driver or a pipe that nobody reads; of a folder that is to be written.
        if error.errno in (errno.ENXIO, errno.EISDIR) and not stat.S_ISREG(mode := path.stat().st_mode):
            raise _not_a_file(mode, path) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_a_file(mode, path)
    return descriptor


def _not_a_file(mode: int, path: Path) -> NotAFile:
    return NotAFile(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file", str(path))


class TooLarge(OSError):
    """A file with more bytes than its reader takes; ``strerror`` names both sizes."""


def read_file(path: Path, *, most: int | None = None) -> bytes:
    """All bytes of a regular file.

    Args:
        path: The file, or a link to it.
        most: Largest number of bytes that is read; the size is checked before the first byte.

    Raises:
        TooLarge: It has more than ``most`` bytes.
        OSError: As :func:`open_file`, or it cannot be read.
    """
    descriptor = open_file(path)
    try:
        size = os.fstat(descriptor).st_size
        if most is not None and size > most:
            raise TooLarge(errno.EFBIG, f"it has {byte_count(size)}, at most {byte_count(most)} are read", str(path))
        pieces, left = [], most
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
            if left is not None and (left := left - len(piece)) < 0:  # it grew while it was read
                raise TooLarge(errno.EFBIG, f"it has more than {byte_count(most)}", str(path))
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def byte_count(size: int | None) -> str:
    """A number of bytes with the unit that keeps it short."""
    amount = float(size or 0)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "bytes" else f"{amount:.1f} {unit}"


def reading(path: Path) -> BinaryIO:
    """A regular file, open for reading.

    Raises:
        OSError: As :func:`open_file`.
    """
    return os.fdopen(open_file(path), "rb")


def appending(path: Path) -> BinaryIO:
    """A regular file, open for what is written to its end; made if it is not there.

    Raises:
        OSError: As :func:`open_file`.
    """
    return os.fdopen(open_file(path, _APPEND), "ab")


def brief(error: StoreError) -> str:
    """What is wrong with a file, for a list of runs: why it cannot be opened, and not what is wrong with its text."""
    return f"{error.what}: {error.found}" if isinstance(error.__cause__, OSError) else error.what
