"""Boxes of a detector in a JSON file: COCO results, or an object with images and annotations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtui.engine.data.pictures import brief
from kdtui.errors import DataError
from kdtui.store.files import read_file

MOST_BYTES = 2**28
"""Size of the largest file: two million boxes."""
_FORMS = '[{"image_id": …, "bbox": [x, y, width, height], "score": …}, …], or an object with images and annotations'


@dataclass(frozen=True)
class DetectedBox:
    """A box of a picture.

    Attributes:
        image_id: As written in the file.
        file_name: Name of the picture, if the file has it.
        box: x1, y1, x2, y2 in pixels of the picture.
        score: Between 0 and 1; 1 if the file has none.
        category: Its category id; None if the file has none.
    """

    image_id: int | float | str
    file_name: str | None
    box: tuple[float, float, float, float]
    score: float = 1.0
    category: int | None = None

    def is_of(self, picture: Path) -> bool:
        """Whether it belongs to a picture: by the end of its path, or by an id that is the name without its ending."""
        if self.file_name is not None:
            parts = Path(self.file_name).parts
            return picture.parts[-len(parts) :] == parts
        if isinstance(self.image_id, str) and self.image_id in (picture.name, picture.stem):
            return True
        return picture.stem.isdecimal() and str(self.image_id).isdecimal() and int(picture.stem) == int(self.image_id)


def read_boxes(path: Path) -> list[DetectedBox]:
    """The boxes of a file, in order.

    Raises:
        DataError: The file cannot be read, or some of its boxes cannot be used.
    """
    content = _load(path)
    names: dict[Any, str] = {}
    if isinstance(content, dict):
        images, entries = content.get("images"), content.get("annotations")
        for image in images if isinstance(images, list) else ():
            if isinstance(image, dict) and isinstance(image.get("file_name"), str) and _is_id(image.get("id")):
                names[image["id"]] = image["file_name"]
    else:
        entries = content
    if not isinstance(entries, list):
        kind = "an object without a list 'annotations'" if isinstance(content, dict) else "neither a list nor an object"
        raise DataError("the file of boxes has another form", where=path, found=kind, allowed=_FORMS)
    flaws: dict[str, list[int]] = {}
    boxes = []
    for number, entry in enumerate(entries):
        box = _box(entry, names)
        if isinstance(box, str):
            flaws.setdefault(box, []).append(number)
        else:
            boxes.append(box)
    if flaws:
        found = [f"{len(at)} of {len(entries)}: {flaw} ({_listed(at, entries)})" for flaw, at in flaws.items()]
        raise DataError("boxes cannot be used", where=path, found="; ".join(found), allowed=_FORMS)
    _check_pixels(boxes, path)
    return boxes


def _load(path: Path) -> Any:
    try:
        return json.loads(read_file(path, most=MOST_BYTES))
    except FileNotFoundError:
        raise DataError("the file of boxes does not exist", where=path) from None
    except OSError as error:
        raise DataError("the file of boxes cannot be read", where=path, found=brief(error)) from None
    except (ValueError, RecursionError) as error:
        raise DataError("the file of boxes is not whole JSON", where=path, found=brief(error), allowed=_FORMS) from None


def _box(entry: Any, names: dict[Any, str]) -> DetectedBox | str:
    """The box of an entry, or what is wrong with it."""
    if not isinstance(entry, dict):
        return "not an object"
    image_id, sides, score = entry.get("image_id"), entry.get("bbox"), entry.get("score", 1.0)
    if image_id is not None and not _is_id(image_id):
        return "image_id is neither a number nor a text"
    name, category = entry.get("file_name", names.get(image_id)), entry.get("category_id")
    if image_id is None and not isinstance(name, str):
        return "neither image_id nor file_name"
    if not isinstance(sides, list) or len(sides) != 4 or not all(map(_is_finite, sides)):
        return "bbox is not four finite numbers x, y, width, height"
    if not _is_finite(score) or not 0 <= score <= 1:
        return "score is not between 0 and 1"
    x, y, width, height = map(float, sides)
    if width <= 0 or height <= 0:
        return "width or height of bbox is not positive"
    return DetectedBox(
        str(name) if image_id is None else image_id,
        name if isinstance(name, str) and name else None,
        (x, y, x + width, y + height),
        float(score),
        category if type(category) is int else None,
    )


def _check_pixels(boxes: Sequence[DetectedBox], path: Path) -> None:
    """Refuse boxes that are shares of the picture: in pixels, not all of them end within the first pixel."""
    if boxes and all(low >= -1e-3 and high <= 1 + 1e-3 for box in boxes for low, high in (box.box[::2], box.box[1::2])):
        raise DataError(
            "boxes are shares of the picture, not pixels",
            where=path,
            found=f"all {len(boxes)} between 0 and 1, such as {list(boxes[0].box)}",
            allowed="x, y, width, height in pixels",
            hint="multiply x and width by the width of the picture, y and height by its height",
        )


def _is_id(value: Any) -> bool:
    return type(value) in (int, str) or (type(value) is float and math.isfinite(value))


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _listed(numbers: Sequence[int], entries: Sequence[Any]) -> str:
    first = entries[numbers[0]]
    shown = "" if not isinstance(first, dict) or "bbox" not in first else f": {str(first['bbox'])[:60]}"
    return f"entry {numbers[0]}{shown}" + (f", and {len(numbers) - 1} more" if len(numbers) > 1 else "")
