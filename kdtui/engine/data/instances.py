"""Reading a COCO instance file: only what a crop needs, and every flaw named."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from kdtui.errors import DataError

_POLYGON_NUMBERS = 6  # three corners; fewer enclose nothing, and pycocotools takes four for a box
ImageId = int | str


@dataclass(frozen=True)
class Picture:
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
        crowd: A region of many, nobody in particular.
        source: File and id, for messages.
    """

    id: int | str
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
    """All annotations of one category in a file."""

    path: Path
    pictures: dict[ImageId, Picture]
    all: list[Instance]
    by_image: dict[ImageId, list[Instance]]


def owned_pixels(instance: Instance, picture: Picture) -> NDArray[np.bool_]:
    """Which pixels of the whole image an instance owns."""
    height, width = picture.height, picture.width
    segmentation = instance.segmentation
    # pycocotools trusts what it is given: coordinates that are no numbers make it allocate without end, and run lengths
    # that do not fill the image leave the rest of its mask uninitialised. So it only rasterises checked polygons.
    try:
        if isinstance(segmentation, list):
            polygons = [_corners(p, max(height, width)) for p in segmentation if len(p) >= _POLYGON_NUMBERS]
            if not polygons:
                return np.zeros((height, width), dtype=bool)
            runs = expand(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"].decode())
        else:
            runs, size = segmentation["counts"], list(segmentation["size"])
            if size != [height, width]:
                raise ValueError(f"size {size} where the image has {[height, width]} (rows, columns)")
            if isinstance(runs, str):
                runs = expand(runs)
            if any(type(run) is not int or run < 0 for run in runs) or sum(runs) != height * width:
                raise ValueError(f"run lengths do not add up to {height * width} pixels")
    except KeyError as missing:
        raise DataError("a segmentation lacks a key", where=instance.source, found=f"no {missing}") from None
    except (TypeError, ValueError) as error:
        raise DataError("a segmentation cannot be read", where=instance.source, found=error) from None
    # Columns first; every second run is owned.
    owned = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return owned.reshape(width, height).T


def _corners(numbers: Any, side: int) -> list[float]:
    """A polygon's coordinates, x and y in turn, in or near an image with that longer side."""
    corners = np.asarray(numbers, dtype=np.float64)
    if corners.ndim != 1 or corners.size % 2:
        raise ValueError(f"a polygon of {corners.size} numbers in {corners.ndim} dimensions, not pairs x, y")
    if not (np.abs(corners) <= 4 * side).all():  # also false for nan
        raise ValueError("a polygon leaves the image by far or holds something that is no number")
    return [float(number) for number in corners]


def expand(text: str) -> list[int]:
    """The run lengths in COCO's compressed form: 5 bits a character, signed, from the third on as differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {character!r} in compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths end within a number")
    return counts


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError("the annotations do not exist", where=path, hint="check data.*.annotations") from None
    except OSError as error:
        raise DataError("the annotations cannot be read", where=path, found=error.strerror) from None
    except ValueError as error:
        raise DataError(
            "the annotations are not whole JSON", where=path, found=error, hint="was the download cut off?"
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            "the annotations are no COCO instance file", where=path, found=type(content).__name__, allowed="an object"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(
                f"the annotations have no list '{key}'",
                where=path,
                found=f"keys: {', '.join(map(str, content)) or 'none'}",
                allowed="images, annotations, categories",
            )
    return content


def _wanted(content: dict[str, Any], path: Path, category: str) -> set[Any]:
    names = [str(c.get("name")) for c in content["categories"] if isinstance(c, dict)]
    ids = {c["id"] for c in content["categories"] if isinstance(c, dict) and c.get("name") == category and "id" in c}
    if not ids:
        near = difflib.get_close_matches(category, names, n=3, cutoff=0.5)
        raise DataError(
            "the annotations have no such category",
            where=path,
            found=category,
            allowed=", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else ""),
            hint=f"--set data.category={near[0] if near else (names or ['NAME'])[0]}",
        )
    return ids


def read_instances(path: Path, category: str) -> Instances:
    """All instances of ``category`` in a COCO file."""
    content = _load(path)
    wanted = _wanted(content, path, category)
    pictures: dict[ImageId, Picture] = {}
    found: list[Instance] = []
    by_image: dict[ImageId, list[Instance]] = {}
    entry: Any = None
    kind = ""
    try:
        kind = "images"
        for entry in content["images"]:
            picture = Picture(str(entry["file_name"]), int(entry["width"]), int(entry["height"]))
            if picture.width < 1 or picture.height < 1:
                raise ValueError("no size")
            pictures[entry["id"]] = picture
        kind = "annotations"
        for entry in content["annotations"]:
            if entry["category_id"] not in wanted:
                continue
            x, y, w, h = map(float, entry["bbox"])
            if not np.isfinite((x, y, w, h)).all() or w < 0 or h < 0:
                raise ValueError("bbox is not x, y, width, height")
            instance = Instance(
                id=entry["id"],
                image_id=entry["image_id"],
                box=(x, y, w, h),
                segmentation=entry["segmentation"],
                crowd=bool(entry.get("iscrowd", 0)),
                source=f"{path}: annotation {entry['id']}",
            )
            found.append(instance)
            by_image.setdefault(instance.image_id, []).append(instance)
    except KeyError as missing:
        shown = entry.get("id", "without id")
        raise DataError(
            f"an entry of '{kind}' lacks a key", where=f"{path}: {kind} {shown}", found=f"no {missing}"
        ) from None
    except (TypeError, ValueError) as error:
        raise DataError(
            f"an entry of '{kind}' cannot be read", where=f"{path}: {kind}", found=f"{str(entry)[:80]} ({error})"
        ) from None
    for instance in found:
        if instance.image_id not in pictures:
            raise DataError(
                "an annotation belongs to an image that the file does not list",
                where=instance.source,
                found=f"image_id {instance.image_id}",
            )
    return Instances(path, pictures, found, by_image)
