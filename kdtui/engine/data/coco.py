"""COCO instances: one sample per person, the crop around its box.

Labels: 0 background, 1 the target, 2 other instances of the category. A pixel that two people own belongs to the target
in the target's own crop. Crowd regions are nobody in particular, so their pixels are ignored unless they are the
target's. Annotations are read in the orientation whose size the JSON states: the upright one (EXIF applied) when that
fits, else the pixels as stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kdtui.engine.data.instances import (
    ImageId,
    Instance,
    Instances,
    Picture,
    owned_pixels,
    read_instances,
)
from kdtui.engine.data.pictures import as_rgb, eight_bit, extent, open_picture, resized, upright
from kdtui.engine.data.protocol import (
    HIERARCHICAL_CLASSES,
    IGNORE_INDEX,
    Augmentation,
    Look,
    Note,
    Pixels,
    SegmentationDataset,
    limited,
    seed_of,
)
from kdtui.errors import DataError
from kdtui.profile import CocoData
from kdtui.profile.find import expanded

_TARGET, _OTHER = 1, 2
Box = tuple[int, int, int, int]


def held_out(image_id: ImageId, share: float) -> bool:
    """Whether an image belongs to the validation part of a training file; decided by its id alone."""
    return seed_of(image_id) / 2**63 < share


def crop_box(instance: Instance, picture: Picture, padding: float) -> Box:
    """Left, top, right, bottom of the padded box, in whole pixels inside the picture."""
    x, y, w, h = instance.box
    left, top = max(0, int(np.floor(x - padding * w))), max(0, int(np.floor(y - padding * h)))
    right = min(picture.width, int(np.ceil(x + w + padding * w)))
    bottom = min(picture.height, int(np.ceil(y + h + padding * h)))
    return left, top, right, bottom


def crop_labels(target: Instance, beside: Sequence[Instance], picture: Picture, box: Box) -> Pixels:
    """The labels of the crop around ``target``."""
    left, top, right, bottom = box
    labels = np.zeros((bottom - top, right - left), dtype=np.uint8)
    # Later wins: other people, then what nobody owns in particular, then the target.
    for instance, label in (
        *((i, _OTHER) for i in beside if not i.crowd and i is not target),
        *((i, IGNORE_INDEX) for i in beside if i.crowd),
        (target, _TARGET),
    ):
        if instance is target or instance.touches(box):
            labels[owned_pixels(instance, picture)[top:bottom, left:right]] = label
    return labels


class PersonCrops(SegmentationDataset):
    """One crop per instance of the category that is neither crowd nor too small."""

    def __init__(
        self,
        data: CocoData,
        split: str,
        *,
        stride: int,
        seed: int,
        augmentation: Augmentation | None,
        oversize: float,
    ) -> None:
        self._padding = data.padding
        self._category = data.category
        self._folder, self._instances = _split(data, split)
        people = [instance for instance in self._instances.all if not instance.crowd]
        found = [instance for instance in people if min(instance.box[2:]) >= data.minimum_size]
        if data.val is None and split in ("train", "val"):
            people, found = (
                [i for i in instances if held_out(i.image_id, data.holdout) == (split == "val")]
                for instances in (people, found)
            )
        if not found:
            raise DataError(
                f"the {split} split has no {data.category} to crop",
                where=self._instances.path,
                found=f"{len(self._instances.all)} annotations of '{data.category}', none left",
                hint=f"lower data.minimum_size ({data.minimum_size})"
                + (f" or change data.holdout ({data.holdout})" if data.val is None else ""),
            )
        self._small, self._large = len(people) - len(found), len(found)
        self._minimum_size = data.minimum_size
        self._value_range = data.value_range
        outside = [i for i in found if _is_empty(crop_box(i, self._instances.pictures[i.image_id], data.padding))]
        if outside:
            raise DataError(
                "the box of an annotation lies outside its image",
                where=outside[0].source,
                found=list(outside[0].box) if len(outside) == 1 else f"{len(outside)} of {len(found)} boxes",
            )
        self._targets = [found[i] for i in limited(len(found), data.train_limit if split == "train" else None, 0)]
        super().__init__(
            data,
            split,
            classes=HIERARCHICAL_CLASSES,
            count=len(self._targets),
            stride=stride,
            seed=seed,
            augmentation=augmentation,
            oversize=oversize,
        )

    def render(self, index: int, height: int, width: int) -> tuple[Pixels, Pixels]:
        """Decode the image, cut the crop, and resize it."""
        target = self._targets[index]
        picture = self._instances.pictures[target.image_id]
        box = crop_box(target, picture, self._padding)
        image = as_rgb(self._oriented(picture), self._folder / picture.file_name, self._value_range).crop(box)
        labels = crop_labels(target, self._instances.by_image[target.image_id], picture, box)
        return resized(image, labels, height, width)

    def look(self, index: int) -> Look:
        """The crop at its own size."""
        target = self._targets[index]
        picture = self._instances.pictures[target.image_id]
        box = crop_box(target, picture, self._padding)
        stored, path = self._oriented(picture), self._folder / picture.file_name
        labels = crop_labels(target, self._instances.by_image[target.image_id], picture, box)
        image = as_rgb(stored, path, self._value_range).crop(box)
        return Look(extent(stored.crop(box), path), eight_bit(image), labels, picture.width * picture.height)

    def notes(self) -> list[Note]:
        """What is odd about the annotations, and which of them are left out."""
        notes = list(self._instances.notes)
        if self._small > self._large:
            notes.append(
                Note(
                    "boxes-left-out",
                    f"{self._small} of {self._small + self._large} boxes of the {self.split} split are left out: "
                    f"a side under {self._minimum_size} pixels",
                    "--set data.minimum_size=N makes crops of smaller ones",
                )
            )
        return notes

    def files(self) -> list[Path]:
        """Every image that a crop is cut from, once."""
        names = {self._instances.pictures[target.image_id].file_name: None for target in self._targets}
        return [self._folder / name for name in names]

    def _oriented(self, picture: Picture) -> Image.Image:
        path = self._folder / picture.file_name
        stored = open_picture(path)
        size = (picture.width, picture.height)
        seen = upright(stored)
        if seen.size == size:
            return seen
        if stored.size == size:
            return stored
        raise DataError(
            "an image has another size than its annotations say",
            where=path,
            found=f"{stored.width}x{stored.height}",
            allowed=f"{picture.width}x{picture.height} as in {self._instances.path.name}",
        )

    def describe(self) -> str:
        """Number of crops and images."""
        images = len({target.image_id for target in self._targets})
        small = f", {self._small} boxes under {self._minimum_size} px left out" if self._small else ""
        return f"{len(self)} {self._category} crops from {images} images{small}"

    def name(self, index: int) -> str:
        """Image file and annotation id."""
        target = self._targets[index]
        return f"{self._instances.pictures[target.image_id].file_name} annotation {target.id}"


def _is_empty(box: Box) -> bool:
    left, top, right, bottom = box
    return right <= left or bottom <= top


def _split(data: CocoData, split: str) -> tuple[Path, Instances]:
    part = {"train": data.train, "val": data.val or data.train, "test": data.test}[split]
    if part is None:
        raise DataError(
            "the profile names no test split",
            where="data.test",
            allowed="data.test.images and data.test.annotations",
            hint="add them to the profile, or `kdtui evaluate RUN --split val`",
        )
    folder = expanded(part.images)
    if not folder.is_dir():
        raise DataError("the folder of images does not exist", where=folder, hint=f"--set data.{split}.images=FOLDER")
    return folder, read_instances(expanded(part.annotations), data.category)
