"""A folder of images and masks, described by patterns or lists: :mod:`kdtui.profile.layout`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from kdtui.engine.data.images import ImageFormat, eight_bit, extent, read_reduced_values
from kdtui.engine.data.labels import LabelReader
from kdtui.engine.data.pictures import brief
from kdtui.engine.data.protocol import Note, SampleFacts, SegmentationDataset, StoredSample, limited
from kdtui.engine.data.source import Needed, Pixels, Source
from kdtui.errors import DataError
from kdtui.profile import FolderData
from kdtui.profile.class_list import BINARY, FILE, HINT, Classes, parse_classes
from kdtui.store.files import read_file

_MOST_BYTES = 2**20


def read_classes(path: Path) -> Classes:
    """Read ``classes.txt``: see :func:`kdtui.profile.class_list.parse_classes`."""
    try:
        text = read_file(path, most=_MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError("the class list is missing", where=path, hint=HINT) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the class list cannot be read", where=path, found=brief(error), hint=HINT) from None
    return parse_classes(text, path)


def _classes_of(data: FolderData, root: Path) -> Classes:
    listed = data.listed_classes()
    if listed is not None:
        return listed
    if data.labels != "binary":
        return read_classes(root / FILE)
    classes = read_classes(root / FILE) if (root / FILE).exists() else BINARY
    if len(classes.names) != 2:
        raise DataError(
            "binary masks have two classes",
            where=root / FILE,
            found=f"{len(classes.names)} classes",
            allowed="two classes: background and foreground",
            hint='--set data.classes=["background","foreground"]',
        )
    return classes


class LabelFolder(SegmentationDataset):
    """Whole images with one class number per pixel."""

    native_labels = True

    def __init__(
        self,
        data: FolderData,
        split: str,
        *,
        stride: int,
        seed: int,
    ) -> None:
        self._layout = data.layout()
        if not self._layout.root.is_dir():
            raise DataError("the data folder does not exist", where=self._layout.root, hint="--set data.root=FOLDER")
        self._classes = _classes_of(data, self._layout.root)
        self._labels = LabelReader(data, self._classes)
        pairs, notes = self._layout.pairs(split)
        self._notes = [Note(*note) for note in notes]
        self._format = ImageFormat.of(data)
        self._pairs = [pairs[i] for i in limited(len(pairs), data.train_limit if split == "train" else None, 0)]
        super().__init__(
            data,
            split,
            classes=self._classes.names,
            count=len(self._pairs),
            stride=stride,
            seed=seed,
        )

    @property
    def own_colours(self) -> tuple[str, ...]:
        """The colours of the class list."""
        return self._classes.colours

    def read(self, index: int) -> Source:
        """Read and check one pair of files."""
        return self._read(index)[0]

    def read_reduced(self, index: int, needed: Needed) -> Source:
        """As :meth:`read`; large JPEG files are decoded at a smaller size."""
        return self._read(index, needed)[0]

    def look(self, index: int) -> SampleFacts:
        """Image and labels at the size of the files."""
        (image, labels), stored = self._read(index)
        return SampleFacts(extent(stored), eight_bit(image), labels, 2 * labels.size)

    def stored(self, index: int) -> StoredSample:
        """Image and labels, read once."""
        source, stored = self._read(index)
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        return StoredSample(source, extent(stored), eight_bit(source.image), channels)

    def sample_files(self, index: int) -> tuple[Path, ...]:
        """Image and mask."""
        return tuple(self._pairs[index])

    def labels(self, index: int) -> Pixels:
        """The mask at the size of its file."""
        return self._labels(self._pairs[index].mask)

    def notes(self) -> list[Note]:
        """Warnings about the files of this split."""
        return self._notes

    def files(self) -> list[Path]:
        """The image of each sample."""
        return [pair.image for pair in self._pairs]

    def _read(self, index: int, needed: Needed | None = None) -> tuple[Source, NDArray[Any]]:
        """Image and labels, and the values in the file of the image."""
        image_path, mask_path = self._pairs[index]
        stored, size = read_reduced_values(image_path, needed)
        image, labels = self._format.image(stored, image_path), self._labels(mask_path)
        if size != labels.shape:
            raise DataError(
                "an image and its mask differ in size",
                where=mask_path,
                found=f"image {size.width}x{size.height}, mask {labels.shape[1]}x{labels.shape[0]}",
            )
        return Source(image, labels), stored

    def describe(self) -> str:
        """Number of images and classes."""
        return f"{len(self)} images, {len(self.classes)} classes"

    def name(self, index: int) -> str:
        """The image's file name, with its folders if they distinguish images."""
        return self._layout.shown(self._pairs[index].image)

    @property
    def resampled(self) -> Literal["images", "clips"]:
        """Clips if ``data.group`` is set."""
        return "images" if self._layout.group is None else "clips"

    def unit(self, index: int) -> str:
        """The group of ``data.group``."""
        image = self._pairs[index].image
        return self._layout.group_of(image) or self._layout.shown(image)
