"""The text of a run's logs, read in pieces: in constant memory, and only as far as it is consumed."""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from kdtui.errors import StoreError
from kdtui.store.files import reading
from kdtui.text import clean

PIECE = 64 * 1024
"""Bytes that are read at a time."""
END = 8 * 1024
"""Bytes of a log's end that are read if only the end is shown."""
# Complete escape sequences: `clean` alone would leave their letters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class LogText:
    """Reader of the text appended to a log since the last read.

    A log that does not exist yet is empty; one that became shorter is read from its start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self._decoder = _decoder()

    def skip_to_end(self) -> None:
        """Skip all but the last lines."""
        try:
            with reading(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if size > END:
                    file.seek(size - END)
                    self.position = size - END + len(file.readline(END))
        except OSError:  # missing or unreadable, which reading its text reports
            return

    @property
    def has_more(self) -> bool:
        """Whether the log exists and has unread text, or is unreadable, which reading reports."""
        try:
            return self.path.stat().st_size > self.position or not self.path.is_file()
        except OSError:
            return False

    def pieces(self) -> Iterator[str]:
        r"""Read the new text up to the log's current size; lines end in ``\n``, control characters are removed.

        Raises:
            StoreError: The log cannot be read.
        """
        try:
            with reading(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if size < self.position:
                    self.position, self._decoder = 0, _decoder()
                file.seek(self.position)
                while (left := size - self.position) > 0 and (data := file.read(min(PIECE, left))):
                    self.position += len(data)
                    yield self._text(data)
        except FileNotFoundError:
            return
        except BrokenPipeError:  # raised by the consumer's output, not by the log
            raise
        except OSError as error:
            raise StoreError("The log cannot be read", where=self.path, found=error.strerror) from error

    def _text(self, data: bytes) -> str:
        # A progress bar rewrites its line with carriage returns; here each state becomes a line.
        lines = _ESCAPES.sub("", self._decoder.decode(data)).split("\n")
        return "\n".join(line if line.isprintable() else clean(line) for line in lines)  # most lines need no cleaning


def _decoder() -> io.IncrementalNewlineDecoder:
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
