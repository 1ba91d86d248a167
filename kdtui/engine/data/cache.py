"""Rendered samples, kept in memory that all loading processes share.

An anonymous shared mapping: workers that are forked later write into the same pages, so every sample is decoded once
per run and held once, whatever the number of workers and epochs. Pages cost memory only when they are written. Two
workers may render the same sample at the same time; they write the same bytes, and the flag is set after them.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUDGET = 2 * 1024**3
"""Largest cache of one dataset in bytes; samples beyond it are rendered every time."""

_CHANNELS = 4  # red, green, blue, label


class SampleCache:
    """Slots of one size for the first samples of a dataset.

    Args:
        count: Samples of the dataset.
        height: Rows of a slot.
        width: Columns of a slot.
        budget: Bytes it may take.
    """

    def __init__(self, count: int, height: int, width: int, budget: int = BUDGET) -> None:
        self._shape = (height, width)
        self._budget = budget
        self._count = count
        self._allocate()

    def _allocate(self) -> None:
        slot = self._shape[0] * self._shape[1] * _CHANNELS
        self.slots = min(self._count, self._budget // slot)
        if self.slots:
            pixels = self.slots * slot
            pages = np.frombuffer(mmap.mmap(-1, pixels + self.slots), dtype=np.uint8)
            height, width = self._shape
            self._images = pages[: pixels // 4 * 3].reshape(self.slots, height, width, 3)
            self._masks = pages[pixels // 4 * 3 : pixels].reshape(self.slots, height, width)
            self._filled = pages[pixels:]

    def get(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        """Image and labels of a sample, or None when it has not been kept."""
        if index >= self.slots or not self._filled[index]:
            return None
        return self._images[index], self._masks[index]

    def put(self, index: int, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Keep a sample, when there is a slot for it."""
        if index < self.slots:
            self._images[index] = image
            self._masks[index] = mask
            self._filled[index] = 1

    def __getstate__(self) -> dict[str, Any]:
        # A mapping cannot be sent to another process: a copy starts empty.
        return {"_shape": self._shape, "_budget": self._budget, "_count": self._count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()
