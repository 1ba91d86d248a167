"""COCO instances: one sample per person, the crop around its box.

Labels: 0 background, 1 the target, 2 other instances of the category. A pixel covered by two people belongs to the
target in the crop of the target. Crowd regions contain no individual instances, so their pixels are ignored unless they
are also the target's. Annotations are read in the orientation whose size the JSON states: the upright one (EXIF
applied) when that fits, else the pixels as stored.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from kdtui.engine.data.coco_entries import (
    LONGEST_TEXT,
    NO_IMAGE,
    Flaws,
    ImageId,
    Unusable,
    box_of,
    check_unit,
    id_of,
    image_finder,
    number_of,
    plain_id,
    read_annotations,
    shown,
    type_name,
    value_of,
    whole_number,
)
from kdtui.engine.data.images import ImageFormat, eight_bit, extent, read_values
from kdtui.engine.data.pictures import MOST_PIXELS, brief
from kdtui.engine.data.protocol import Note, SampleFacts, SegmentationDataset, limited, named
from kdtui.engine.data.source import IGNORE_INDEX, Pixels, Source, seed_of
from kdtui.errors import DataError, NoSplit
from kdtui.profile import CocoData
from kdtui.profile.find import expanded
from kdtui.profile.region_keys import HIERARCHICAL_CLASSES

_POLYGON_NUMBERS = 6  # three corners; fewer enclose nothing, and pycocotools takes four for a box
# pycocotools allocates several integers per pixel of an outline, and counts them in 32 bits.
_LONGEST_OUTLINE = 10_000_000
_LONGEST_RUN_BITS = 60


@dataclass(frozen=True)
class CocoImage:
    """An image as the file describes it."""

    file_name: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotation.

    Attributes:
        box: x, y, width, height.
        segmentation: Polygons, or run lengths (compressed or not).
        crowd: Whether it is a region of several instances without individual outlines.
        source: File and id, for messages.
    """

    id: ImageId
    image_id: ImageId
    box: tuple[float, float, float, float]
    segmentation: Any
    crowd: bool
    source: str

    def touches(self, area: tuple[int, int, int, int]) -> bool:
        """Whether the box, and a pixel around it for rounding, meets ``area`` (left, top, right, bottom)."""
        x, y, w, h = self.box
        left, top, right, bottom = area
        return x - 1 < right and x + w + 1 > left and y - 1 < bottom and y + h + 1 > top


@dataclass(frozen=True)
class Instances:
    """All annotations of one category in a file.

    Attributes:
        categories: The ids of the category.
    """

    path: Path
    pictures: dict[ImageId, CocoImage]
    all: list[Instance]
    by_image: dict[ImageId, list[Instance]]
    categories: frozenset[ImageId]
    notes: tuple[Note, ...] = ()


def owned_pixels(instance: Instance, picture: CocoImage) -> NDArray[np.bool_]:
    """Mask of an instance in the whole image."""
    height, width = picture.height, picture.width
    # pycocotools does not validate: coordinates that are not numbers make it allocate without limit, and run lengths
    # that do not fill the image leave the rest of its mask uninitialised. So it only rasterises checked polygons.
    try:
        parts = _parts(instance.segmentation)
        polygons = [
            _corners(part, max(height, width))
            for part in parts
            if not isinstance(part, dict) and len(part) >= _POLYGON_NUMBERS
        ]
        outline = sum(float(np.abs(np.diff(np.reshape(polygon, (-1, 2)), axis=0)).sum()) for polygon in polygons)
        if outline > _LONGEST_OUTLINE:
            raise ValueError(f"an outline of {outline:.3g} pixels, at most {_LONGEST_OUTLINE:.0e}")
        layers = [_runs(part, height, width) for part in parts if isinstance(part, dict)]
        if polygons:
            merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
            layers.append(expand(merged["counts"].decode()))
    except KeyError as missing:
        raise DataError("a segmentation lacks a key", where=instance.source, found=f"no {missing}") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError("a segmentation cannot be read", where=instance.source, found=brief(error)) from None
    owned = np.zeros(height * width, dtype=bool)
    for runs in layers:  # every second run is foreground
        owned |= np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return owned.reshape(width, height).T  # columns first


def _parts(segmentation: Any) -> list[Any]:
    """Polygons and run lengths of a segmentation, in a list or single."""
    if isinstance(segmentation, dict):
        return [segmentation]
    if segmentation is None:
        return []
    if not isinstance(segmentation, list):
        raise TypeError(f"a segmentation is {type_name(segmentation)}, not polygons or run lengths")
    flat = len(segmentation) >= _POLYGON_NUMBERS and all(type(number) in (int, float) for number in segmentation)
    return [segmentation] if flat else segmentation


def has_mask(segmentation: Any) -> bool:
    """Whether a segmentation may cover a pixel; an unreadable one is reported when it is used."""
    try:
        return any(isinstance(part, dict) or len(part) >= _POLYGON_NUMBERS for part in _parts(segmentation))
    except TypeError:
        return True


def _runs(part: dict[str, Any], height: int, width: int) -> list[int]:
    """The run lengths of one object, column by column, starting with background."""
    counts, size = part["counts"], [whole_number(side, "size") for side in part["size"]]
    if size != [height, width]:
        raise ValueError(f"size {size} where the image has {[height, width]} (rows, columns)")
    runs = expand(counts) if isinstance(counts, str) else [r if type(r) is int else _exact(r) for r in counts]
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"run lengths do not add up to {height * width} pixels")
    return runs


def _exact(value: Any) -> int:
    number = number_of(value, "counts")
    if number != int(number):
        raise ValueError(f"a run of {number} pixels")
    return int(number)


def _corners(numbers: Any, side: int) -> list[float]:
    """A polygon's coordinates, x and y alternating, in or near an image whose longer side is ``side``."""
    corners = np.asarray(numbers, dtype=np.float64)
    if corners.ndim != 1 or corners.size % 2:
        raise ValueError(f"a polygon of {corners.size} numbers in {corners.ndim} dimensions, not pairs x, y")
    if not (np.abs(corners) <= 4 * side).all():  # also false for nan
        raise ValueError("a polygon leaves the image by far or holds something that is no number")
    return [float(number) for number in corners]


def expand(text: str) -> list[int]:
    """The run lengths in COCO's compressed form: 5 bits per character, signed, differences from the third on."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {character!r} in compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift > _LONGEST_RUN_BITS:
                raise ValueError("a run length of more digits than any image has pixels")
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths end within a number")
    return counts


def _wanted(content: dict[str, Any], path: Path, category: str) -> set[ImageId]:
    entries = [entry for entry in content["categories"] if isinstance(entry, dict)]
    names = [str(entry.get("name"))[:60] for entry in entries]
    flaws = Flaws(path)
    ids = set()
    for position, entry in enumerate(entries):
        if entry.get("name") == category:
            try:
                ids.add(plain_id(id_of(value_of(entry, "id"), "id")))
            except Unusable as flaw:
                flaws.add("categories", entry, position, flaw)
    flaws.raise_if_any({"categories": len(entries)})
    if not ids:
        near = difflib.get_close_matches(category, names, n=3, cutoff=0.5)
        raise DataError(
            "the annotations have no such category",
            where=path,
            found=category,
            allowed=named(names, shown=12),
            hint=f"--set data.category={near[0] if near else (names or ['NAME'])[0]}",
        )
    return ids


def _pictures(entries: list[Any], flaws: Flaws) -> dict[ImageId, CocoImage]:
    pictures: dict[ImageId, CocoImage] = {}
    for position, entry in enumerate(entries):
        try:
            name = value_of(entry, "file_name")
            if not isinstance(name, str) or not name or len(name) > LONGEST_TEXT:
                raise Unusable(f"'file_name' is {type_name(name)}, not the name of a file", shown(name))
            width, height = (whole_number(value_of(entry, side), side) for side in ("width", "height"))
            if width < 1 or height < 1 or width * height > MOST_PIXELS:
                raise Unusable(f"a size outside 1 to {MOST_PIXELS:,} pixels", f"{width}x{height}")
            picture, id = CocoImage(name, width, height), id_of(value_of(entry, "id"), "id")
            if pictures.setdefault(id, picture) != picture:
                raise Unusable("an id that another image has", f"{pictures[id].file_name} and {name}")
        except Unusable as flaw:
            flaws.add("images", entry, position, flaw)
    return pictures


def _instance(entry: Any, path: Path, image_of: Callable[[Any], ImageId]) -> Instance:
    id = id_of(value_of(entry, "id"), "id")
    crowd = entry.get("iscrowd")
    return Instance(
        id=id,
        image_id=image_of(value_of(entry, "image_id")),
        box=box_of(entry),
        segmentation=entry.get("segmentation"),
        crowd=bool(crowd) if crowd is None or isinstance(crowd, bool) else number_of(crowd, "iscrowd") != 0,
        source=f"{path}: annotation {id}",
    )


def read_instances(path: Path, category: str) -> Instances:
    """All instances of ``category`` in a COCO file.

    Numbers written as strings are accepted.

    Raises:
        DataError: Entries cannot be used, each kind of flaw counted; or no instance has a mask.
    """
    content = read_annotations(path)
    wanted = _wanted(content, path, category)
    flaws = Flaws(path)
    pictures = _pictures(content["images"], flaws)
    image_of = image_finder(pictures)
    instances: list[Instance] = []
    total = 0
    for position, entry in enumerate(content["annotations"]):
        try:
            if plain_id(id_of(value_of(entry, "category_id"), "category_id")) not in wanted:
                continue
            total += 1
            instances.append(_instance(entry, path, image_of))
        except Unusable as flaw:
            if not (flaw.kind == NO_IMAGE and flaws.of("images")):  # that image has its own flaw
                flaws.add("annotations", entry, position, flaw)
    flaws.raise_if_any({"images": len(content["images"]), "annotations": len(content["annotations"])})
    check_unit((instance.box for instance in instances), path)
    by_image: dict[ImageId, list[Instance]] = {}
    for instance in instances:
        by_image.setdefault(instance.image_id, []).append(instance)
    return Instances(
        path, pictures, instances, by_image, frozenset(wanted), tuple(_notes(path, category, pictures, instances))
    )


def _notes(path: Path, category: str, pictures: Mapping[ImageId, CocoImage], instances: list[Instance]) -> list[Note]:
    notes = []
    bare = [instance.id for instance in instances if not has_mask(instance.segmentation)]
    if bare and len(bare) == len(instances):
        raise DataError(
            f"{len(bare)} of {len(instances)} annotations of '{category}' have no mask",
            where=path,
            found="'segmentation' is empty or missing: boxes only",
            allowed="polygons or run lengths in 'segmentation'",
            hint="boxes do not say which pixels to learn: add masks to the file",
        )
    if bare:
        notes.append(
            Note(
                "annotations-without-mask",
                f"{len(bare)} of {len(instances)} annotations of '{category}' in {path.name} have no mask: "
                f"{named(bare)}",
                "their crops teach 'background' where there is one: remove them from the file, or add their masks",
            )
        )
    repeated = [id for id, times in Counter(instance.id for instance in instances).items() if times > 1]
    if repeated:
        notes.append(
            Note(
                "repeated-annotation-ids",
                f"{len(repeated)} ids in {path.name} belong to several annotations: {named(repeated)}",
                "two annotations of one person count twice: remove the copies",
            )
        )
    used = {instance.image_id for instance in instances}
    files = Counter(pictures[id].file_name for id in used)
    shared = [name for name, times in files.items() if times > 1]
    if shared:
        notes.append(
            Note(
                "images-listed-twice",
                f"{len(shared)} files in {path.name} are listed under several image ids: {named(shared)}",
                "people of one picture do not see each other, and it may be in training and validation: list it once",
            )
        )
    return notes


_TARGET, _OTHER = 1, 2
Box = tuple[int, int, int, int]


def held_out(image_id: ImageId, share: float) -> bool:
    """Whether an image belongs to the validation part of a training file; decided by its id alone."""
    return seed_of(image_id) / 2**63 < share


def crop_box(instance: Instance, picture: CocoImage, padding: float) -> Box:
    """Left, top, right, bottom of the padded box, in whole pixels inside the picture."""
    x, y, w, h = instance.box
    left, top = max(0, int(np.floor(x - padding * w))), max(0, int(np.floor(y - padding * h)))
    right = min(picture.width, int(np.ceil(x + w + padding * w)))
    bottom = min(picture.height, int(np.ceil(y + h + padding * h)))
    return left, top, right, bottom


def crop_labels(target: Instance, beside: Sequence[Instance], picture: CocoImage, box: Box) -> Pixels:
    """The labels of the crop around ``target``."""
    left, top, right, bottom = box
    labels = np.zeros((bottom - top, right - left), dtype=np.uint8)
    # Later overwrites earlier: other people, then crowd regions, then the target.
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
    ) -> None:
        self._padding = data.padding
        self._category = data.category
        self._folder, self._instances = split_of(data, split)
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
        self._format = ImageFormat.of(data)
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
        )

    def read(self, index: int) -> Source:
        """Decode the image and cut the crop."""
        target = self._targets[index]
        picture = self._instances.pictures[target.image_id]
        box = crop_box(target, picture, self._padding)
        return Source(self._cropped(picture, box)[0], self.labels(index))

    def labels(self, index: int) -> Pixels:
        """The labels of the crop before resizing; no image is read."""
        target = self._targets[index]
        picture = self._instances.pictures[target.image_id]
        box = crop_box(target, picture, self._padding)
        return crop_labels(target, self._instances.by_image[target.image_id], picture, box)

    def look(self, index: int) -> SampleFacts:
        """The crop before resizing."""
        target = self._targets[index]
        picture = self._instances.pictures[target.image_id]
        box = crop_box(target, picture, self._padding)
        image, stored = self._cropped(picture, box)
        size = picture.width * picture.height
        return SampleFacts(extent(stored), eight_bit(image), self.labels(index), size)

    def notes(self) -> list[Note]:
        """Warnings about the annotations, and about those that are left out."""
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
        """Every image with a crop, once."""
        names = {self._instances.pictures[target.image_id].file_name: None for target in self._targets}
        return [self._folder / name for name in names]

    def _cropped(self, picture: CocoImage, box: Box) -> tuple[NDArray[Any], NDArray[Any]]:
        """The image in a box, and the values in its file."""
        image, stored = read_picture(self._folder, picture, self._format, self._instances.path)
        left, top, right, bottom = box
        return np.ascontiguousarray(image[top:bottom, left:right]), stored[top:bottom, left:right]

    def describe(self) -> str:
        """Number of crops and images."""
        images = len({target.image_id for target in self._targets})
        small = f", {self._small} boxes under {self._minimum_size} px left out" if self._small else ""
        return f"{len(self)} {self._category} crops from {images} images{small}"

    def name(self, index: int) -> str:
        """Image file and annotation id."""
        target = self._targets[index]
        return f"{self.unit(index)} annotation {target.id}"

    def unit(self, index: int) -> str:
        """Image file: its crops are drawn together."""
        return self._instances.pictures[self._targets[index].image_id].file_name


def _is_empty(box: Box) -> bool:
    left, top, right, bottom = box
    return right <= left or bottom <= top


def read_picture(
    folder: Path, picture: CocoImage, form: ImageFormat, annotations: Path
) -> tuple[NDArray[Any], NDArray[Any]]:
    """An image [h,w,C], and the values in its file.

    Args:
        folder: Folder of the images.
        picture: The image as the annotations describe it.
        form: How values become an image.
        annotations: Their file, for messages.

    Raises:
        DataError: It cannot be read, or has another size.
    """
    path, size = folder / picture.file_name, (picture.width, picture.height)
    stored = read_values(path, size)
    if stored.shape[1::-1] != size:
        raise DataError(
            "an image has another size than its annotations say",
            where=path,
            found=f"{stored.shape[1]}x{stored.shape[0]}",
            allowed=f"{picture.width}x{picture.height} as in {annotations.name}",
        )
    return form.image(stored, path), stored


def split_of(data: CocoData, split: str) -> tuple[Path, Instances]:
    """Folder of the images and annotations of a split; without a ``val`` split, those of ``train``.

    Raises:
        DataError: They do not exist, or cannot be used.
    """
    part = {"train": data.train, "val": data.val or data.train, "test": data.test}[split]
    if part is None:
        raise NoSplit(
            "the profile names no test split",
            where="data.test",
            allowed="data.test.images and data.test.annotations",
            hint="add them to the profile, or `kdtui evaluate RUN --split val`",
        )
    folder = expanded(part.images)
    if not folder.is_dir():
        raise DataError("the folder of images does not exist", where=folder, hint=f"--set data.{split}.images=FOLDER")
    return folder, read_instances(expanded(part.annotations), data.category)
