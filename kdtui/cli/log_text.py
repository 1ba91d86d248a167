"""The text of a run's logs, printed piece by piece: in constant memory, and no further than somebody reads."""

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
"""Bytes that are read and printed at once."""
END = 8 * 1024
"""Bytes of a log's end where only that is wanted."""
# Colours and cursor movements, whole: `clean` alone would leave their letters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class LogText:
    """The text that a log gained since it was read last.

    A log that is not there yet is empty; one that became shorter is read from its start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self._decoder = _decoder()

    def skip_to_end(self) -> None:
        """Leave out all but the last lines."""
        try:
            with reading(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if size > END:
                    file.seek(size - END)
                    self.position = size - END + len(file.readline(END))
        except OSError:  # not there, or not to be read: printing it says so
            return

    @property
    def has_more(self) -> bool:
        """Whether there is a log with something new in it."""
        try:
            return self.path.stat().st_size > self.position or not self.path.is_file()
        except OSError:
            return False

    def pieces(self) -> Iterator[str]:
        r"""What is new, up to the size that the log has now; lines end in ``\n``, control characters are left out.

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
        except BrokenPipeError:  # of whoever reads what is printed, not of the log
            raise
        except OSError as error:
            raise StoreError("The log cannot be read", where=self.path, found=error.strerror) from error

    def _text(self, data: bytes) -> str:
        # A progress bar rewrites its line with carriage returns; here every state of it is a line.
        lines = _ESCAPES.sub("", self._decoder.decode(data)).split("\n")
        return "\n".join(line if line.isprintable() else clean(line) for line in lines)  # most need no second look


def _decoder() -> io.IncrementalNewlineDecoder:
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
