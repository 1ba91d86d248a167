"""Boxes of a detector in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdtui.engine.data.box_file import read_boxes
from kdtui.errors import DataError


def written(folder: Path, content: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entry(*bbox: float, **keys: Any) -> dict[str, Any]:
    return {"image_id": 7, "bbox": list(bbox), "score": 0.5, **keys}


def test_results_and_annotations_have_the_same_boxes(tmp_path: Path) -> None:
    (box,) = read_boxes(written(tmp_path, [entry(1, 2, 3, 4, category_id=18)]))
    assert (box.image_id, box.box, box.score, box.category) == (7, (1, 2, 4, 6), 0.5, 18)
    images = [{"id": 7, "file_name": "deep/a.jpg"}]
    (other,) = read_boxes(written(tmp_path, {"images": images, "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}))
    assert (other.box, other.file_name, other.score) == (box.box, "deep/a.jpg", 1.0)
    assert read_boxes(written(tmp_path, [])) == []


@pytest.mark.parametrize(
    ("keys", "picture", "belongs"),
    [
        ({"image_id": 139}, "000000000139.jpg", True),
        ({"image_id": 139}, "1390.jpg", False),
        ({"image_id": "a"}, "x/a.png", True),
        ({"image_id": "a.png"}, "x/a.png", True),
        ({"image_id": "b"}, "x/a.png", False),
        ({"file_name": "x/a.png"}, "/data/x/a.png", True),
        ({"file_name": "x/a.png"}, "/data/y/a.png", False),
        ({"image_id": 3, "file_name": "a.png"}, "3.png", False),
    ],
)
def test_a_box_belongs_to_a_picture_by_name_or_id(
    keys: dict[str, Any], picture: str, belongs: bool, tmp_path: Path
) -> None:
    (box,) = read_boxes(written(tmp_path, [{"bbox": [1, 2, 30, 40], **keys}]))
    assert box.is_of(Path(picture)) is belongs


@pytest.mark.parametrize(
    ("content", "message", "found"),
    [
        ("", "not whole JSON", None),
        ("3", "another form", "neither a list"),
        ({"images": []}, "another form", "without a list"),
        (
            [entry(0, 0, 5, 5), entry(9, 9, 0, 5), entry(9, 9, 5, -5)],
            "cannot be used",
            "entry 1: [9, 9, 0, 5], and 1 more",
        ),
        ([entry(1, 2, 3)], "cannot be used", "not four finite numbers"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, NaN]}]', "cannot be used", "not four finite numbers"),
        ([{"bbox": [1, 2, 3, 4]}], "cannot be used", "neither image_id nor file_name"),
        ([entry(1, 2, 3, 4, image_id=[1])], "cannot be used", "neither a number nor a text"),
        ([entry(1, 2, 3, 4, score=80)], "cannot be used", "score is not between 0 and 1"),
        (["box"], "cannot be used", "not an object"),
        ([entry(0.1, 0.2, 0.3, 0.8), entry(0, 0, 1, 1)], "shares of the picture", "all 2 between 0 and 1"),
    ],
)
def test_what_cannot_be_used_is_one_message(content: Any, message: str, found: str | None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read_boxes(written(tmp_path, content))
    assert found is None or found in str(refused.value.found)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_boxes(tmp_path / "none.json")
