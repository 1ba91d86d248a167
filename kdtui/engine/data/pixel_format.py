"""How images are given to a network: number and order of channels, and normalisation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdtui.engine.data.source import MEAN, STD, Values
from kdtui.profile import DataTable

_OTHER_MEAN, _OTHER_STD = 0.5, 0.25
"""Statistics of each channel of images that are not colours."""
_MOST_IMAGES = 256
_LEAST_STD = 1e-3


@dataclass(frozen=True)
class PixelFormat:
    """Images as a network takes them: ``(value - mean) / std`` of values from 0 to 1.

    Attributes:
        mean: Mean of each channel, in the network's channel order.
        std: Standard deviation of each channel, in the network's channel order.
        bgr: Whether the first three channels are blue, green, red.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    bgr: bool = False

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def described(self) -> str:
        """The format in a message."""
        order = "BGR, " if self.bgr else "grey, " if self.channels == 1 else ""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"{order}mean {mean}, std {std}"

    @property
    def order(self) -> list[int]:
        """The channel of a file for each channel of the network; the same list converts back."""
        channels = list(range(self.channels))
        return [2, 1, 0, *channels[3:]] if self.bgr else channels

    @functools.cached_property
    def line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factor and offset, [C,1] each, of values from 0 to 255, in the network's channel order."""
        mean, std = np.array([self.mean]).T, np.array([self.std]).T
        return 1 / (255 * std), -mean / std

    @functools.cache  # noqa: B019 - there are few formats
    def scale_and_shift(self, white: float) -> tuple[Tensor, Tensor]:
        """The normalisation as one multiplication and one addition, [C,1,1] each.

        Args:
            white: The value that becomes 1 before the normalisation.
        """
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return 1 / (white * std), -mean / std

    def in_order(self, pixels: Tensor) -> Tensor:
        """Channels [...,C,H,W] of a file in the network's order, or back."""
        return pixels[..., self.order, :, :] if self.bgr else pixels

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels [...,C,H,W] of 0 to 255 in the order of the file as the network takes them, f32."""
        scale, shift = self.scale_and_shift(255)
        image = self.in_order(pixels).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return image.mul_(scale).add_(shift)

    def restored(self, images: Tensor) -> Tensor:
        """Values of 0 to 1 of normalised images [...,C,H,W], in the network's order."""
        mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return images * std + mean


def format_of(data: DataTable) -> PixelFormat:
    """The format of a profile; ``dataset`` must have been replaced, see :func:`statistics_of`."""
    channels, bgr = data.image_channels, data.image_bgr
    colours = channels == len(MEAN)
    plain = PixelFormat(
        MEAN if colours else (_OTHER_MEAN,) * channels, STD if colours else (_OTHER_STD,) * channels, bgr
    )
    mean, std = (
        values if isinstance(values, tuple) else tuple(default[place] for place in plain.order)
        for values, default in ((data.mean, plain.mean), (data.std, plain.std))
    )
    return PixelFormat(mean, std, bgr)


def recorded_format(record: object) -> PixelFormat | None:
    """The format in a checkpoint; None if it has none, or one that cannot be read."""
    if not isinstance(record, Mapping):
        return None
    mean, std, bgr = (record.get(key) for key in ("mean", "std", "bgr"))
    if not (isinstance(mean, Sequence) and isinstance(std, Sequence) and 0 < len(mean) == len(std)):
        return None
    numbers = all(isinstance(value, float) and math.isfinite(value) for value in (*mean, *std)) and min(std) > 0
    return PixelFormat(tuple(mean), tuple(std), bgr is True) if numbers else None


def needs_statistics(data: DataTable) -> bool:
    """Whether mean or standard deviation are to be computed from the training images."""
    return "dataset" in (data.mean, data.std)


def statistics_of(data: DataTable, count: int, read: Callable[[int], Values]) -> dict[str, tuple[float, ...]]:
    """``mean`` and ``std`` of the keys that are ``dataset``, in the network's channel order.

    At most 256 images are read, evenly spread over the split, so that it takes seconds. Every image has the same
    weight.

    Args:
        data: The table of the data.
        count: Number of training images.
        read: Image [h,w,C] of a number, on the scale 0 to 255.
    """
    chosen = np.linspace(0, count - 1, min(count, _MOST_IMAGES)).round().astype(int).tolist()
    mean, std = _moments(read(index) for index in chosen)
    order = format_of(data.model_copy(update={"mean": None, "std": None})).order
    computed = {"mean": mean, "std": std}
    return {
        key: tuple(round(float(values[place]), 4) for place in order)
        for key, values in computed.items()
        if getattr(data, key) == "dataset"
    }


def _moments(images: Iterable[Values]) -> tuple[np.ndarray, np.ndarray]:
    means, squares = [], []
    for image in images:
        values = image.reshape(-1, image.shape[2]).astype(np.float64) / 255
        means.append(values.mean(axis=0))
        squares.append((values**2).mean(axis=0))
    mean = np.mean(means, axis=0)
    return mean, np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, _LEAST_STD**2))
