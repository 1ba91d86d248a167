"""Small data sets made on the spot, small enough to reason about by hand."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdtui.profile import CocoData, FolderData

WIDTH, HEIGHT = 60, 40


def rectangle(x: int, y: int, w: int, h: int) -> list[list[float]]:
    """A polygon that owns exactly the pixels [x, x+w) x [y, y+h)."""
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def counts(x: int, y: int, w: int, h: int, width: int = WIDTH, height: int = HEIGHT) -> list[int]:
    """Uncompressed run lengths of the same rectangle: column by column, zeros first."""
    mask = np.zeros((height, width), dtype=bool)
    mask[y : y + h, x : x + w] = True
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int))).tolist()
    ends = [0, *edges, flat.size]
    return [b - a for a, b in itertools.pairwise(ends)]


def annotation(number: int, box: tuple[int, int, int, int], **changes: Any) -> dict[str, Any]:
    entry = {
        "id": number,
        "image_id": 7,
        "category_id": 1,
        "bbox": list(box),
        "segmentation": rectangle(*box),
        "iscrowd": 0,
    }
    return entry | changes


def instances(*annotations: dict[str, Any], width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "seven.png", "width": width, "height": height}],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
    }


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Every pixel its own colour: red counts columns, green counts rows."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 3, y * 3, np.full_like(x, 77)], axis=-1).astype(np.uint8))


def coco(folder: Path, content: dict[str, Any], image: Image.Image | None = None, **keys: Any) -> CocoData:
    """Write annotations, and ``seven.png`` where there is none, and point a profile at them."""
    images = folder / "images"
    images.mkdir(exist_ok=True, parents=True)
    if image is not None or not (images / "seven.png").exists():
        (image or picture()).save(images / "seven.png")
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    split = {"images": str(images), "annotations": str(path)}
    plain = {"train": split, "val": split, "padding": 0.0, "minimum_size": 1, "augmentation": "none"}
    return CocoData.model_validate({"kind": "coco", "height": 16, "width": 16} | plain | keys)


CLASSES = "0 sky\n1 road\n\n2 traffic sign\nignore_index 11 void\n"


def label_folder(root: Path, *, count: int = 3, classes: str = CLASSES, **keys: Any) -> FolderData:
    """``train`` and ``val`` of ``count`` images each, whose masks hold every class and the ignored value."""
    root.mkdir(exist_ok=True, parents=True)
    (root / "classes.txt").write_text(classes)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(exist_ok=True, parents=True)
        for number in range(count):
            picture().save(root / "images" / split / f"{number}.png")
            Image.fromarray(labels()).save(root / "masks" / split / f"{number}.png")
    fields = {"kind": "folder", "root": str(root), "height": HEIGHT, "width": WIDTH, "augmentation": "none"} | keys
    return FolderData.model_validate(fields)


def labels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    values[10:20], values[20:30], values[30:] = 1, 2, 11
    return values


def tiff_file(
    values: np.ndarray[Any, np.dtype[Any]], *, planar: bool = False, deflated: bool = False, rows: int = 5
) -> bytes:
    """A TIFF file of values [h,w,C] of any type, in strips of a few rows; with deflate also with predictor 2."""
    height, width, channels = values.shape
    predicted = deflated and values.dtype.kind == "u"
    planes = [values[..., [channel]] for channel in range(channels)] if planar else [values]
    strips = []
    for plane in planes:
        if predicted:
            plane = np.diff(plane, axis=1, prepend=plane.dtype.type(0))
        for top in range(0, height, rows):
            data = np.ascontiguousarray(plane[top : top + rows]).tobytes()
            strips.append(zlib.compress(data) if deflated else data)
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits = values.dtype.itemsize * 8
    sizes = [len(strip) for strip in strips]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits] * channels), 259: ("H", [8 if deflated else 1]),
        262: ("H", [2 if channels in (3, 4) else 1]), 273: ("I", [0] * len(strips)), 277: ("H", [channels]),
        278: ("I", [rows]), 279: ("I", sizes), 284: ("H", [2 if planar else 1]), 317: ("H", [2 if predicted else 1]),
        339: ("H", [kind] * channels),
    }  # fmt: skip
    place = 8 + 2 + 12 * len(tags) + 4
    place += sum(len(numbers) * struct.calcsize(code) for code, numbers in tags.values())
    tags[273] = ("I", list(itertools.accumulate([place + 4 * len(tags), *sizes[:-1]])))
    entries, extra = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for number, (code, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{code}", *numbers)
        field = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", start + len(extra))
        extra += packed if len(packed) > 4 else b""
        entries += struct.pack("<HHI", number, 3 if code == "H" else 4, len(numbers)) + field
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + extra
    return head.ljust(tags[273][1][0], b"\0") + b"".join(strips)
