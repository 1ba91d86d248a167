"""Tables of the kinds of data: keys, paths and classes, without torch.

A new kind needs a subclass of :class:`DataTable` here or in another package (entry-point group ``kdtui.data``), and a
dataset in the engine (or the package) that ``implementation`` names: CONTRIBUTING.md, "Add a kind of data".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from kdtui import plugins
from kdtui.palette import COLOUR
from kdtui.profile.base import FilePath, Float, FolderPath, Int, PathKey, ProfileTable, TaskName, paths_of
from kdtui.profile.find import expanded, read_bounded

# Upper bounds catch typing errors: far above useful values, and far below values that fill a disk, overflow or never
# end.
_MOST_SAMPLES = 100_000_000
_MOST_VIEWS = 1_000_000
PixelValue = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e9, le=1e9)]
HIERARCHICAL_CLASSES = ("background", "target", "other")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class DataTable(ProfileTable):
    """Keys of every kind of data. A kind adds ``kind``, its keys, and ``implementation``.

    Attributes:
        height: Height of the network's input in pixels, before padding to its stride.
        width: Width of the network's input in pixels.
        augmentation: Strength of the augmentation of training images.
        views: Number of different augmented views per sample; 0 draws a new one in every epoch.
        train_limit: Use only this many training samples, chosen with the seed of the data (few-label settings).
    """

    implementation: ClassVar[str]
    """``package.module:attribute`` of the dataset: a subclass of ``kdtui.engine.data.SegmentationDataset``."""
    training_keys: ClassVar[frozenset[str]] = frozenset({"augmentation", "views", "train_limit"})
    """Keys that only affect the training split; runs that differ in them are validated on the same data."""
    class_list: ClassVar[str] = ""
    """The file that lists the classes, for messages; empty if there is none."""

    height: Int = Field(96, ge=16, le=4096)
    width: Int = Field(64, ge=16, le=4096)
    augmentation: Literal["none", "light", "heavy"] = "light"
    views: Int = Field(0, ge=0, le=_MOST_VIEWS)
    train_limit: Int | None = Field(None, ge=1, le=_MOST_SAMPLES)

    @property
    def task(self) -> TaskName:
        """The meaning of the labels: classes of pixels, or background, target and others in a crop."""
        return "semantic"

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the labels 0, 1, ...; None if only the dataset determines them."""
        return HIERARCHICAL_CLASSES if self.task == "hierarchical" else None

    def places(self, splits: Collection[str]) -> Iterator[PathKey]:
        """The paths from which these splits are read, with their keys in the profile; by default all of the table."""
        del splits
        yield from paths_of(self, "data")

    def files(self, split: str) -> Iterator[Path]:
        """The files whose change invalidates cached evaluations of a split; by default all files of its paths."""
        for place in self.places([split]):
            path = Path(place.path)
            yield from sorted(below for below in path.rglob("*") if below.is_file()) if path.is_dir() else [path]

    def fingerprint(self, split: str) -> str:
        """A text that changes with the settings or files of a split: by name, size and time (contents are not read).

        Raises:
            OSError: A file cannot be examined.
        """
        stamps = [(path.name, *_size_and_time(path)) for path in self.files(split)]
        return json.dumps([self._validation_settings(), split, stamps], sort_keys=True)

    def _validation_settings(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude=set(self.training_keys))


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


class SyntheticData(DataTable):
    """Synthetic people, drawn procedurally; always hierarchical; no download.

    Attributes:
        seed: Seed of the scenes (not of the training), so that runs with other seeds use the same images.
        label_coarseness: Side in pixels of the blocks to which *training* labels are reduced; 1 is exact. With coarse
            annotations, a teacher knows more than the labels.
        label_noise: Share of the *training* crops in which the labels of target and other people are swapped, in [0,
        1].
    """

    implementation = "kdtui.engine.data.synthetic:SyntheticPeople"
    training_keys = DataTable.training_keys | {"train_samples", "label_coarseness", "label_noise"}

    kind: Literal["synthetic"] = "synthetic"
    train_samples: Int = Field(1000, ge=1, le=_MOST_SAMPLES)
    val_samples: Int = Field(200, ge=1, le=_MOST_SAMPLES)
    test_samples: Int = Field(200, ge=1, le=_MOST_SAMPLES)
    seed: Int = Field(0, ge=0, lt=2**32)
    label_coarseness: Int = Field(1, ge=1, le=64)
    label_noise: Float = Field(0.0, ge=0.0, le=1.0)

    @property
    def task(self) -> TaskName:
        """Synthetic crops are always centred on one person."""
        return "hierarchical"


class ImageData(DataTable):
    """Keys of data in image files.

    Attributes:
        value_range: The values in the image files for black and white (a list of two), such as [0, 4095] for 12 bits in
            16-bit files; an exported network expects images scaled in the same way. Default: 8-bit values unchanged,
            and the upper byte of 16-bit ones.
    """

    value_range: tuple[PixelValue, ...] | None = None

    @field_validator("value_range")
    @classmethod
    def _two_that_rise(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not (len(value) == 2 and value[0] < value[1]):
            found = ", ".join(f"{number:g}" for number in value[:4])
            raise ValueError(f"found [{found}]; allowed: two increasing numbers, [LOWEST, HIGHEST]")
        return value

    def _validation_settings(self) -> dict[str, Any]:
        settings = super()._validation_settings()
        if self.value_range is None:  # equal to cached evaluations of versions without this key
            del settings["value_range"]
        return settings


class CocoSplit(ProfileTable):
    """One split: the folder of images and the instance JSON."""

    images: FolderPath
    annotations: FilePath


class CocoData(ImageData):
    """COCO instances, one sample per person crop; always hierarchical.

    Attributes:
        category: The category of the instances that are cropped.
        padding: Fraction of the box that is added on each side.
        minimum_size: Boxes with a side shorter than this many pixels are not used as targets.
        holdout: Share of the training *images* held out for validation if there is no ``val`` split.
    """

    implementation = "kdtui.engine.data.coco:PersonCrops"

    kind: Literal["coco"] = "coco"
    train: CocoSplit
    val: CocoSplit | None = None
    test: CocoSplit | None = None
    category: str = "person"
    padding: Float = Field(0.25, ge=0.0, le=4.0)
    minimum_size: Int = Field(10, ge=1, le=100_000)
    holdout: Float = Field(0.15, gt=0.0, lt=1.0)

    @property
    def task(self) -> TaskName:
        """A crop is always around one instance."""
        return "hierarchical"

    def places(self, splits: Collection[str]) -> Iterator[PathKey]:
        """Annotations and images of these splits."""
        for name in splits:
            key, split = self._split(name)
            yield PathKey(f"data.{key}.annotations", split.annotations, "FILE")
            yield PathKey(f"data.{key}.images", split.images, "FOLDER")

    def files(self, split: str) -> Iterator[Path]:
        """The annotation file; there are too many images to check each."""
        yield Path(self._split(split)[1].annotations)

    def _split(self, name: str) -> tuple[str, CocoSplit]:
        own: CocoSplit | None = getattr(self, name)
        return ("train", self.train) if own is None else (name, own)  # a missing split is held out from train


class FolderData(ImageData):
    """``images/{split}``, ``masks/{split}`` and ``classes.txt`` below ``root``; always semantic."""

    implementation = "kdtui.engine.data.folder:LabelFolder"
    class_list = "classes.txt"

    kind: Literal["folder"] = "folder"
    root: FolderPath

    def class_names(self) -> tuple[str, ...] | None:
        """The names in ``classes.txt``; None if it cannot be read, which a check reports."""
        path = expanded(self.root) / "classes.txt"
        try:
            # Reading a pipe could block.
            lines = read_bounded(path).removeprefix("\ufeff").splitlines() if path.is_file() else []
        except (OSError, ValueError):  # ValueError: too large or not UTF-8
            return None
        rows = [words for line in lines if (words := line.split()) and words[0].isdecimal()]
        return tuple(" ".join(_without_colour(words[1:])) for words in rows) or None

    def files(self, split: str) -> Iterator[Path]:
        """Images and masks of the split, and ``classes.txt``."""
        root = Path(self.root)
        for folder in (root / "images" / split, root / "masks" / split):
            yield from sorted(folder.iterdir())
        yield root / "classes.txt"


def _without_colour(words: list[str]) -> list[str]:
    return words[:-1] if len(words) > 1 and COLOUR.fullmatch(words[-1]) else words


BUILT_IN: tuple[type[DataTable], ...] = (SyntheticData, CocoData, FolderData)
"""The built-in kinds of data; the first is the default of ``data.kind``."""


def data_kinds() -> tuple[type[DataTable], ...]:
    """The tables of all kinds of data, built-in ones first."""
    return (*BUILT_IN, *plugins.tables(plugins.DATA, DataTable, "kind", built_in=BUILT_IN))


def training_keys(kind: Any) -> frozenset[str]:
    """Keys of a kind of data that only affect the training split.

    Args:
        kind: Name of the kind; if it is not installed, the keys of every kind are used.
    """
    table = next((table for table in data_kinds() if table.model_fields["kind"].default == kind), DataTable)
    return table.training_keys
