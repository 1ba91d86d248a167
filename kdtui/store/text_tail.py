"""Following a text file, such as a log: its end at first, then only what it gained."""

from __future__ import annotations

import codecs
import io
import os
import re
from pathlib import Path

from kdtui.errors import StoreError
from kdtui.store.reading import reading
from kdtui.wording import clean

FIRST = 64 * 1024
"""Bytes of its end that are read of a file that was there before."""
MOST = 1024 * 1024
"""Bytes one read may gain; a file that gained more is begun again at its end."""

# Colours and cursor movements, whole: `clean` alone would leave their letters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class TextTail:
    r"""Reads the text that was appended since the last :meth:`read`.

    A file that is not there yet is empty. Another file, a shorter one, or one that gained more than :data:`MOST`, is
    begun again, and ``generation`` grows: what was read before is void. Where a file is gone, what was read of it stays
    until there is another one.

    Attributes:
        generation: Grows whenever the text begins again.
        skipped: Bytes before the first line that was read of this generation.
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
        r"""The new text: lines end in ``\n``, control characters are out, bytes that are no UTF-8 are ``�``.

        It may end within a line, of which the next read brings the rest.

        Raises:
            StoreError: The file is there and cannot be read.
        """
        try:
            with reading(self.path) as file:
                data = self._gained(file.fileno())
        except FileNotFoundError:
            self._inode = None
            return ""
        except OSError as error:
            raise StoreError("The log cannot be read", where=self.path, found=error.strerror) from error
        # A progress bar rewrites its line with carriage returns; here every state of it is a line.
        return clean(_ESCAPES.sub("", self._decoder.decode(data))) if data else ""

    def _gained(self, descriptor: int) -> bytes:
        status = os.fstat(descriptor)
        size = status.st_size
        same = self._inode == status.st_ino and self._offset <= size <= self._offset + MOST
        if same:
            return self._pieces(descriptor, size)
        self.generation += self._seen
        self._seen, self._inode, self._decoder = True, status.st_ino, _decoder()
        # One byte more than wanted: it tells whether the first line is whole.
        self._offset = max(0, size - FIRST - 1)
        data = self._pieces(descriptor, size)
        if size > FIRST:
            data = _from_whole_line(data)
        self.skipped = self._offset - len(data)
        return data

    def _pieces(self, descriptor: int, size: int) -> bytes:
        """From the offset to ``size`` and not beyond it: a writer may append for as long as this reads."""
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
    """Without the rest of the line that ``data`` begins in; all of it where there is no other line."""
    _, newline, rest = data.partition(b"\n")
    return rest if newline else data
