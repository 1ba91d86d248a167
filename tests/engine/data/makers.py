"""Small data sets made on the spot, small enough to reason about by hand."""

from __future__ import annotations

import itertools
import json
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
