"""The first pipeline of pixels: samples rendered at a size, augmented by torchvision's transforms.

Runs whose profile has no ``data.pipeline`` were trained with it, and resume with it: its pixels must stay the same bit
for bit. torchvision's transforms use torch's global generator, so each call runs in a fork of it with the view's seed:
a view is the same in any process and order, and the random numbers of the training are not affected.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdtui.engine.data.pixel_format import PixelFormat
from kdtui.engine.data.source import IGNORE_INDEX, Pixels, Size, Source
from kdtui.engine.torchvision_compat import ensure_torchvision
from kdtui.profile.base import TaskName
from kdtui.profile.data_tables import Level

ensure_torchvision()

from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import InterpolationMode, v2  # noqa: E402

_OVERSIZE: dict[Level, float] = {"none": 1.0, "light": 1.0, "heavy": 1.5}
"""Size of cached samples relative to the network's input, to provide real pixels for zooming in."""

_MEAN_BYTES = (124, 116, 104)
_CHANNELS = 4  # red, green, blue, label

Render = Callable[[int, int, int], tuple[Pixels, Pixels]]


def resized(source: Source, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Image (bilinear, antialiased) and labels (nearest) of an RGB source at a size."""
    image, labels = Image.fromarray(source.image), source.labels
    if image.size == (width, height):
        return np.asarray(image), labels
    mask = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR)), np.array(mask)


class SampleCache:
    """Cache of the first samples of a dataset in shared memory.

    Args:
        count: Number of samples of the dataset.
        height: Height of a sample.
        width: Width of a sample.
        budget: Maximum size in bytes; further samples are rendered every time.
    """

    def __init__(self, count: int, height: int, width: int, budget: int) -> None:
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

    def get(self, index: int) -> tuple[Pixels, Pixels] | None:
        """Image and labels of a sample; None if it is not cached."""
        if index >= self.slots or not self._filled[index]:
            return None
        return self._images[index], self._masks[index]

    def put(self, index: int, image: Pixels, mask: Pixels) -> None:
        """Cache a sample, if there is space for it."""
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


class Augment:
    """``light``: flip, brightness, contrast. ``heavy``: also rotation, shift, shear, zoom, colour jitter and blur.

    Args:
        level: ``light`` or ``heavy``.
        task: In ``hierarchical`` crops the target is identified by filling the frame, so zooming is limited.
        height: Height of the output.
        width: Width of the output.
    """

    def __init__(self, level: Level, task: TaskName, height: int, width: int) -> None:
        flip = v2.RandomHorizontalFlip(0.5)
        if level == "light":
            self._transform = v2.Compose([flip, v2.ColorJitter(brightness=0.2, contrast=0.2)])
            return
        turn = v2.RandomAffine(
            degrees=12,
            translate=(0.06, 0.06),
            scale=(0.85, 1.1),
            shear=4,
            interpolation=InterpolationMode.NEAREST,
            fill={tv_tensors.Image: _MEAN_BYTES, tv_tensors.Mask: IGNORE_INDEX},
        )
        ratio = width / height
        zoom = v2.RandomResizedCrop(
            (height, width),
            scale=(0.65 if task == "hierarchical" else 0.35, 1.0),
            ratio=(0.9 * ratio, 1.1 * ratio),
            antialias=True,
        )
        colours = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)  # hue would take as long as the rest
        blur = v2.RandomApply([v2.GaussianBlur(3, sigma=(0.1, 1.2))], p=0.2)
        self._transform = v2.Compose([flip, v2.RandomApply([turn], p=0.5), zoom, colours, blur])

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Augment a sample with the view's seed."""
        # devices=[]: torch.manual_seed would also seed every GPU.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            out_image, out_mask = self._transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return out_image.as_subclass(Tensor), out_mask.as_subclass(Tensor)


class FirstPipeline:
    """Samples of one split.

    Args:
        render: Draws or reads a sample at a height and width: RGB and labels.
        count: Number of samples.
        height: Height of the network's input.
        width: Width of the network's input.
        level: Strength of the augmentation.
        task: Meaning of the labels.
        budget: Size of the cache in bytes.
        pixels: How the network takes images.
    """

    def __init__(
        self,
        render: Render,
        *,
        count: int,
        height: int,
        width: int,
        level: Level,
        task: TaskName,
        budget: int,
        pixels: PixelFormat,
    ) -> None:
        self._render = render
        self._augment = None if level == "none" else Augment(level, task, height, width)
        self._size = (round(height * _OVERSIZE[level]), round(width * _OVERSIZE[level]))
        self._cache = SampleCache(count, *self._size, budget)
        self._pixels = pixels

    def kept_bytes(self, size: Size) -> int:
        """Size in the cache of a sample whose files have ``size``."""
        del size
        return self._size[0] * self._size[1] * _CHANNELS

    def __call__(self, index: int, seed: int) -> tuple[Tensor, Tensor]:
        """Normalised image f32 [3,H,W] and labels i64 [H,W] of a view.

        Args:
            index: Number of the sample.
            seed: Seed of the view.
        """
        kept = self._cache.get(index)
        if kept is None:
            kept = self._render(index, *self._size)
            self._cache.put(index, *kept)
        image, mask = torch.from_numpy(kept[0]).permute(2, 0, 1), torch.from_numpy(kept[1])
        if self._augment is not None:
            image, mask = self._augment(image, mask, seed)
        return self._pixels.normalised(image), mask.long()
