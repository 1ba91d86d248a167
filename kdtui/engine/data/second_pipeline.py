"""The second pipeline of pixels, the default of new profiles: OpenCV on decoded sources of any size and channels.

All geometry of a view is one matrix, applied in one warp to image and labels; then colours, blur, JPEG and noise. Every
random number of a view comes from a NumPy generator seeded with the view's seed: a view is the same in any process and
order, and neither torch's generator nor NumPy's global one is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from kdtui.engine.data.cache import SourceCache
from kdtui.engine.data.colour import SAME, Line, blurred, compressed, line_of, noisy, normalised, saturated
from kdtui.engine.data.geometry import Geometry
from kdtui.engine.data.pixel_format import PixelFormat
from kdtui.engine.data.source import Needed, Size, Source, Values
from kdtui.engine.data.warp import fitted, warped_image
from kdtui.profile import DataTable
from kdtui.profile.data_tables import Level

# Samples are loaded by several processes: threads of OpenCV would compete for the same cores.
cv2.setNumThreads(0)

_COLOURS = {"light": 0.2, "heavy": 0.3}
_BLUR_SHARE, _BLUR = 0.2, (0.1, 1.2)  # standard deviation in pixels
_JPEG_SHARE, _JPEG = 0.2, (40, 95)  # quality
_NOISE_SHARE, _NOISE = 0.2, (1.0, 10.0)  # standard deviation, of 255


class Read(Protocol):
    """Reads the source of a sample; it may be smaller than its files, but not than ``needed``."""

    def __call__(self, index: int, needed: Needed, /) -> Source:
        """Read sample ``index``."""


class SecondPipeline:
    """Samples of one split.

    Args:
        data: The profile's data table.
        read: Reads the source of a sample.
        count: Number of samples.
        level: Strength of the augmentation.
        training: Whether crops are random.
        pixels: How the network takes images; the mean colour fills what no picture covers.
        geometry: What views show; by default that of ``data``.
    """

    def __init__(
        self,
        data: DataTable,
        read: Read,
        *,
        count: int,
        level: Level,
        training: bool,
        pixels: PixelFormat,
        geometry: Geometry | None = None,
    ) -> None:
        self._pixels = pixels
        self._read = read
        self._level = level
        self._geometry = geometry or Geometry(data, level=level, training=training)
        self._fill = tuple(float(round(255 * pixels.mean[place])) for place in pixels.order)
        largest = None if data.geometry == "crop" else self._geometry.most_pixels * (4 * pixels.channels + 1)
        self.cache = SourceCache(count, int(data.cache_gib * 2**30), largest)

    def kept_bytes(self, size: Size) -> int:
        """Size in the cache of a sample of 8 bits whose files have ``size``."""
        height, width = self._geometry.kept_size(size)
        return height * width * (self._pixels.channels + 1)

    def __call__(self, index: int, seed: int) -> tuple[Tensor, Tensor]:
        """Normalised image f32 [C,H,W] and labels i64 [H,W] of a view.

        Args:
            index: Number of the sample.
            seed: Seed of the view.
        """
        image, labels, rng = self._shown(index, seed)
        return self._planes(image, rng, self._level), labels

    def two_views(self, index: int, seed: int, colours: Level) -> tuple[Tensor, Tensor, Tensor]:
        """A view in its own colours and in others, both f32 [C,H,W], and its labels.

        Args:
            index: Number of the sample.
            seed: Seed of the view.
            colours: How much the colours of the second differ.
        """
        image, labels, rng = self._shown(index, seed)
        return self._planes(image, rng, "none"), self._planes(image, rng, colours), labels

    def _shown(self, index: int, seed: int) -> tuple[Values, Tensor, np.random.Generator]:
        """Image and labels of a view before its colours, and the generator that drew it."""
        source = self.source(index)
        rng = np.random.Generator(np.random.PCG64(seed))
        matrix, labels = self._geometry.view(source, rng)
        image = warped_image(source.image, matrix, self._geometry.size, self._fill)
        return image, torch.from_numpy(labels.astype(np.int64)), rng

    def _planes(self, image: Values, rng: np.random.Generator, level: Level) -> Tensor:
        line = SAME
        if level != "none":
            image, line = self._recoloured(image, rng, level)
        return torch.from_numpy(normalised(image, self._pixels, line))

    def source(self, index: int) -> Source:
        """The source of a sample at the size at which it is kept."""
        kept = self.cache.get(index)
        if kept is None:
            source = self._read(index, self._geometry.kept_size)
            kept = fitted(source, self._geometry.kept_size(Size(*source.labels.shape)))
            self.cache.put(index, kept)
        return kept

    def placed(
        self, index: int, shown: Callable[[Values, tuple[float, ...]], Values], rng: np.random.Generator
    ) -> Tensor:
        """Normalised image f32 [C,H,W] of a view whose geometry is known.

        Args:
            index: Number of the sample.
            shown: From the kept image and the values where there is none to the image of the view.
            rng: Source of the random numbers of its colours.
        """
        return self._planes(shown(self.source(index).image, self._fill), rng, self._level)

    def _recoloured(self, image: Values, rng: np.random.Generator, level: Level) -> tuple[Values, Line]:
        """The image in other colours, and what is left to be applied to its values."""
        span = _COLOURS[level]
        brightness, contrast, saturation = [1 + span * (2 * number - 1) for number in rng.random(3).tolist()]
        line = line_of(image, brightness=brightness, contrast=contrast)
        if level == "light":
            return image, line
        image = saturated(image, line, saturation)
        blur, jpeg, noise, sigma, quality, deviation = rng.random(6).tolist()
        if blur < _BLUR_SHARE:
            image = blurred(image, _between(_BLUR, sigma))
        if jpeg < _JPEG_SHARE:
            image = compressed(image, round(_between(_JPEG, quality)))
        if noise < _NOISE_SHARE:
            image = noisy(image, _between(_NOISE, deviation), rng)
        return image, SAME


def _between(bounds: tuple[float, float], number: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * number
