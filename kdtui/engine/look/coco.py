"""Guess the splits of COCO instance files: annotations, images and the category of the crops."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from kdtui.engine.look.guess import Guess
from kdtui.engine.look.tree import files_below, with_split
from kdtui.profile.region_keys import HIERARCHICAL_CLASSES
from kdtui.store.files import read_file

_MOST_BYTES = 2**30
_MOST_FILES = 20
_PADDED = 1.5
"""Side of a crop, relative to its box, with the default of ``data.padding``."""


def coco_guess(root: Path) -> list[Guess]:
    """The guess for a folder with COCO instance files; empty without one."""
    splits: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    categories: Counter[str] = Counter()
    size = (0, 0)
    for file in _json_files(root):
        content = _instances(file)
        if content is None:
            continue
        names = {entry.get("id"): str(entry.get("name")) for entry in content["categories"]}
        used = Counter(
            names[entry["category_id"]] for entry in content["annotations"] if entry.get("category_id") in names
        )
        folder = _folder_of(root, content["images"])
        if folder is None or not used:
            continue
        replaced = with_split(file.stem) or with_split(file.stem.rpartition("_")[2])
        split = "train" if replaced is None else replaced[1]
        if split in splits:
            continue
        splits[split] = {"images": str(folder), "annotations": str(file)}
        counts[split] = used.total()
        categories += used
        size = size if any(size) else _crop_size(content["annotations"])
    if "train" not in splits:
        return []
    category = "person" if "person" in categories else categories.most_common(1)[0][0]
    ground = {
        "layout": f"COCO instances: {', '.join(Path(split['annotations']).name for split in splits.values())}",
        "labels": f"crops around each '{category}' (sample = \"image\": whole pictures with boxes); other categories: "
        + (", ".join(name for name in list(categories)[:5] if name != category) or "none"),
    }
    keys: dict[str, Any] = {"kind": "coco", "category": category, **splits}
    return [Guess(keys, counts, ground, "", HIERARCHICAL_CLASSES, True, size)]


def _crop_size(annotations: list[dict[str, Any]]) -> tuple[int, int]:
    """Median width and height of the boxes with the padding of a crop."""
    boxes = [entry["bbox"] for entry in annotations if isinstance(entry.get("bbox"), list) and len(entry["bbox"]) == 4]
    sides = [[box[at] for box in boxes if isinstance(box[at], int | float)] for at in (2, 3)]
    if not all(sides):
        return 0, 0
    width, height = (round(statistics.median(side) * _PADDED) for side in sides)
    return width, height


def _json_files(root: Path) -> list[Path]:
    return [root.joinpath(*parts, name) for parts, name in files_below(root, (".json",))][:_MOST_FILES]


def _instances(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_file(file, most=_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    parts = [content.get(key) for key in ("images", "annotations", "categories")]
    usable = all(isinstance(part, list) and part and all(isinstance(entry, dict) for entry in part) for part in parts)
    return content if usable and "file_name" in content["images"][0] else None


def _folder_of(root: Path, images: list[dict[str, Any]]) -> Path | None:
    """The folder below the root that has the first images."""
    name = str(images[0].get("file_name", ""))
    places = {
        root,
        *(root.joinpath(*parts[:count]) for parts, _ in files_below(root) for count in range(1, len(parts) + 1)),
    }
    fitting = [place for place in sorted(places) if name and (place / name).is_file()]
    return max(
        fitting,
        key=lambda place: sum((place / str(entry.get("file_name"))).is_file() for entry in images[:20]),
        default=None,
    )
