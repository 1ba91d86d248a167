"""Records of read samples in the run store, appended while they are made, so that a killed check resumes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from kdtui.engine.data.examine import SampleRecord
from kdtui.errors import StoreError
from kdtui.store.aside import remove_leftovers
from kdtui.store.files import appending, reading, write_atomically
from kdtui.store.values import parse_json

MOST_BYTES = 256 * 2**20
"""Size of the folder of kept results, above which the oldest files are removed."""
_LONGEST_LINE = 1 << 16
_MOST_WAITING = 32
"""Records between two writes: what a killed process loses."""
_WASTE = 2
"""A file with this many times the lines that are needed is written again."""


class KeptRecords:
    """The records of one file, by key.

    Several processes may append to one file: each write is one call with whole lines, and a line that cannot be read is
    skipped. A folder that is not writable keeps nothing, which :attr:`kept` says.

    Args:
        file: ``runs/.cache/data/NAME.jsonl``.
    """

    def __init__(self, file: Path) -> None:
        self.kept = True
        self._file = file
        self._lines = 0
        self._records = self._read()
        self._waiting: list[bytes] = []

    def __getitem__(self, key: str) -> SampleRecord | None:
        return self._records.get(key)

    def add(self, record: SampleRecord) -> None:
        """Keep a record; it is written with the next ones, or by :meth:`flush`."""
        self._records[record.key] = record
        self._waiting.append(record.to_line())
        if len(self._waiting) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._waiting and self.kept:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with appending(self._file) as stream:
                    os.write(stream.fileno(), b"".join(self._waiting))
            except OSError:  # read-only or full: the next check reads these samples again
                self.kept = False
        self._lines += len(self._waiting)
        self._waiting = []

    def tidy(self, needed: Collection[str]) -> None:
        """Flush, drop records that are not needed where these are many, and remove old files of the folder."""
        self.flush()
        with contextlib.suppress(StoreError, OSError):
            if self.kept and self._lines > _WASTE * len(needed):
                records = (self._records[key] for key in needed)
                write_atomically(self._file, b"".join(record.to_line() for record in records))
            remove_leftovers(self._file.parent)
            _bound(self._file.parent, keep=self._file.stem)

    def _read(self) -> dict[str, SampleRecord]:
        records = {}
        with contextlib.suppress(OSError), reading(self._file) as stream:
            if not stream.seek(0, 2):
                return {}
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                self._end_line()
            stream.seek(0)
            for record in map(_parsed, _lines(stream)):
                self._lines += 1
                if record is not None:
                    records[record.key] = record
        return records

    def _end_line(self) -> None:
        """End a line that a killed process left unfinished."""
        with contextlib.suppress(OSError), appending(self._file) as stream:
            os.write(stream.fileno(), b"\n")


def _lines(stream: Iterable[bytes]) -> Iterable[bytes]:
    return (line for line in stream if len(line) < _LONGEST_LINE)


def _parsed(line: bytes) -> SampleRecord | None:
    try:
        return SampleRecord.of_json(parse_json(line))
    except ValueError:
        return None


def _bound(folder: Path, *, keep: str) -> None:
    """Remove the files that were not used for the longest time until the rest fits into the limit."""
    files = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda file: -file[0].st_mtime_ns)
    total = 0
    for status, path in files:
        total += status.st_size
        if total > MOST_BYTES and path.stem != keep:
            path.unlink(missing_ok=True)
