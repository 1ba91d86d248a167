"""The second pipeline of pixels, the default of new profiles: OpenCV on decoded sources of any size and channels.

Every random number of a view comes from a NumPy generator seeded with the view's seed: a view is the same in any
process and order, and neither torch's generator nor NumPy's global one is used.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from kdtui.engine.data.cache import SourceCache
from kdtui.engine.data.source import Source
from kdtui.profile.data_tables import Level

# Samples are loaded by several processes: threads of OpenCV would compete for the same cores.
cv2.setNumThreads(0)

Read = Callable[[int], Source]


class SecondPipeline:
    """Samples of one split.

    Args:
        read: Reads the source of a sample.
        count: Number of samples.
        height: Height of the network's input.
        width: Width of the network's input.
        level: Strength of the augmentation.
        budget: Size of the cache in bytes.
    """

    def __init__(self, read: Read, *, count: int, height: int, width: int, level: Level, budget: int) -> None:
        self._read = read
        self._cache = SourceCache(count, budget)
        self._size = (width, height)
        self._level = level

    def __call__(self, index: int, seed: int) -> tuple[Tensor, Tensor]:
        """Image [C,H,W] of 0 to 255 and labels uint8 [H,W] of a view.

        Args:
            index: Number of the sample.
            seed: Seed of the view.
        """
        source = self.source(index)
        shape = (*self._size[::-1], source.image.shape[2])
        image = cv2.resize(source.image, self._size, interpolation=cv2.INTER_AREA).reshape(shape)
        labels = cv2.resize(source.labels, self._size, interpolation=cv2.INTER_NEAREST_EXACT)
        if self._level != "none" and np.random.Generator(np.random.PCG64(seed)).random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(labels.copy())

    def source(self, index: int) -> Source:
        """The source of a sample, from the cache if it is there."""
        source = self._cache.get(index)
        if source is None:
            source = self._read(index)
            self._cache.put(index, source)
        return source
