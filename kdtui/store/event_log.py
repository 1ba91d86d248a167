"""The file of a run's events: its writer, and a reader of what was appended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from kdtui.errors import StoreError
from kdtui.events import Event, decode, encode
from kdtui.store.files import open_file, reading


class EventLog:
    """Writer of ``events.jsonl``: one ``os.write`` per line, one writer at a time.

    If an earlier writer left an incomplete line, it is terminated first, so that the next event starts a new line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._torn = False
        try:
            # Opened for reading too: the last byte shows whether the last line is complete.
            self._fd = open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            size = os.fstat(self._fd).st_size
            self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise self._failure(error) from error

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            StoreError: The line could not be written, or not completely.
        """
        line = (b"\n" if self._torn else b"") + encode(event)
        try:
            done = os.write(self._fd, line)
            while done < len(line):  # on a nearly full disk a part is written, and the next call raises
                self._torn = True
                done += os.write(self._fd, line[done:])
        except OSError as error:
            raise self._failure(error) from error
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            "an event could not be written",
            where=self.path,
            found=error.strerror,
            hint="free some space; earlier events are intact",
        )


PIECE = 1 << 20
LONGEST = 16 << 20
"""Maximum length of a line in bytes; a longer one is not an event."""


class Tail:
    """Reader of the events that were appended since the last :meth:`read`.

    An incomplete last line is read later. A file that does not exist yet is empty. If the file was replaced or became
    shorter, reading restarts at its start and ``generation`` increases: earlier events are void.

    Args:
        path: The file.
        last: Start this many bytes before the end, after the first incomplete line; None starts at the beginning.
    """

    def __init__(self, path: Path, *, last: int | None = None) -> None:
        self.path = path
        self.generation = 0
        self._last = last
        self._offset = 0
        self._inode: int | None = None
        self._rest = b""

    def read(self, limit: int | None = None) -> list[Event]:
        """Read the new events, oldest first; lines that are not events are skipped.

        Args:
            limit: Maximum number of bytes; the next read continues there.

        Raises:
            StoreError: The file exists but cannot be read.
        """
        try:
            with reading(self.path) as file:
                return self._gained(file.fileno(), limit)
        except FileNotFoundError:
            if self._inode is not None:
                self._restart(None)
            return []
        except OSError as error:
            raise StoreError("The events cannot be read", where=self.path, found=error.strerror) from error

    def stream(self) -> Iterator[Event]:
        """Read all new events as :meth:`read` does, in constant memory.

        Raises:
            StoreError: The file exists but cannot be read.
        """
        before = -1
        while self._offset != before:
            before = self._offset
            yield from self.read(PIECE)

    @property
    def position(self) -> int:
        """Number of bytes that were read."""
        return self._offset

    def _gained(self, descriptor: int, limit: int | None) -> list[Event]:
        status = os.fstat(descriptor)
        if self._inode != status.st_ino or status.st_size < self._offset:
            if self._inode is not None:
                self._restart(status.st_ino)
            elif self._last is not None and status.st_size > self._last:
                # The "?" invalidates an incomplete first line; one more byte keeps a complete line after a newline.
                self._offset, self._rest = status.st_size - self._last - 1, b"?"
            self._inode = status.st_ino
        # Not beyond the current size: a fast writer could otherwise prolong the read without end.
        end = status.st_size if limit is None else min(status.st_size, self._offset + limit)
        pieces = [self._rest]
        while self._offset < end:
            piece = os.pread(descriptor, min(1 << 20, end - self._offset), self._offset)
            if not piece:
                break
            self._offset += len(piece)
            pieces.append(piece)
        *lines, self._rest = b"".join(pieces).split(b"\n")
        if len(self._rest) > LONGEST:
            self._rest = b"?"  # invalidates the rest of this line
        return [event for line in lines if line and (event := decode(line)) is not None]

    def _restart(self, inode: int | None) -> None:
        self.generation += 1
        self._offset, self._rest, self._inode = 0, b"", inode
