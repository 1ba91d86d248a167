"""Entries of a COCO file: values that people and tools write in several ways, and what is wrong with them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kdtui.engine.data.pictures import brief
from kdtui.engine.data.protocol import named
from kdtui.errors import DataError
from kdtui.store.files import read_file

MOST_BYTES = 2**30
"""Largest annotation file: parsed JSON takes several times its size in memory."""

_LARGEST_ID = 2**63
_LARGEST_COORDINATE = 1e9
_WHOLE_SIDE = 1.001  # of a picture in normalised coordinates, with rounding
LONGEST_TEXT = 1000
_WHOLE = re.compile(r"\s*[+-]?\d{1,18}(\.0*)?\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(\d{1,18}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?\s*", re.ASCII)
_TYPES: Mapping[type, str] = {
    str: "a text", int: "an integer", float: "a number", bool: "true or false", list: "a list", dict: "an object",
    type(None): "null",
}  # fmt: skip
NO_IMAGE = "an image_id that no image has"
ImageId = int | float | str


class Unusable(ValueError):
    """An unusable entry: ``kind`` is shared by all entries with this flaw, ``detail`` is specific to one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind} {detail}".strip())
        self.kind, self.detail = kind, detail


class Flaws:
    """Flaws of all entries of a file, so that one message names and counts them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[tuple[str, str], list[str]] = {}

    def add(self, group: str, entry: Any, position: int, flaw: Unusable) -> None:
        """A flaw of an entry of ``images`` or ``annotations``."""
        number = entry.get("id") if isinstance(entry, dict) else None
        name = f"{group[:-1]} {number}" if type(number) in (int, str) else f"{group}[{position}]"
        self._entries.setdefault((group, flaw.kind), []).append(name[:60] + (f": {flaw.detail}" if flaw.detail else ""))

    def of(self, group: str) -> bool:
        """Whether there was one among the entries of ``group``."""
        return any(flawed == group for flawed, _ in self._entries)

    def raise_if_any(self, totals: Mapping[str, int]) -> None:
        """Refuse the file when there was one."""
        if not self._entries:
            return
        raise DataError(
            "entries of the annotations cannot be used",
            where=self._path,
            found="; ".join(
                f"{len(entries)} of {totals[group]} {group}: {kind} ({named(entries, shown=3)})"
                for (group, kind), entries in self._entries.items()
            ),
        )


def type_name(value: Any) -> str:
    """The type of a JSON value, in words."""
    return _TYPES.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A value in one short line; Python refuses to format integers with thousands of digits."""
    if isinstance(value, int) and abs(value) >= _LARGEST_ID:
        return f"a number of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, str | int | float) else type_name(value)
    return text if len(text) <= 40 else text[:39] + "…"


def value_of(entry: Any, name: str) -> Any:
    """A value of an entry, which must have it."""
    if not isinstance(entry, dict):
        raise Unusable(f"{type_name(entry)} instead of an object")
    if name not in entry:
        raise Unusable(f"no '{name}'")
    return entry[name]


def number_of(value: Any, name: str) -> float:
    """A number, also if written as a string."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float):
        raise Unusable(f"'{name}' is {type_name(value)} where a number belongs", shown(value))
    if abs(value) >= _LARGEST_ID or not math.isfinite(value):
        raise Unusable(f"'{name}' is out of range", shown(value))
    return float(value)


def whole_number(value: Any, name: str) -> int:
    """As :func:`number_of`, without what follows the point."""
    return value if type(value) is int and abs(value) < _LARGEST_ID else int(number_of(value, name))


def id_of(value: Any, name: str) -> ImageId:
    """An id as it is written."""
    if type(value) not in (int, float, str):
        raise Unusable(f"'{name}' is {type_name(value)} where a number or a text belongs")
    if len(value) > LONGEST_TEXT if isinstance(value, str) else not abs(value) < _LARGEST_ID:
        raise Unusable(f"'{name}' is out of range", shown(value))
    id: ImageId = value
    return id


def plain_id(value: ImageId) -> ImageId:
    """An id in a canonical form: "7", 7.0 and 7 are equal."""
    if isinstance(value, str):
        return int(value.strip().partition(".")[0]) if _WHOLE.fullmatch(value) else value
    return int(value) if value == int(value) else value


def read_json(path: Path, what: str, hint: str) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.
        what: What it is, plural, for messages.
        hint: How to name another file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        raw = read_file(path, most=MOST_BYTES)
        return json.loads(raw)
    except FileNotFoundError:
        raise DataError(f"the {what} do not exist", where=path, hint=hint) from None
    except OSError as error:
        raise DataError(f"the {what} cannot be read", where=path, found=brief(error)) from None
    except RecursionError:
        raise DataError(
            f"the {what} are nested too deeply", where=path, allowed="objects and lists, as COCO has them"
        ) from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise DataError(f"the {what} hold a number of thousands of digits", where=path) from None
        pointer = raw.startswith(b"version https://git-lfs")
        raise DataError(
            f"the {what} are not whole JSON",
            where=path,
            found="a Git LFS pointer" if pointer else brief(error),
            hint="`git lfs pull` fetches the file" if pointer else "was the download cut off?",
        ) from None


def read_annotations(path: Path) -> dict[str, Any]:
    """The lists ``images``, ``annotations`` and ``categories`` of a COCO file.

    Raises:
        DataError: It cannot be read, or lacks one.
    """
    content = read_json(path, "annotations", "--set data.train.annotations=FILE, or likewise for val and test")
    if not isinstance(content, dict):
        raise DataError(
            "the annotations are no COCO instance file", where=path, found=type_name(content), allowed="an object"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(
                f"the annotations have no list '{key}'",
                where=path,
                found=f"keys: {named(list(content), shown=12) or 'none'}",
                allowed="images, annotations, categories",
            )
    return content


def image_finder(ids: Iterable[ImageId]) -> Callable[[Any], ImageId]:
    """Map from an ``image_id`` to the id of the image: as written, else as an equal number written differently."""
    plain: dict[ImageId, list[ImageId]] = {}
    # 7.0 matches the key 7 and must be replaced by it, as the id decides the held-out split.
    own = {id: id for id in ids}
    for id in own:
        plain.setdefault(plain_id(id), []).append(id)

    def find(value: Any) -> ImageId:
        written = id_of(value, "image_id")
        same = [own[written]] if written in own else plain.get(plain_id(written), [])
        if len(same) != 1:
            raise Unusable(NO_IMAGE, f"image_id {shown(value)}")
        return same[0]

    return find


def box_of(entry: Any) -> tuple[float, float, float, float]:
    """The box x, y, width, height in pixels of an entry; it may have no area."""
    bbox = value_of(entry, "bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise Unusable("'bbox' is not the four numbers x, y, width, height")
    x, y, width, height = (number_of(number, "bbox") for number in bbox)
    if max(map(abs, (x, y, width, height))) > _LARGEST_COORDINATE or width < 0 or height < 0:
        raise Unusable("'bbox' is not x, y, width, height in pixels", shown(str([x, y, width, height])))
    return x, y, width, height


def check_unit(boxes: Iterable[tuple[float, float, float, float]], where: Path) -> None:
    """Refuse boxes x, y, width, height that are shares of their pictures.

    Raises:
        DataError: All of them are within 0 and 1.
    """
    boxes = [box for box in boxes if box[2] > 0 and box[3] > 0]
    if boxes and all(min(x, y) >= 0 and max(x + width, y + height) <= _WHOLE_SIDE for x, y, width, height in boxes):
        raise DataError(
            "the boxes are normalised",
            where=where,
            found=f"'bbox' of {'all' if len(boxes) > 1 else 'the only one of'} {len(boxes)} within 0 and 1",
            allowed="x, y, width, height in pixels of the picture",
            hint="multiply x and width by the width of the picture, y and height by its height",
        )
