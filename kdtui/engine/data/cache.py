"""Cache of decoded sources in shared memory: forked loading processes fill and read one cache."""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from typing import Any, cast

import numpy as np

from kdtui.engine.data.source import Source, Values
from kdtui.errors import DataError
from kdtui.text import mebibytes

_ALIGNMENT = 64


class SourceCache:
    """Sources of any size, kept in the order in which they are read until the budget is used.

    Args:
        count: Number of samples of the dataset.
        budget: Maximum size in bytes; further sources are read every time.
        largest: Maximum size of one source in bytes, if it is known.
    """

    def __init__(self, count: int, budget: int, largest: int | None = None) -> None:
        self._arguments = (count, budget, largest)
        slot = budget if largest is None else _aligned(largest)
        self._size = min(budget, count * slot)
        try:
            memory = mmap.mmap(-1, max(1, self._size))
            self._heap, self._read_only = np.frombuffer(memory, dtype=np.uint8), memoryview(memory).toreadonly()
            table = np.frombuffer(mmap.mmap(-1, (1 + 5 * count) * 8), dtype=np.int64)
        except (OSError, ValueError, OverflowError):
            raise DataError(
                "memory for the cache of decoded images cannot be reserved",
                where="data.cache_gib",
                found=mebibytes(self._size),
                hint="--set data.cache_gib=0 reads every image each time",
            ) from None
        # Bytes in use; for each source: end in the heap (0: not kept), height, width, channels, bytes per value.
        self._used, self._entries = table[:1], table[1:].reshape(count, 5)
        # Only Linux forks loading processes. A record lock excludes forked processes, and the kernel releases that of
        # a process that is killed.
        self._lock = os.memfd_create("cache") if hasattr(os, "memfd_create") else None
        if self._lock is not None:
            weakref.finalize(self, os.close, self._lock)

    @property
    def used(self) -> int:
        """Bytes of the kept sources."""
        return int(self._used[0])

    @property
    def kept(self) -> int:
        """Number of kept sources."""
        return int(np.count_nonzero(self._entries[:, 0]))

    def get(self, index: int) -> Source | None:
        """The source of a sample, not writeable; None if it is not cached."""
        end, height, width, channels, depth = self._entries[index].tolist()
        if not end:
            return None
        start = end - _aligned(height * width * (channels * depth + 1))
        kind = np.uint8 if depth == 1 else np.float32
        image = np.ndarray((height, width, channels), kind, self._read_only, start)
        labels = np.ndarray((height, width), np.uint8, self._read_only, start + image.nbytes)
        return Source(cast(Values, image), labels)

    def put(self, index: int, source: Source) -> None:
        """Cache a source whose image and labels have one size, if there is space for it."""
        height, width, channels = source.image.shape
        size = _aligned(source.image.nbytes + source.labels.nbytes)
        start = self._reserved(index, size)
        if start is None:
            return
        image_end, labels_end = start + source.image.nbytes, start + source.image.nbytes + source.labels.nbytes
        self._heap[start:image_end] = np.ascontiguousarray(source.image).view(np.uint8).ravel()
        self._heap[image_end:labels_end] = source.labels.ravel()
        self._entries[index, 1:] = height, width, channels, source.image.itemsize
        self._entries[index, 0] = start + size  # last: readers take no lock

    def _reserved(self, index: int, size: int) -> int | None:
        """Start of new space in the heap; None if there is too little, or if the source is kept already."""
        if self._lock is not None:
            fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            start = int(self._used[0])
            if self._entries[index, 0] or start + size > self._size:
                return None
            self._used[0] = start + size
            return start
        finally:
            if self._lock is not None:
                fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._arguments

    def __setstate__(self, arguments: tuple[Any, ...]) -> None:
        # A mapping cannot be sent to another process: a copy starts empty.
        self.__init__(*arguments)  # type: ignore[misc]


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
