"""A folder of label images: ``images/{split}``, ``masks/{split}`` and ``classes.txt``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdtui.engine.data.pictures import as_labels, as_rgb, open_picture, resized, upright
from kdtui.engine.data.protocol import IGNORE_INDEX, SPLITS, Augmentation, Pixels, SegmentationDataset, limited
from kdtui.errors import DataError
from kdtui.profile import FolderData
from kdtui.profile.find import expanded

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SHOWN = 5


class Classes(NamedTuple):
    """What ``classes.txt`` says: names by position, the value in the files of each, and the ignored value."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignored: int | None

    def allowed(self) -> str:
        """The values a mask may hold, for a person."""
        ignored = "" if self.ignored is None else f", ignored {self.ignored}"
        return ", ".join(f"{v} {n}" for v, n in zip(self.values, self.names, strict=True)) + ignored


def read_classes(path: Path) -> Classes:
    """Read ``INDEX NAME`` lines and at most one ``ignore_index N NAME``."""
    hint = "one line per class, 'INDEX NAME' from 0 up, and 'ignore_index N NAME' for pixels that do not count"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError("the class list is missing", where=path, hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the class list cannot be read", where=path, found=error, hint=hint) from None
    named: dict[int, str] = {}
    ignored: int | None = None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.lstrip().startswith("#"):
            continue
        ignore = words[0] == "ignore_index"
        index, name = (words[1:2], words[2:]) if ignore else (words[:1], words[1:])
        if not index or not index[0].isdecimal() or not (name or ignore):
            raise DataError("a line of the class list cannot be read", where=f"{path}:{number}", found=line, hint=hint)
        value = int(index[0])
        label = " ".join(name)
        if not label.isprintable():  # it would be obeyed by every terminal that shows it
            raise DataError(
                "a class has a name that cannot be shown", where=f"{path}:{number}", found=repr(label), hint=hint
            )
        taken = value in named or value == ignored or (ignored is not None if ignore else label in named.values())
        if taken:
            raise DataError("the class list says something twice", where=f"{path}:{number}", found=line, hint=hint)
        if ignore:
            ignored = value
        else:
            named[value] = label
    if len(named) < 2 or len(named) > IGNORE_INDEX:
        raise DataError(
            "the class list has no usable number of classes",
            where=path, found=len(named), allowed=f"2 to {IGNORE_INDEX}", hint=hint,
        )  # fmt: skip
    values = tuple(sorted(named))
    return Classes(tuple(named[v] for v in values), values, ignored)


def _files(folder: Path) -> dict[str, Path]:
    """Image files by stem."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError("two files share a name", where=folder, found=f"{found[path.stem].name}, {path.name}")
        found[path.stem] = path
    return found


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    images, masks = root / "images" / split, root / "masks" / split
    for folder in (images, masks):
        if not folder.is_dir():
            beside = sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) if folder.parent.is_dir() else []
            raise DataError(
                f"the folder of the {split} {folder.parent.name} is missing",
                where=folder,
                found=f"splits there: {', '.join(beside) or 'none'}",
                hint=f"kdtui expects images/{{{','.join(SPLITS)}}} and masks/{{{','.join(SPLITS)}}} below data.root",
            )
    pictures, labels = _files(images), _files(masks)
    if not pictures:
        raise DataError(f"the {split} split is empty", where=images, allowed=f"files ending in {', '.join(SUFFIXES)}")
    lonely = [path.name for stem, path in pictures.items() if stem not in labels]
    if lonely:
        shown = ", ".join(lonely[:_SHOWN]) + (f" and {len(lonely) - _SHOWN} more" if len(lonely) > _SHOWN else "")
        raise DataError(
            f"{len(lonely)} of {len(pictures)} images have no mask",
            where=masks,
            found=shown,
            hint="a mask has its image's name, with any of the endings " + ", ".join(SUFFIXES),
        )
    return [(path, labels[stem]) for stem, path in pictures.items()]


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
        pairs = _pairs(root, split)
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

    def render(self, index: int, height: int, width: int) -> tuple[Pixels, Pixels]:
        """Read, check and resize one pair of files."""
        image_path, mask_path = self._pairs[index]
        image = as_rgb(upright(open_picture(image_path)))
        labels = self._labels(mask_path)
        if image.size != labels.shape[::-1]:
            raise DataError(
                "an image and its mask differ in size",
                where=mask_path,
                found=f"image {image.width}x{image.height}, mask {labels.shape[1]}x{labels.shape[0]}",
            )
        return resized(image, labels, height, width)

    def _labels(self, path: Path) -> Pixels:
        """The mask with classes 0, 1, ... and IGNORE_INDEX, whatever numbers the file uses."""
        values = as_labels(upright(open_picture(path)), path)
        present = np.unique(values)
        known = np.array([*self._classes.values, *([] if self._classes.ignored is None else [self._classes.ignored])])
        strange = present[~np.isin(present, known)]
        if strange.size:
            shown = ", ".join(map(str, strange[:_SHOWN].tolist()))
            raise DataError(
                "a mask holds values that are no class",
                where=path,
                found=shown + (f" and {strange.size - _SHOWN} more" if strange.size > _SHOWN else ""),
                allowed=self._classes.allowed(),
                hint="save masks as PNG: JPEG changes the values"
                if path.suffix.lower() in (".jpg", ".jpeg")
                else "name them in classes.txt, or add 'ignore_index N NAME'",
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
