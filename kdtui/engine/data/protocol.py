"""The dataset interface: samples of the network's input size, reproducible from (index, view).

A kind of data only implements how to *read* sample ``index``: pixels and labels at the size of the files. Caching,
augmentation, normalisation and padding to the network's stride are shared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data.first_pipeline import FirstPipeline, resized
from kdtui.engine.data.geometry import Content, content_of
from kdtui.engine.data.pixel_format import format_of
from kdtui.engine.data.second_pipeline import SecondPipeline
from kdtui.engine.data.source import IGNORE_INDEX, Needed, Pixels, Size, Source, seed_of
from kdtui.profile import DataTable
from kdtui.profile.data_tables import Level
from kdtui.text import mebibytes

SPLITS = ("train", "val", "test")


class Sample(NamedTuple):
    """One normalised image f32 [C,H,W], its labels i64 [H,W], and further inputs of networks by name.

    Attributes:
        truth: For an evaluation: labels uint8 [h,w] of the size at which predictions are scored, if it is another one.
        weak: Of a sample without labels: the image as its teacher sees it; pixels of ``mask`` are 0 or ignored.
        skipped: Of a sample without labels: unreadable files in whose place it is, each with its reason.
    """

    image: Tensor
    mask: Tensor
    extras: Mapping[str, Tensor] = {}
    truth: Tensor | None = None
    weak: Tensor | None = None
    skipped: tuple[str, ...] = ()


class Batch(NamedTuple):
    """Images f32 [B,C,H,W], labels i64 [B,H,W], and further inputs [B,...] of networks by name.

    A dataset with its own :meth:`SegmentationDataset.collate` may have another number of label maps than of images.

    Attributes:
        truths: Of each sample, see :class:`Sample`; None if predictions are scored with ``masks``.
        weak: Of samples without labels, as ``images``; otherwise None.
        skipped: Of all samples.
        keys: Number and view of each sample.
    """

    images: Tensor
    masks: Tensor
    extras: Mapping[str, Tensor] = {}
    truths: tuple[Tensor, ...] | None = None
    weak: Tensor | None = None
    skipped: tuple[str, ...] = ()
    keys: tuple[tuple[int, int], ...] = ()


PICTURE_LABELS = "foreground"
"""Name of the extra with the labels of whole pictures, uint8 [B,H,W], where label maps are of parts of them."""


def picture_labels(batch: Batch) -> Tensor:
    """Labels i64 [B,H,W] of whole pictures; if the data have none, all pixels are valid, of class 0."""
    labels = batch.extras.get(PICTURE_LABELS)
    if labels is None:
        return batch.images.new_zeros((len(batch.images), *batch.images.shape[-2:]), dtype=torch.int64)
    return labels.long()


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
    """Range of the stored values of an image file, and the largest value that its type can represent."""

    low: float
    high: float
    full: float


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


class StoredSample(NamedTuple):
    """A sample as ``kdtui data`` examines it.

    Attributes:
        source: Image and labels at the size of the files.
        extent: Range of the image's values before the conversion to 8 bits.
        seen: Minimum and maximum of the 8-bit image.
        channels: Number of channels in the image file.
    """

    source: Source
    extent: Extent
    seen: tuple[int, int]
    channels: int


def named(names: Sequence[object], total: int | None = None, *, shown: int = 5) -> str:
    """The first names, each shortened to 60 characters, and the number of the others."""
    total = len(names) if total is None else total
    texts = [text if len(text := str(name)) <= 60 else text[:59] + "…" for name in names[:shown]]
    return ", ".join(texts) + (f" and {total - len(texts)} more" if total > len(texts) else "")


def limited(count: int, limit: float | None, seed: int) -> list[int]:
    """Sorted sample indices under a ``train_limit``; a larger limit includes the samples of a smaller one.

    Args:
        count: Number of samples.
        limit: Number or share of them; None for all.
        seed: ``limit_seed`` of the data.
    """
    if isinstance(limit, float):
        limit = max(1, round(limit * count))
    if limit is None or limit >= count:
        return list(range(count))
    order = np.random.default_rng(seed_of(seed, "train_limit")).permutation(count)
    return sorted(int(i) for i in order[: int(limit)])


class SegmentationDataset(ABC):
    """Images and labels of one split.

    Args:
        data: The profile's data table.
        split: ``train``, ``val`` or ``test``.
        classes: Names of the labels 0, 1, ...
        count: Number of samples.
        stride: Height and width are padded to a multiple of this.
        seed: Seed of the augmentation.

    Attributes:
        evaluation: ``data.evaluation_mode``.
        window: Height and width of the windows of ``slide``, multiples of the stride.
        overlap: ``data.overlap``.
        scores_own_size: Whether predictions are scored at the size of the stored labels.
        weights: Of each sample, if epochs have some more often than others.
    """

    surveyed = 64
    """Maximum number of samples that a survey reads."""
    native_labels: ClassVar[bool] = False
    """Whether samples have labels of a size of their own, at which predictions are scored."""

    def __init__(
        self,
        data: DataTable,
        split: str,
        *,
        classes: tuple[str, ...],
        count: int,
        stride: int,
        seed: int,
    ) -> None:
        self.task = data.task
        self.split = split
        self.classes = classes
        self.views = data.views
        self.height = data.height
        self.width = data.width
        self.stride = stride
        self.seed = seed
        self.pixels = format_of(data)
        self.evaluation = data.evaluation_mode
        self._data = data
        self.window = tuple(-(-side // stride) * stride for side in data.window or (data.height, data.width))
        self.overlap = data.overlap
        self.scores_own_size = data.pipeline > 1 and (self.native_labels or self.evaluation != "resize")
        self._count = count
        self.weights: NDArray[np.float64] | None = None
        self._pipeline = self._pipeline_of(data, data.augmentation if split == "train" else "none")

    def _pipeline_of(self, data: DataTable, level: Level) -> FirstPipeline | SecondPipeline:
        if data.pipeline == 1:
            size, budget = {"height": data.height, "width": data.width}, int(data.cache_gib * 2**30)
            return FirstPipeline(
                self.render, **size, count=self._count, level=level, task=data.task, budget=budget, pixels=self.pixels
            )
        return SecondPipeline(
            data,
            self.read_reduced,
            count=self._count,
            level=level,
            training=self.split == "train",
            pixels=self.pixels,
        )

    def __len__(self) -> int:
        return self._count

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel on the scale 0 to 1, which normalisation subtracts."""
        return self.pixels.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel on the scale 0 to 1, by which normalisation divides."""
        return self.pixels.std

    @property
    def own_colours(self) -> tuple[str, ...]:
        """``#rrggbb`` of each class; an empty string if the data define no colour for it."""
        return ("",) * len(self.classes)

    @abstractmethod
    def read(self, index: int) -> Source:
        """Sample ``index`` at the size of its files; of a crop, the crop at their resolution.

        Raises:
            DataError: The sample cannot be used.
        """

    def read_reduced(self, index: int, needed: Needed) -> Source:
        """As :meth:`read`, but the image may be smaller where that is faster to decode; by default it is not.

        Args:
            index: Number of the sample.
            needed: From the size of the image to the smallest that is needed.
        """
        return self.read(index)

    def render(self, index: int, height: int, width: int) -> tuple[Pixels, Pixels]:
        """Sample ``index`` as RGB [height, width, 3] and labels [height, width], for the first pipeline only."""
        return resized(self.read(index), height, width)

    @abstractmethod
    def describe(self) -> str:
        """A short description of the split."""

    def look(self, index: int) -> SampleFacts:
        """Facts about the stored sample ``index``, for a survey; does not use the cache."""
        image, labels = self.read(index)
        low, high = int(image.min()), int(image.max())
        return SampleFacts(Extent(low, high, 255.0), (low, high), labels, labels.size)

    def stored(self, index: int) -> StoredSample:
        """Sample ``index`` with its facts; does not use the cache."""
        source, facts = self.read(index), self.look(index)
        return StoredSample(source, facts.stored, facts.seen, source.image.shape[2])

    def labels(self, index: int) -> Pixels:
        """The stored labels of sample ``index``, uint8 [h,w] without augmentation; reads no image where it can."""
        return self.look(index).labels

    def memory(self) -> str:
        """How much memory decoded samples take, estimated from the size of the first, and how much of it is used."""
        needed, kept = self._decoded_bytes(), self.kept_bytes()
        if needed <= kept:
            return f"about {mebibytes(needed)} of decoded images in memory"
        return f"about {mebibytes(needed)} of decoded images, {mebibytes(kept)} of them in memory (data.cache_gib)"

    def kept_bytes(self) -> int:
        """How much of the memory is used for decoded samples, in bytes."""
        return min(self._decoded_bytes(), int(self._data.cache_gib * 2**30))

    def _decoded_bytes(self) -> int:
        return self._count * self._pipeline.kept_bytes(self._stored_size())

    def _stored_size(self) -> Size:
        """Size of the first sample in its files."""
        return Size(*self.labels(0).shape)

    def notes(self) -> list[Note]:
        """Warnings about the files of this split."""
        return []

    def remarks(self) -> list[str]:
        """What the report of an evaluation states about the samples; by default nothing."""
        return []

    def extras(self, image: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Further inputs of networks for a sample, by name; those of one name have one shape. By default none.

        Args:
            image: f32 [C,H,W] as the network gets it: augmented, normalised, padded.
            mask: i64 [H,W], augmented and padded in the same way.
        """
        return {}

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """A batch of these samples: everything stacked."""
        return Batch(
            torch.stack([sample.image for sample in samples]),
            torch.stack([sample.mask for sample in samples]),
            {name: torch.stack([sample.extras[name] for sample in samples]) for name in samples[0].extras},
        )

    def label_maps(self, index: int) -> int:
        """How many label maps sample ``index`` adds to a batch of :meth:`collate`."""
        return 1

    def made_from(self) -> object:
        """What changes with the settings of the split and with its files, whose contents are not read.

        Raises:
            OSError: A file cannot be examined.
        """
        return self.split, len(self), self.classes, self._data.model_dump(), self._data.fingerprint(self.split)

    def files(self) -> list[Path]:
        """The image files of the samples, without duplicates; empty for synthetic samples."""
        return []

    def boxes(self, index: int) -> list[tuple[float, ...]]:
        """Left, top, right and bottom of the boxes that a picture of sample ``index`` shows; by default none."""
        return []

    def sample_files(self, index: int) -> tuple[Path, ...]:
        """The files of sample ``index``, whose change makes it another one; empty if it shares files with others."""
        return ()

    def name(self, index: int) -> str:
        """A name by which a user can find sample ``index``."""
        return f"{self.split} {index}"

    @property
    def resampled(self) -> Literal["images", "clips"]:
        """What :meth:`unit` names."""
        return "images"

    def unit(self, index: int) -> str:
        """What sample ``index`` is drawn with in a bootstrap, because such samples are alike: its clip, or image."""
        return self.name(index)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, view = key
        if not 0 <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        image, labels = self._pipeline(index, seed_of(self.seed, index, view))
        pixels, mask = self.padded(image, 0.0), self.padded(labels, IGNORE_INDEX)
        return Sample(pixels, mask, self.extras(pixels, mask))

    def for_evaluation(self, index: int) -> Sample:
        """Sample ``index`` as a network sees it in an evaluation, with the labels at which predictions are scored."""
        if self.evaluation == "resize":
            sample = self[index, 0]
            if not self.scores_own_size:
                return sample
            return sample._replace(truth=torch.from_numpy(self.labels(index).copy()))
        source = self.read(index)
        height, width = source.labels.shape
        if self.evaluation == "slide":
            bottom, right = (max(0, side - own) for side, own in zip(self.window, (height, width), strict=True))
        else:
            bottom, right = -height % self.stride, -width % self.stride
        image = self.pixels.normalised(torch.from_numpy(source.image.copy()).permute(2, 0, 1))
        pixels = functional.pad(image, (0, right, 0, bottom))
        labels = torch.from_numpy(source.labels.copy())
        mask = functional.pad(labels.long(), (0, right, 0, bottom), value=IGNORE_INDEX)
        return Sample(pixels, mask, self.extras(pixels, mask), labels)

    def evaluation_batch(self, index: int) -> Batch:
        """A batch of :meth:`for_evaluation` of one sample."""
        sample = self.for_evaluation(index)
        batch = self.collate([sample])
        return batch if sample.truth is None else batch._replace(truths=(sample.truth,))

    def content(self, size: Size) -> Content:
        """The part of an evaluated image that shows a picture of this size; the rest is padding."""
        return content_of(self._data, size) if self.evaluation == "resize" else Content(0.0, 0.0, *size)

    def view_of(self, epoch: int) -> int:
        """The view of all samples in ``epoch``."""
        return epoch % self.views if self.views else epoch

    def padded(self, values: Tensor, fill: float) -> Tensor:
        """[...,H,W] padded at the right and the bottom to the stride; an image's mean colour is 0."""
        height, width = values.shape[-2:]
        down, right = -height % self.stride, -width % self.stride
        return functional.pad(values, (0, right, 0, down), value=fill) if down or right else values
