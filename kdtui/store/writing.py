"""How a run's files are written: replaced whole, or one event a line."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from kdtui.errors import StoreError
from kdtui.events import Event, encode
from kdtui.store.aside import aside
from kdtui.store.reading import open_file


def remedy(error: OSError) -> str:
    """What lets the same command write the same file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, then repeat the command"
    if error.errno == errno.EFBIG:
        return "raise this user's limit of file sizes (ulimit -f), then repeat the command"
    if error.errno == errno.EROFS:
        return "mount the disk for writing, then repeat the command"
    return "give write permission for the folder, then repeat the command"


def write_atomically(path: Path, data: bytes, *, fsync: bool = False) -> None:
    """Replace ``path`` by ``data`` so that a reader, and a crash, sees the old file or the new one.

    Raises:
        StoreError: The file could not be written; the former one survives.
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
        with contextlib.suppress(OSError):  # a read-only disk has no file to take away, and says so here again
            written.unlink(missing_ok=True)
        raise StoreError(
            "A file could not be written; the former one is unchanged",
            where=path,
            found=error.strerror,
            hint=remedy(error),
        ) from error


class EventLog:
    """The writing end of ``events.jsonl``: one line an ``os.write``, one writer at a time.

    Opening ends a line that an earlier writer left half written, so that no later line is swallowed by it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._torn = False
        try:
            # Read and write: the last byte decides whether the last line is whole.
            self._fd = open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            size = os.fstat(self._fd).st_size
            self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise self._failure(error) from error

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            StoreError: The line is not, or not wholly, in the file.
        """
        line = (b"\n" if self._torn else b"") + encode(event)
        try:
            done = os.write(self._fd, line)
            while done < len(line):  # a disk that is nearly full takes a part, and says why at the next call
                self._torn = True
                done += os.write(self._fd, line[done:])
        except OSError as error:
            raise self._failure(error) from error
        self._torn = False

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            "An event could not be written",
            where=self.path,
            found=error.strerror,
            hint="free some space; what was written before is unharmed",
        )
