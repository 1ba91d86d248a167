"""The dataset interface: samples of the network's input size, reproducible from (index, view).

A kind of data only implements how to *render* sample ``index`` at a size, as uint8 pixels and labels. Caching of
rendered samples, augmentation, normalisation and padding to the network's stride are shared.
"""

from __future__ import annotations

import hashlib
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdtui.profile import DataTable

BUDGET = 2 * 1024**3
"""Maximum size of a dataset's cache in bytes; further samples are rendered every time."""

_CHANNELS = 4  # red, green, blue, label


class SampleCache:
    """Cache of the first samples of a dataset in shared memory.

    Args:
        count: Number of samples of the dataset.
        height: Height of a sample.
        width: Width of a sample.
        budget: Maximum size in bytes.
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
        """Image and labels of a sample; None if it is not cached."""
        if index >= self.slots or not self._filled[index]:
            return None
        return self._images[index], self._masks[index]

    def put(self, index: int, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
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


IGNORE_INDEX = 255
SPLITS = ("train", "val", "test")
# Statistics of ImageNet, which smp's encoder weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MEAN_BYTES = (124, 116, 104)
# (pixel / 255 - MEAN) / STD as one multiplication and one addition.
_SCALE = 1 / (255 * torch.tensor(STD).view(3, 1, 1))
_SHIFT = -(torch.tensor(MEAN) / torch.tensor(STD)).view(3, 1, 1)

Pixels = NDArray[np.uint8]
Augmentation = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


class Sample(NamedTuple):
    """One normalised image f32 [3,H,W], its labels i64 [H,W], and further inputs of networks by name."""

    image: Tensor
    mask: Tensor
    extras: Mapping[str, Tensor] = {}


class Batch(NamedTuple):
    """Images f32 [B,3,H,W], labels i64 [B,H,W], and further inputs [B,...] of networks by name."""

    images: Tensor
    masks: Tensor
    extras: Mapping[str, Tensor] = {}


class Note(NamedTuple):
    """A warning about the files of a split, which does not stop the run.

    Attributes:
        code: Stable identifier of the kind of warning.
        message: The text, with numbers.
        hint: A suggested remedy.
    """

    code: str
    message: str
    hint: str | None = None


class Extent(NamedTuple):
    """Range of the stored values of an image file, and the largest value that its type can represent.

    Attributes:
        cut_to_a_byte: Whether only the upper byte of 16-bit colours was read.
    """

    low: float
    high: float
    full: float
    cut_to_a_byte: bool


class SampleFacts(NamedTuple):
    """Facts about a sample as stored in its files.

    Attributes:
        stored: Range of the image's values before the conversion to 8 bits.
        seen: Minimum and maximum of the 8-bit image.
        labels: Classes at the size of the file; ignored pixels have IGNORE_INDEX.
        pixels: Number of decoded pixels, a measure of the cost.
    """

    stored: Extent
    seen: tuple[int, int]
    labels: Pixels
    pixels: int


def named(names: Sequence[object], total: int | None = None, *, shown: int = 5) -> str:
    """The first names, each shortened to 60 characters, and the number of the others."""
    total = len(names) if total is None else total
    texts = [text if len(text := str(name)) <= 60 else text[:59] + "…" for name in names[:shown]]
    return ", ".join(texts) + (f" and {total - len(texts)} more" if total > len(texts) else "")


def seed_of(*parts: object) -> int:
    """A 63-bit seed determined by the parts alone (``hash()`` differs between processes)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def limited(count: int, limit: int | None, seed: int) -> list[int]:
    """Sorted sample indices under a ``train_limit``; a larger limit includes the samples of a smaller one."""
    if limit is None or limit >= count:
        return list(range(count))
    order = np.random.default_rng(seed_of(seed, "train_limit")).permutation(count)
    return sorted(int(i) for i in order[:limit])


class SegmentationDataset(ABC):
    """Images and labels of one split.

    Args:
        data: The profile's data table.
        split: ``train``, ``val`` or ``test``.
        classes: Names of the labels 0, 1, ...
        count: Number of samples.
        stride: Height and width are padded to a multiple of this.
        seed: Seed of the augmentation.
        augmentation: The augmentation, or None.
        oversize: Samples are rendered this much larger than the network's input, so that an augmentation that
            zooms in finds real pixels.
    """

    surveyed = 64
    """Maximum number of samples that a survey reads."""

    def __init__(
        self,
        data: DataTable,
        split: str,
        *,
        classes: tuple[str, ...],
        count: int,
        stride: int,
        seed: int,
        augmentation: Augmentation | None,
        oversize: float,
    ) -> None:
        self.task = data.task
        self.split = split
        self.classes = classes
        self.views = data.views
        self.height = data.height
        self.width = data.width
        self.stride = stride
        self.seed = seed
        self._count = count
        self._augmentation = augmentation
        self._source = (round(data.height * oversize), round(data.width * oversize))
        self._cache = SampleCache(count, *self._source)

    def __len__(self) -> int:
        return self._count

    @property
    def own_colours(self) -> tuple[str, ...]:
        """``#rrggbb`` of each class; an empty string if the data define no colour for it."""
        return ("",) * len(self.classes)

    @abstractmethod
    def render(self, index: int, height: int, width: int) -> tuple[Pixels, Pixels]:
        """Sample ``index`` as RGB [height, width, 3] and labels [height, width], ignored pixels IGNORE_INDEX."""

    @abstractmethod
    def describe(self) -> str:
        """A short description of the split."""

    def look(self, index: int) -> SampleFacts:
        """Facts about the stored sample ``index``, for a survey; does not use the cache."""
        image, labels = self.render(index, self.height, self.width)
        low, high = int(image.min()), int(image.max())
        return SampleFacts(Extent(low, high, 255.0, False), (low, high), labels, labels.size)

    def labels(self, index: int) -> Pixels:
        """The stored labels of sample ``index``, uint8 [h,w] without augmentation; reads no image where it can."""
        return self.look(index).labels

    def notes(self) -> list[Note]:
        """Warnings about the files of this split."""
        return []

    def extras(self, image: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Further inputs of networks for a sample, by name; those of one name have one shape. By default none.

        Args:
            image: f32 [3,H,W] as the network gets it: augmented, normalised, padded.
            mask: i64 [H,W], augmented and padded in the same way.
        """
        return {}

    def files(self) -> list[Path]:
        """The image files of the samples, without duplicates; empty for synthetic samples."""
        return []

    def name(self, index: int) -> str:
        """A name by which a user can find sample ``index``."""
        return f"{self.split} {index}"

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, view = key
        if not 0 <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        image, mask = self._rendered(index)
        if self._augmentation is not None:
            image, mask = self._augmentation(image, mask, seed_of(self.seed, index, view))
        return self._finish(image, mask)

    def view_of(self, epoch: int) -> int:
        """The view of all samples in ``epoch``."""
        return epoch % self.views if self.views else epoch

    def _rendered(self, index: int) -> tuple[Tensor, Tensor]:
        """Image uint8 [3,h,w] and labels [h,w] at source size; must not be modified."""
        kept = self._cache.get(index)
        if kept is None:
            kept = self.render(index, *self._source)
            self._cache.put(index, *kept)
        return torch.from_numpy(kept[0]).permute(2, 0, 1), torch.from_numpy(kept[1])

    def _finish(self, image: Tensor, mask: Tensor) -> Sample:
        height, width = (-(-side // self.stride) * self.stride for side in mask.shape)
        pixels = image.to(torch.float32, memory_format=torch.contiguous_format).mul_(_SCALE).add_(_SHIFT)
        labels = mask.long()
        if (height, width) != tuple(mask.shape):
            pad = (0, width - mask.shape[1], 0, height - mask.shape[0])
            # Zero is the mean colour after normalisation.
            pixels = torch.nn.functional.pad(pixels, pad)
            labels = torch.nn.functional.pad(labels, pad, value=IGNORE_INDEX)
        return Sample(pixels, labels, self.extras(pixels, labels))
