"""Files of the teacher's logits: one for each view of a training split, shared by all runs of the store.

A file has a header, an entry per sample (a mark and the CRC-32 of its values), and the samples' values. It has its full
size from the beginning, so that a full disk is noticed when it is made. Several processes may write: values come before
their entry, and a checksum that does not match makes a sample one that is not there. Files are read with ``pread``: a
memory map of a file that is cut short would end the process with SIGBUS.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kdtui.store.aside import aside
from kdtui.store.files import open_file, read_file
from kdtui.store.run import write_atomically
from kdtui.store.values import parse_json

FOLDER = Path(".cache") / "logits"
"""Of a run store; below it is a folder for each teacher with its data, named by a hash."""
SUFFIX = ".logits"
_ABOUT = "about.json"
_MAGIC = b"kdtui-l1"
_HEADER = struct.Struct("<8sQQ40x")
_ENTRY = struct.Struct("<4sI")
_THERE = b"here"
_MOST_BYTES = 2**16
_SHARE, _MOST_GIB = 0.1, 20.0


class ViewLogits:
    """The open file of one view.

    Args:
        descriptor: Open for reading and writing; closed by :meth:`close`.
        samples: Number of samples.
        sample_bytes: Bytes of the values of each.
    """

    def __init__(self, descriptor: int, samples: int, sample_bytes: int) -> None:
        self.samples = samples
        self._descriptor, self._bytes = descriptor, sample_bytes

    @classmethod
    def open(cls, path: Path, samples: int, sample_bytes: int) -> Self | None:
        """Open an existing file; None if there is none, or it has another format, version or size."""
        try:
            descriptor = open_file(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        header = os.pread(descriptor, _HEADER.size, 0)
        size = os.fstat(descriptor).st_size
        if _sizes(header) != (samples, sample_bytes) or size != file_bytes(samples, sample_bytes):
            os.close(descriptor)
            return None
        return cls(descriptor, samples, sample_bytes)

    @classmethod
    def make(cls, path: Path, samples: int, sample_bytes: int) -> Self | None:
        """Make a file without samples, unless another process has made it, and open it.

        Raises:
            OSError: The disk is full, or the folder is not writable.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        new = aside(path)
        try:
            with new.open("xb") as file:
                file.write(_HEADER.pack(_MAGIC, samples, sample_bytes))
                file.flush()
                os.posix_fallocate(file.fileno(), 0, file_bytes(samples, sample_bytes))
            with contextlib.suppress(FileExistsError):
                os.link(new, path)
        finally:
            new.unlink(missing_ok=True)
        return cls.open(path, samples, sample_bytes)

    def read(self, index: int) -> bytes | None:
        """The values of a sample; None if they are not there or damaged.

        Raises:
            OSError: The file cannot be read.
        """
        values = os.pread(self._descriptor, self._bytes, self._place(index))
        entry = os.pread(self._descriptor, _ENTRY.size, _HEADER.size + index * _ENTRY.size)
        whole = len(values) == self._bytes and entry == _ENTRY.pack(_THERE, zlib.crc32(values))
        return values if whole else None

    def marked(self, index: int) -> bool:
        """Whether a sample was written; its values are not checked."""
        return os.pread(self._descriptor, len(_THERE), _HEADER.size + index * _ENTRY.size) == _THERE

    def write(self, index: int, values: bytes) -> None:
        """Write the values of a sample.

        Raises:
            OSError: The file cannot be written.
        """
        assert len(values) == self._bytes and 0 <= index < self.samples
        _write(self._descriptor, values, self._place(index))
        _write(self._descriptor, _ENTRY.pack(_THERE, zlib.crc32(values)), _HEADER.size + index * _ENTRY.size)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _place(self, index: int) -> int:
        return _HEADER.size + self.samples * _ENTRY.size + index * self._bytes


def _sizes(header: bytes) -> tuple[int, int] | None:
    """Samples, and bytes of each; None for a header of another format or version."""
    if len(header) < _HEADER.size:
        return None
    magic, samples, sample_bytes = _HEADER.unpack(header)
    return (samples, sample_bytes) if magic == _MAGIC else None


def _write(descriptor: int, content: bytes, place: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], place + written)


def file_bytes(samples: int, sample_bytes: int) -> int:
    """Size of the file of a view."""
    return _HEADER.size + samples * (_ENTRY.size + sample_bytes)


def budget_bytes(root: Path, gib: float | None) -> int:
    """How much the files of a store may take together.

    Args:
        root: The run store.
        gib: ``training.cache_gib``; by default a tenth of the disk space that is free without these files, at most 20.
    """
    if gib is None:
        existing = next(folder for folder in (root, *root.parents) if folder.exists())
        gib = min(_MOST_GIB, _SHARE * (shutil.disk_usage(existing).free + used_bytes(root)) / 2**30)
    return int(gib * 2**30)


def used_bytes(root: Path) -> int:
    """How much the files of a store take."""
    return sum(_size(path) for path in (root / FOLDER).glob(f"*/*{SUFFIX}"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process has removed it
        return 0


def describe(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what the files of a folder are, unless it was written; for :func:`entries`.

    Raises:
        StoreError: It cannot be written.
    """
    if not (folder / _ABOUT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _ABOUT, json.dumps(about).encode())


@dataclass(frozen=True)
class Entry:
    """The files of one teacher and its data.

    Attributes:
        folder: Their folder, named by a hash of all that the values depend on.
        about: ``teacher``, ``encoder``, ``data``, ``shape`` (C, H, W) and ``samples``; empty if it cannot be read.
        views: Number of files.
        bytes: Their size.
    """

    folder: Path
    about: Mapping[str, Any]
    views: int
    bytes: int


@dataclass(frozen=True)
class Verified:
    """The samples of an entry.

    Attributes:
        whole: Samples with intact values.
        absent: Samples that were not written yet.
        damaged: Samples whose values do not match their checksum; the teacher computes them again.
        unreadable: Files of another format or size, which are not used.
    """

    whole: int
    absent: int
    damaged: int
    unreadable: tuple[Path, ...]


def entries(root: Path) -> list[Entry]:
    """All cached logits of a store, largest first."""
    listed = []
    for folder in sorted((root / FOLDER).glob("*")):
        if not folder.is_dir():
            continue
        sizes = [_size(path) for path in folder.glob(f"*{SUFFIX}")]
        listed.append(Entry(folder, _about(folder), len(sizes), sum(sizes)))
    return sorted(listed, key=lambda entry: -entry.bytes)


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = parse_json(read_file(folder / _ABOUT, most=_MOST_BYTES))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def verify(entry: Entry) -> Verified:
    """Read all files of an entry and check every sample.

    Raises:
        OSError: A file cannot be read.
    """
    whole = absent = damaged = 0
    unreadable = []
    for path in sorted(entry.folder.glob(f"*{SUFFIX}")):
        with _opened(path) as file:
            if file is None:
                unreadable.append(path)
                continue
            for index in range(file.samples):
                if not file.marked(index):
                    absent += 1
                elif file.read(index) is None:
                    damaged += 1
                else:
                    whole += 1
    return Verified(whole, absent, damaged, tuple(unreadable))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ViewLogits | None]:
    """A file with the sizes that its own header states; None if it is none."""
    with path.open("rb") as raw:
        header = raw.read(_HEADER.size)
    sizes = _sizes(header)
    file = None if sizes is None else ViewLogits.open(path, *sizes)
    try:
        yield file
    finally:
        if file is not None:
            file.close()


def clear(root: Path) -> int:
    """Remove all files; running trainings continue with those that they have open, or live.

    Returns:
        The number of bytes that are freed.

    Raises:
        OSError: A file cannot be removed.
    """
    freed = used_bytes(root)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(root / FOLDER)
    return freed
