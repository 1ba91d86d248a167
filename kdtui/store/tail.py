"""Following ``events.jsonl``: only what the file gained since the last look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kdtui.errors import StoreError
from kdtui.events import Event, decode
from kdtui.store.reading import reading

PIECE = 1 << 20
LONGEST = 16 << 20
"""Bytes of a line that is read; a longer one is no event."""


class Tail:
    """Reads the events that were appended since the last :meth:`read`.

    A line without its newline waits for the next read. A file that is not there yet is empty. A file that became
    shorter, or another file, is read from its start, and ``generation`` grows: what was read before is void.

    Args:
        path: The file.
        last: Begin that many bytes before its end, behind the first half line; None begins at its start.
    """

    def __init__(self, path: Path, *, last: int | None = None) -> None:
        self.path = path
        self.generation = 0
        self._last = last
        self._offset = 0
        self._inode: int | None = None
        self._rest = b""

    def read(self, limit: int | None = None) -> list[Event]:
        """The new events, oldest first; lines that are no events are skipped.

        Args:
            limit: Bytes to read at most; what is left comes with the next read.

        Raises:
            StoreError: The file is there and cannot be read.
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
        """The new events as :meth:`read` returns them, in constant memory however long the file is.

        Raises:
            StoreError: The file is there and cannot be read.
        """
        before = -1
        while self._offset != before:
            before = self._offset
            yield from self.read(PIECE)

    @property
    def position(self) -> int:
        """Bytes of the file that were read."""
        return self._offset

    def _gained(self, descriptor: int, limit: int | None) -> list[Event]:
        status = os.fstat(descriptor)
        if self._inode != status.st_ino or status.st_size < self._offset:
            if self._inode is not None:
                self._restart(status.st_ino)
            elif self._last is not None and status.st_size > self._last:
                # A mark makes the half line no event; one byte more, so that a whole line behind a newline stays one.
                self._offset, self._rest = status.st_size - self._last - 1, b"?"
            self._inode = status.st_ino
        # Not beyond the size seen: a writer may append for as long as this reads.
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
            self._rest = b"?"  # what follows of this line is no event
        return [event for line in lines if line and (event := decode(line)) is not None]

    def _restart(self, inode: int | None) -> None:
        self.generation += 1
        self._offset, self._rest, self._inode = 0, b"", inode
