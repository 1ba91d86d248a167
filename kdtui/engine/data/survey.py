"""Survey of a bounded number of samples of a split before training: values of images and labels.

The selection depends only on the number of samples and does not use the random generators of the training. The sample
cache is neither read nor filled.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data.protocol import Extent, SampleFacts, SegmentationDataset
from kdtui.engine.data.source import IGNORE_INDEX, seed_of
from kdtui.engine.handover import made_once
from kdtui.errors import DataError
from kdtui.store.files import reading

MOST_PIXELS = 200_000_000
"""Maximum number of decoded pixels of images and masks, which takes a few seconds; at least eight samples are read.

A split with few enough samples is read completely, whatever their size: its training reads them in every epoch."""

_LEAST = 8
_MOST_FILES = 50_000
_PIECE = 1 << 16


@dataclass(frozen=True)
class Survey:
    """Result of a survey.

    Attributes:
        split: Name of the split.
        total: Number of samples of the split.
        checked: Number of checked samples.
        classes: Class names by label.
        stored: Range of the values in the image files.
        depths: Maximum values of the file formats: 255 for 8 bits, 65535 for 16.
        seen: Minimum and maximum value of the images in 8 bits.
        pixels: Number of pixels of each class.
        ignored: Number of ignored pixels.
        flat_images: Samples with a constant image.
        void_masks: Samples whose pixels are all ignored.
        one_class_masks: Samples with one class only.
    """

    split: str
    total: int
    checked: int
    classes: tuple[str, ...]
    stored: Extent
    depths: frozenset[float]
    seen: tuple[int, int]
    pixels: tuple[int, ...]
    ignored: int
    flat_images: tuple[str, ...]
    void_masks: tuple[str, ...]
    one_class_masks: tuple[str, ...]

    def share(self, label: int) -> float:
        """Share of this class among the pixels that are not ignored."""
        return self.pixels[label] / max(1, sum(self.pixels))

    def described(self) -> str:
        """The number of checked samples and the range of their values."""
        count = f"all {self.total}" if self.checked == self.total else f"{self.checked} of {self.total:,}"
        values = f"values {self.stored.low:g} to {self.stored.high:g}"
        return f"{count} checked, {values}" + (" in 16-bit files" if 65535.0 in self.depths else "")


def sample(total: int, most: int) -> list[int]:
    """Up to ``most`` indices out of ``total``: one from each of equally long intervals."""
    if total <= most:
        return list(range(total))
    rng = np.random.default_rng(seed_of("survey", total))
    edges = [total * part // most for part in range(most + 1)]
    return [int(rng.integers(first, last)) for first, last in itertools.pairwise(edges)]


def survey(dataset: SegmentationDataset) -> Survey:
    """Check samples spread over a split; all of them where these are few enough for the limit of the dataset.

    A training has the survey of its check, if the files are the same.

    Raises:
        DataError: Samples cannot be used; the error describes the first one and contains their number.
    """
    return made_once(f"survey of {dataset.split}", dataset.made_from, lambda: _surveyed(dataset))


def _surveyed(dataset: SegmentationDataset) -> Survey:
    tally, errors = Tally(), []
    for index, look in _looks(dataset):
        if isinstance(look, DataError):
            errors.append(look)
        else:
            tally.add(dataset.name(index), look.stored, look.seen, np.bincount(look.labels.ravel(), minlength=256))
    if errors:
        raise _counted(errors, len(errors) + tally.checked, len(dataset))
    return tally.survey(dataset.split, len(dataset), dataset.classes)


class Tally:
    """What samples have in common, counted one by one, so that none of them is kept in memory."""

    def __init__(self) -> None:
        self.checked = 0
        self._stored: set[Extent] = set()
        self._seen: set[tuple[int, int]] = set()
        self._counts = np.zeros(256, dtype=np.int64)
        self._flat: list[str] = []
        self._void: list[str] = []
        self._single: list[str] = []

    def add(self, name: str, stored: Extent, seen: tuple[int, int], counts: NDArray[np.int64]) -> None:
        """Count a sample.

        Args:
            name: Its name.
            stored: Range of the values in its image file.
            seen: Minimum and maximum of the image in 8 bits.
            counts: i64 [256], pixels of each label.
        """
        self.checked += 1
        self._stored.add(stored)
        self._seen.add(seen)
        self._counts += counts
        present = np.count_nonzero(counts[:IGNORE_INDEX])
        if present < 2 and counts.any():  # a picture without boxes has no label map
            (self._single if present else self._void).append(name)
        if stored.low == stored.high:
            self._flat.append(name)

    def survey(self, split: str, total: int, classes: tuple[str, ...]) -> Survey:
        """The result for a split of ``total`` samples, of which at least one was counted."""
        stored = self._stored
        return Survey(
            split=split,
            total=total,
            checked=self.checked,
            classes=classes,
            stored=Extent(
                min(extent.low for extent in stored),
                max(extent.high for extent in stored),
                max(extent.full for extent in stored),
            ),
            depths=frozenset(extent.full for extent in stored),
            seen=(min(low for low, _ in self._seen), max(high for _, high in self._seen)),
            pixels=tuple(self._counts[: len(classes)].tolist()),
            ignored=int(self._counts[IGNORE_INDEX]),
            flat_images=tuple(self._flat),
            void_masks=tuple(self._void),
            one_class_masks=tuple(self._single),
        )


def _looks(dataset: SegmentationDataset) -> Iterator[tuple[int, SampleFacts | DataError]]:
    chosen = sample(len(dataset), dataset.surveyed)
    bounded = len(chosen) < len(dataset)
    if bounded and len(chosen) > _LEAST:  # so that they are spread over the split if the limit of pixels is reached
        order = np.random.default_rng(seed_of("survey", "order", len(dataset))).permutation(len(chosen))
        chosen = [chosen[position] for position in order]
    pixels = 0
    for done, index in enumerate(chosen):
        if bounded and done >= _LEAST and pixels > MOST_PIXELS:
            return
        try:
            look = dataset.look(index)
        except DataError as error:
            yield index, error
        else:
            pixels += look.pixels
            yield index, look


def _counted(errors: list[DataError], checked: int, total: int) -> DataError:
    first = errors[0]
    if len(errors) == 1:
        return first
    return DataError(
        f"{first.what} ({len(errors)} of {checked} checked samples cannot be used, of {total:,} in total)",
        where=first.where,
        found=first.found,
        allowed=first.allowed,
        hint=first.hint,
    )


@dataclass(frozen=True)
class Overlap:
    """Validation images that are training images.

    Attributes:
        names: Their file names.
        checked: Validation images that were compared.
    """

    names: tuple[str, ...]
    checked: int


def overlap(train_set: SegmentationDataset, val_set: SegmentationDataset) -> Overlap:
    """Find validation images that are training images: by path for all, by content for a sample."""
    train, val = train_set.files()[:_MOST_FILES], val_set.files()
    by_path = {*train} & {*val}
    if by_path:
        return Overlap(tuple(sorted(path.name for path in by_path)), len(val))
    chosen = [val[index] for index in sample(len(val), val_set.surveyed)]
    if not (train and chosen):
        return Overlap((), len(chosen))
    return Overlap(tuple(path.name for path in copies(train, chosen)), len(chosen))


def copies(files: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """Those of ``others`` whose content is that of one of ``files``."""
    sizes = {_size(path) for path in others}
    by_head: dict[tuple[int, bytes], list[Path]] = {}
    for path in files:
        if (size := _size(path)) in sizes:
            by_head.setdefault((size, _digest(path, pieces=1)), []).append(path)
    alike = ((path, by_head.get((_size(path), _digest(path, pieces=1)), ())) for path in others)
    return [path for path, candidates in alike if any(_digest(one) == _digest(path) for one in candidates)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reported when it is read
        return -1


def _digest(path: Path, *, pieces: int | None = None) -> bytes:
    """Digest of a file's contents; of its path if it cannot be read, which differs from that of any other file.

    Args:
        path: The file.
        pieces: How many pieces from its beginning are read; None for all.
    """
    digest = hashlib.blake2b()
    try:
        with reading(path) as file:
            for piece in itertools.islice(iter(partial(file.read, _PIECE), b""), pieces):
                digest.update(piece)
    except OSError:
        return str(path).encode()
    return digest.digest()
