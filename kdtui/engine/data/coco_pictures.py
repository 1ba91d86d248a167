"""COCO instances: one sample per picture, with the boxes of its instances.

In the label map of an instance, pixels of crowds and of boxes without a mask are ignored where they are not its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data.coco import CocoImage, Instance, has_mask, held_out, owned_pixels, read_picture, split_of
from kdtui.engine.data.coco_entries import ImageId
from kdtui.engine.data.detections import IOU, Detections, matched, read_detections
from kdtui.engine.data.images import ImageFormat
from kdtui.engine.data.instances import OTHER, Boxes, ForegroundMaps, Layer, Marked, PictureSamples, layer_of
from kdtui.engine.data.pictures import brief
from kdtui.engine.data.protocol import Note, limited, named
from kdtui.engine.data.source import IGNORE_INDEX, Size, Values
from kdtui.errors import DataError
from kdtui.profile import CocoData
from kdtui.profile.find import expanded
from kdtui.text import counted


class CocoPictures(PictureSamples):
    """The pictures of a split with a box of the category."""

    def __init__(self, data: CocoData, split: str, *, stride: int, seed: int) -> None:
        self._folder, self._instances = split_of(data, split)
        self._category, self._format = data.category, ImageFormat.of(data)
        # Training may show parts of pictures larger than the whole.
        magnified = data.scale[1] if split == "train" and data.geometry == "crop" else 1.0
        self._least = data.min_box / magnified / np.array([data.height, data.width])
        held = data.val is None and split in ("train", "val")
        own = [id for id in self._instances.pictures if not held or held_out(id, data.holdout) == (split == "val")]
        self._detections: Detections | None = None
        if data.boxes is not None and split != "train":
            self._detections = read_detections(expanded(data.boxes), self._instances, own)
        used = [id for id in own if self._is_used(id)]
        if not used:
            raise DataError(
                f"the {split} split has no picture with a box of '{data.category}'",
                where=self._instances.path,
                found=f"{counted(len(own), 'picture')}; {counted(len(self._instances.all), 'annotation')} of "
                f"'{data.category}' in the file",
                allowed=f"a mask, and a box with sides of {data.min_box} pixels or more at {data.height}x{data.width}",
                hint="lower data.min_box" + (f", or change data.holdout ({data.holdout})" if held else ""),
            )
        self._check_files(used)
        self._left_out = len(own) - len(used)
        self._ids = [used[at] for at in limited(len(used), data.train_limit if split == "train" else None, 0)]
        super().__init__(data, split, count=len(self._ids), stride=stride, seed=seed)

    def _is_used(self, id: ImageId) -> bool:
        """Whether a picture is a sample."""
        detected = self._detections is not None and len(self._detections.of(id)) > 0
        return detected or any(map(self._is_target, self._of(id)))

    def _of(self, id: ImageId) -> Sequence[Instance]:
        """The annotations of a picture."""
        return self._instances.by_image.get(id, ())

    def _is_target(self, instance: Instance) -> bool:
        """Whether an annotation is an instance with a mask and a box that is large enough."""
        left, top, right, bottom = self._box(instance)
        large = min(right - left, bottom - top) >= self._smallest(instance.image_id)
        return large and self._has_instance(instance)

    def _has_instance(self, instance: Instance) -> bool:
        return not instance.crowd and has_mask(instance.segmentation)

    def _smallest(self, id: ImageId) -> float:
        """Smallest side of a box that the network's input shows in ``min_box`` pixels."""
        return float((self._least * self._size(id)).max())

    def _box(self, instance: Instance) -> tuple[float, float, float, float]:
        """The part of a box in its picture: left, top, right, bottom."""
        x, y, width, height = instance.box
        size = self._size(instance.image_id)
        left, right = (min(max(0.0, edge), size.width) for edge in (x, x + width))
        top, bottom = (min(max(0.0, edge), size.height) for edge in (y, y + height))
        return left, top, right, bottom

    def _size(self, id: ImageId) -> Size:
        picture = self._instances.pictures[id]
        return Size(picture.height, picture.width)

    def _check_files(self, ids: Iterable[ImageId]) -> None:
        """Refuse pictures without a file."""
        names = [self._instances.pictures[id].file_name for id in ids]
        # Each folder is listed once: there may be a hundred thousand pictures.
        present = {folder: _names_in(folder) for folder in {(self._folder / name).parent for name in names}}
        missing = [name for name in names if (path := self._folder / name).name not in present[path.parent]]
        if missing:
            raise DataError(
                "the annotations list pictures that have no file",
                where=self._folder,
                found=f"no file for {len(missing)} of {counted(len(names), 'picture')}: {named(missing)}",
                allowed=f"the pictures of {self._instances.path.name} with a box of '{self._category}'",
                hint="copy them to this folder, or remove them from the annotations",
            )

    def _picture(self, index: int) -> CocoImage:
        return self._instances.pictures[self._ids[index]]

    def marked(self, index: int) -> Marked:
        """The boxes of the annotations, or of a detector."""
        id, instances = self._ids[index], self._of(self._ids[index])
        targets = [number for number, instance in enumerate(instances) if self._is_target(instance)]
        truth = Marked(
            self._size(id), self._boxes(instances[number] for number in targets), np.array(targets, np.int64)
        )
        if self._detections is None:
            return truth
        uncounted = (one for one in instances if not one.crowd and not self._is_target(one))
        crowds = (one for one in instances if one.crowd)
        found = self._detections.of(id)
        return matched(found, truth, self._boxes(uncounted), self._boxes(crowds), self._smallest(id))

    def _boxes(self, instances: Iterable[Instance]) -> Boxes:
        return np.array([self._box(instance) for instance in instances], np.float64).reshape(-1, 4)

    def read_layers(self, index: int) -> Sequence[Layer]:
        """The masks of all annotations."""
        return [self._layer(instance, self._picture(index)) for instance in self._of(self._ids[index])]

    def _layer(self, instance: Instance, picture: CocoImage) -> Layer:
        if has_mask(instance.segmentation):
            return layer_of(owned_pixels(instance, picture), IGNORE_INDEX if instance.crowd else OTHER)
        left, top, right, bottom = (round(edge) for edge in self._box(instance))
        return Layer(left, top, np.ones((bottom - top, right - left), bool), IGNORE_INDEX)

    def decoded(self, index: int) -> tuple[Values, NDArray[Any]]:
        """The picture, and the values in its file."""
        return read_picture(self._folder, self._picture(index), self._format, self._instances.path)

    def notes(self) -> list[Note]:
        """Warnings about the annotations."""
        hint = "in whole pictures, the pixels in their boxes are ignored: add their masks"
        return [
            note._replace(hint=hint) if note.code == "annotations-without-mask" else note
            for note in self._instances.notes
        ]

    def files(self) -> list[Path]:
        """The image files."""
        return [self._folder / name for name in dict.fromkeys(map(self.name, range(len(self))))]

    def name(self, index: int) -> str:
        """The image file."""
        return self._picture(index).file_name

    def describe(self) -> str:
        """Number of pictures and boxes, and of those that are left out."""
        instances = [one for id in self._ids for one in self._of(id) if self._has_instance(one)]
        boxes = sum(map(self._is_target, instances))
        small = len(instances) - boxes
        text = f"{counted(len(self), 'picture')} with {counted(boxes, 'instance')} of {self._category}"
        text += f", {small:,} under {self._keys.min_box} px left out" if small else ""
        text += f", {counted(self._left_out, 'picture')} without one left out" if self._left_out else ""
        return "; ".join([text, *self.remarks()])

    def remarks(self) -> list[str]:
        """What the boxes of a detector match."""
        if self._detections is None:
            return []
        every = [self.marked(index) for index in range(len(self))]
        found, hits = sum(len(one.boxes) for one in every), sum(int((one.targets >= 0).sum()) for one in every)
        missed = sum(one.missed for one in every)
        return [
            f"{counted(hits, 'instance')} of {hits + missed:,} matched by boxes of a detector at IoU {IOU:g}, "
            f"{missed:,} missed; {found - hits:,} boxes without an instance"
            + (f"; {self._detections.elsewhere:,} boxes of other pictures" if self._detections.elsewhere else "")
        ]


class CocoForeground(ForegroundMaps, CocoPictures):
    """All pictures of a split, each with one mask of the category."""

    def _is_used(self, id: ImageId) -> bool:
        return True

    def describe(self) -> str:
        """Number of pictures."""
        without = sum(not any(map(self._has_instance, self._of(id))) for id in self._ids)
        return f"{counted(len(self), 'picture')}, {without} without {self._category}"


def coco_pictures(data: CocoData, split: str, *, stride: int, seed: int) -> PictureSamples:
    """The pictures of a split in the form of ``data.sample``."""
    kind = CocoPictures if data.regions else CocoForeground
    return kind(data, split, stride=stride, seed=seed)


def _names_in(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError as error:
        raise DataError("a folder of images cannot be read", where=folder, found=brief(error)) from None
