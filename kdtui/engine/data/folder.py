"""A folder of label images: ``images/{split}``, ``masks/{split}`` and ``classes.txt``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdtui.engine.data.pictures import (
    SUFFIXES,
    as_labels,
    as_rgb,
    brief,
    eight_bit,
    extent,
    open_picture,
    resized,
    upright,
)
from kdtui.engine.data.protocol import (
    IGNORE_INDEX,
    SPLITS,
    Augmentation,
    Note,
    Pixels,
    SampleFacts,
    SegmentationDataset,
    limited,
    named,
)
from kdtui.errors import DataError
from kdtui.palette import COLOUR
from kdtui.profile import FolderData
from kdtui.profile.find import expanded
from kdtui.store.files import read_file

_SHOWN = 5
_MOST_BYTES = 2**20
_LARGEST_VALUE = 2**31 - 1
_LONGEST_NAME = 200
# Files that operating systems create in folders.
_LITTER = {"thumbs.db", "desktop.ini"}
_HINT = (
    "one line per class, 'INDEX NAME' or 'INDEX NAME #RRGGBB' from 0 up, "
    "and 'ignore_index N NAME' for pixels that do not count"
)


class Classes(NamedTuple):
    """Content of ``classes.txt``: names by position, the value of each in the files, and the ignored value.

    Attributes:
        colours: ``#rrggbb`` of each class, empty where the file has none.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignored: int | None
    colours: tuple[str, ...] = ()

    def allowed(self) -> str:
        """The allowed values of a mask, as text for messages."""
        ignored = "" if self.ignored is None else f", ignored {self.ignored}"
        return ", ".join(f"{v} {n}" for v, n in zip(self.values, self.names, strict=True)) + ignored


def read_classes(path: Path) -> Classes:
    """Read ``INDEX NAME`` lines, each with an optional ``#rrggbb``, and at most one ``ignore_index N NAME``."""
    try:
        lines = read_file(path, most=_MOST_BYTES).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError("the class list is missing", where=path, hint=_HINT) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the class list cannot be read", where=path, found=brief(error), hint=_HINT) from None
    classes: dict[int, str] = {}
    colours: dict[int, str] = {}
    ignored: int | None = None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.lstrip().startswith("#"):
            continue
        place, shown = f"{path}:{number}", line if len(line) <= _LONGEST_NAME else line[:_LONGEST_NAME] + "…"
        ignore = words[0] == "ignore_index"
        index, name = (words[1:2], words[2:]) if ignore else (words[:1], words[1:])
        colour = name.pop() if len(name) > 1 and COLOUR.fullmatch(name[-1]) else ""
        label = " ".join(name)
        if not index or not index[0].isdecimal() or not (name or ignore):
            raise DataError("a line of the class list cannot be read", where=place, found=shown, hint=_HINT)
        # No more digits than the largest has: Python refuses to read thousands of them.
        value = int(index[0]) if len(index[0]) <= len(str(_LARGEST_VALUE)) else _LARGEST_VALUE + 1
        if value > _LARGEST_VALUE:
            raise DataError(
                "a class has too large a number", where=place, found=shown, allowed=f"0 to {_LARGEST_VALUE}", hint=_HINT
            )
        # Terminals that show it would interpret it.
        if not label.isprintable() or len(label) > _LONGEST_NAME:
            raise DataError(
                "a class has a name that cannot be shown",
                where=place,
                found=repr(shown),
                allowed=f"printable text of at most {_LONGEST_NAME} characters",
                hint=_HINT,
            )
        taken = value in classes or value == ignored or (ignored is not None if ignore else label in classes.values())
        if taken:
            raise DataError("duplicate class index or name in classes.txt", where=place, found=shown, hint=_HINT)
        if ignore:
            ignored = value
        else:
            classes[value] = label
            colours[value] = colour
    if len(classes) < 2 or len(classes) > IGNORE_INDEX:
        raise DataError(
            "the class list has no usable number of classes",
            where=path, found=len(classes), allowed=f"2 to {IGNORE_INDEX}", hint=_HINT,
        )  # fmt: skip
    values = tuple(sorted(classes))
    return Classes(tuple(classes[v] for v in values), values, ignored, tuple(colours[v] for v in values))


class FolderListing(NamedTuple):
    """The images of a folder by stem, and the names of all other entries."""

    pictures: dict[str, Path]
    skipped: list[str]

    def skipped_kinds(self) -> str:
        """How many entries are skipped, by their endings."""
        kinds = Counter(Path(name).suffix.lower()[:12] or "without ending" for name in self.skipped)
        return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN))


def _files(folder: Path) -> FolderListing:
    """Image files by stem."""
    pictures: dict[str, Path] = {}
    skipped: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in _LITTER:
            continue
        if path.suffix.lower() not in SUFFIXES:
            skipped.append(path.name)
            continue
        if path.stem in pictures:
            raise DataError("two files share a name", where=folder, found=f"{pictures[path.stem].name}, {path.name}")
        pictures[path.stem] = path
    return FolderListing(pictures, skipped)


class Pairs(NamedTuple):
    """Images of a split with their masks, and warnings about their folders."""

    files: list[tuple[Path, Path]]
    notes: list[Note]


def _pairs(root: Path, split: str) -> Pairs:
    images, masks = root / "images" / split, root / "masks" / split
    for folder in (images, masks):
        if not folder.is_dir():
            beside = sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) if folder.parent.is_dir() else []
            raise DataError(
                f"the folder of the {split} {folder.parent.name} is missing",
                where=folder,
                found=f"splits there: {named(beside) or 'none'}",
                hint=f"data.root holds images/{{{','.join(SPLITS)}}} and masks/{{{','.join(SPLITS)}}}",
            )
    pictures, labels = _files(images), _files(masks)
    if not pictures.pictures:
        raise DataError(
            f"the {split} split is empty",
            where=images,
            found=f"no image among {pictures.skipped_kinds()}" if pictures.skipped else None,
            allowed=f"files ending in {', '.join(SUFFIXES)}",
        )
    lonely = [path.name for stem, path in pictures.pictures.items() if stem not in labels.pictures]
    spare = [path.name for stem, path in labels.pictures.items() if stem not in pictures.pictures]
    if lonely:
        facts = [named(lonely, shown=_SHOWN)]
        if spare:
            facts.append(f"masks without image: {named(spare, shown=_SHOWN)}")
        if labels.skipped:
            facts.append(f"skipped: {labels.skipped_kinds()}")
        raise DataError(
            f"{len(lonely)} of {len(pictures.pictures)} images have no mask",
            where=masks,
            found="; ".join(facts),
            hint="a mask has its image's name, with any of the endings " + ", ".join(SUFFIXES),
        )
    notes = [
        Note(
            "skipped-files",
            f"{len(listing.skipped)} entries of {folder.parent.name}/{split} are skipped: {listing.skipped_kinds()}",
            f"only files ending in {', '.join(SUFFIXES)}, directly in that folder, are read",
        )
        for folder, listing in ((images, pictures), (masks, labels))
        if listing.skipped
    ]
    if spare:
        notes.append(
            Note(
                "masks-without-image",
                f"{len(spare)} of {len(labels.pictures)} masks of the {split} split have no image: {named(spare)}",
                f"an image has its mask's name, in {images}",
            )
        )
    return Pairs([(path, labels.pictures[stem]) for stem, path in pictures.pictures.items()], notes)


class LabelFolder(SegmentationDataset):
    """Whole images with one class number per pixel, resized to the network's input."""

    def __init__(
        self,
        data: FolderData,
        split: str,
        *,
        stride: int,
        seed: int,
        augmentation: Augmentation | None,
        oversize: float,
    ) -> None:
        root = expanded(data.root)
        if not root.is_dir():
            raise DataError("the data folder does not exist", where=root, hint="--set data.root=FOLDER")
        self._classes = read_classes(root / "classes.txt")
        pairs, self._notes = _pairs(root, split)
        self._value_range = data.value_range
        self._pairs = [pairs[i] for i in limited(len(pairs), data.train_limit if split == "train" else None, 0)]
        super().__init__(
            data,
            split,
            classes=self._classes.names,
            count=len(self._pairs),
            stride=stride,
            seed=seed,
            augmentation=augmentation,
            oversize=oversize,
        )

    @property
    def own_colours(self) -> tuple[str, ...]:
        """The colours of ``classes.txt``."""
        return self._classes.colours

    def render(self, index: int, height: int, width: int) -> tuple[Pixels, Pixels]:
        """Read, check and resize one pair of files."""
        image, labels, _ = self._read(index)
        return resized(image, labels, height, width)

    def look(self, index: int) -> SampleFacts:
        """Image and labels at the size of the files."""
        image, labels, stored = self._read(index)
        return SampleFacts(extent(stored, self._pairs[index][0]), eight_bit(image), labels, 2 * labels.size)

    def labels(self, index: int) -> Pixels:
        """The mask at the size of its file."""
        return self._labels(self._pairs[index][1])

    def notes(self) -> list[Note]:
        """Warnings about the folders of this split."""
        return self._notes

    def files(self) -> list[Path]:
        """The images."""
        return [image for image, _ in self._pairs]

    def _read(self, index: int) -> tuple[Image.Image, Pixels, Image.Image]:
        """The image in RGB, its labels, and the image as stored."""
        image_path, mask_path = self._pairs[index]
        stored = upright(open_picture(image_path))
        image = as_rgb(stored, image_path, self._value_range)
        labels = self._labels(mask_path)
        if image.size != labels.shape[::-1]:
            raise DataError(
                "an image and its mask differ in size",
                where=mask_path,
                found=f"image {image.width}x{image.height}, mask {labels.shape[1]}x{labels.shape[0]}",
            )
        return image, labels, stored

    def _labels(self, path: Path) -> Pixels:
        """The mask with classes 0, 1, ... and IGNORE_INDEX, mapped from the file's values."""
        picture = upright(open_picture(path))
        values = as_labels(picture, path)
        present = np.unique(values)
        known = np.array([*self._classes.values, *([] if self._classes.ignored is None else [self._classes.ignored])])
        strange = present[~np.isin(present, known)]
        if strange.size:
            raise DataError(
                "a mask holds values that are no class",
                where=path,
                found=named(strange.tolist(), shown=_SHOWN),
                allowed=self._classes.allowed(),
                hint=_hint(self._classes, present, strange, lossy=picture.format in ("JPEG", "MPO")),
            )
        labels = np.searchsorted(np.array(self._classes.values), values).astype(np.uint8)
        if self._classes.ignored is not None:
            labels[values == self._classes.ignored] = IGNORE_INDEX
        return labels

    def describe(self) -> str:
        """Number of images and classes."""
        return f"{len(self)} images, {len(self.classes)} classes"

    def name(self, index: int) -> str:
        """The image's file name."""
        return self._pairs[index][0].name


def _hint(classes: Classes, present: NDArray[np.integer], strange: NDArray[np.integer], *, lossy: bool) -> str:
    """Hint for values that are not a class."""
    if lossy:
        return "save masks as PNG: JPEG changes the values"
    if len(classes.names) == 2 and len(present) <= 2 and classes.ignored not in present:
        # Two values for two classes: ignoring one of them would leave a single class.
        values = sorted({*present.tolist(), *classes.values[: 2 - len(present)]})
        lines = ", ".join(f"'{value} {name}'" for value, name in zip(values, classes.names, strict=True))
        return f"if these are the two classes, write {lines} in classes.txt"
    if strange.tolist() == [IGNORE_INDEX] and classes.ignored is None:
        return f"if pixels of {IGNORE_INDEX} do not count, add 'ignore_index {IGNORE_INDEX} void' to classes.txt"
    if classes.ignored is not None:
        return "correct the masks, or name these values in classes.txt"
    return "name them in classes.txt, or add 'ignore_index N NAME'"
