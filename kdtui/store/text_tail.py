"""Reader of a growing text file, such as the log of a run."""

from __future__ import annotations

import codecs
import io
import os
import re
from pathlib import Path

from kdtui.errors import StoreError
from kdtui.store.files import reading
from kdtui.text import clean

FIRST = 64 * 1024
"""Bytes that are read first, from the end of an existing file."""
MOST = 1024 * 1024
"""Maximum number of new bytes per read; a file that grew by more is read again from near its end."""

# Complete escape sequences: `clean` alone would leave their letters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class TextTail:
    r"""Reader of the text that was appended since the last :meth:`read`.

    A file that does not exist yet is empty. If the file was replaced, became shorter or grew by more than :data:`MOST`,
    reading restarts near its end and ``generation`` increases: earlier text is void. Text of a deleted file remains
    valid until a new file exists.

    Attributes:
        generation: Increases whenever reading restarts.
        skipped: Bytes before the first line that was read in this generation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.skipped = 0
        self._offset = 0
        self._inode: int | None = None
        self._seen = False
        self._decoder = _decoder()

    def read(self) -> str:
        r"""Read the new text; lines end in ``\n``, control characters are removed, invalid UTF-8 becomes ``�``.

        The text may end within a line; the next read returns the rest.

        Raises:
            StoreError: The file exists but cannot be read.
        """
        try:
            with reading(self.path) as file:
                data = self._gained(file.fileno())
        except FileNotFoundError:
            self._inode = None
            return ""
        except OSError as error:
            raise StoreError("The log cannot be read", where=self.path, found=error.strerror) from error
        # A progress bar rewrites its line with carriage returns; here each state becomes a line.
        return clean(_ESCAPES.sub("", self._decoder.decode(data))) if data else ""

    def _gained(self, descriptor: int) -> bytes:
        status = os.fstat(descriptor)
        size = status.st_size
        same = self._inode == status.st_ino and self._offset <= size <= self._offset + MOST
        if same:
            return self._pieces(descriptor, size)
        self.generation += self._seen
        self._seen, self._inode, self._decoder = True, status.st_ino, _decoder()
        # One more byte, which shows whether the first line is complete.
        self._offset = max(0, size - FIRST - 1)
        data = self._pieces(descriptor, size)
        if size > FIRST:
            data = _from_whole_line(data)
        self.skipped = self._offset - len(data)
        return data

    def _pieces(self, descriptor: int, size: int) -> bytes:
        """Read from the offset to ``size``, not further: a fast writer could otherwise prolong the read without end."""
        pieces = []
        while self._offset < size:
            piece = os.pread(descriptor, min(1 << 16, size - self._offset), self._offset)
            if not piece:
                break
            self._offset += len(piece)
            pieces.append(piece)
        return b"".join(pieces)


def _decoder() -> io.IncrementalNewlineDecoder:
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)


def _from_whole_line(data: bytes) -> bytes:
    """``data`` without its incomplete first line; unchanged if it has only one line."""
    _, newline, rest = data.partition(b"\n")
    return rest if newline else data
