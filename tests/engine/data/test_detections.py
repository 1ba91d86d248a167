"""Evaluated pictures with the boxes of a detector: ``data.boxes``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdtui.engine.data import build_dataset
from kdtui.engine.data.instances import PictureSamples
from kdtui.errors import DataError
from kdtui.profile import CocoData
from tests.engine.data.makers import annotation, coco, counts, instances, picture

PERSON, SECOND, SMALL, CROWD = (10, 5, 20, 30), (32, 5, 16, 30), (2, 2, 4, 4), (50, 0, 10, 40)


def box(number: int, x: float, y: float, w: float, h: float, **changes: Any) -> dict[str, Any]:
    return {"image_id": number, "category_id": 1, "bbox": [x, y, w, h], "score": 0.9} | changes


def data_with(folder: Path, boxes: Any, **keys: Any) -> CocoData:
    """Two pictures: one of two people, of whom one is small, and a crowd; and one without people."""
    crowd = annotation(4, CROWD, segmentation={"counts": counts(*CROWD), "size": [40, 60]}, iscrowd=1)
    content = instances(annotation(1, PERSON), annotation(2, SECOND), annotation(3, SMALL), crowd)
    content["images"].append({"id": 8, "file_name": "eight.png", "width": 60, "height": 40})
    file = folder / "boxes.json"
    file.write_text(json.dumps(boxes))
    (folder / "images").mkdir(exist_ok=True)
    picture().save(folder / "images" / "eight.png")
    sizes: dict[str, Any] = {"sample": "image", "height": 40, "width": 60, "mask_size": (20, 12), "min_box": 6}
    sizes |= {"minimum_size": 10, "padding": 0.25, "roi_padding": 0.0, "boxes": str(file)}
    return coco(folder, content, **sizes | keys)


def test_boxes_are_matched_to_the_instances_by_their_scores(tmp_path: Path) -> None:
    boxes = [
        box(7, 10, 5, 20, 28, score=0.7),  # a lower score than the next: it stays unmatched
        box(7, 11, 6, 20, 30, score=0.8),
        box(7, 2, 2, 6, 6, score=0.6),  # neither this one
        box(7, 51, 1, 8, 30),  # in a crowd
        box(7, 50, 30, 10, 200, category_id=2),
        box(8, 5, 5, 30, 30, score=0.3),
        box(99, 5, 5, 30, 30),
    ]
    data = data_with(tmp_path, boxes)
    dataset = build_dataset(data, "val")
    assert isinstance(dataset, PictureSamples)
    first, second = dataset[0, 0], dataset[1, 0]
    rois, scores = first.extras["rois"][:, 1:].tolist(), first.extras["scores"].tolist()
    assert rois == [pytest.approx([11, 6, 31, 36]), pytest.approx([10, 5, 30, 33]), pytest.approx([2, 2, 8, 8])]
    assert scores == pytest.approx([0.8, 0.7, 0.6])
    assert [bool((mask == 1).any()) for mask in first.mask] == [True, False, False]
    assert (first.mask[1] == 2).float().mean() > 0.9  # the person of the first box
    assert first.extras["missed"].tolist() == [1]  # the second person
    assert second.extras["missed"].tolist() == [0] and second.extras["scores"].tolist() == pytest.approx([0.3])
    assert not (second.mask == 1).any()
    assert [dataset.label_maps(index) for index in range(2)] == [3, 1]
    batch = dataset.collate([first, second])
    assert batch.extras["missed"].tolist() == [1, 0] and len(batch.extras["scores"]) == len(batch.masks) == 4
    expected = "1 instance of 2 matched by boxes of a detector at IoU 0.5, 1 missed; 3 boxes without an instance"
    assert dataset.remarks() == [f"{expected}; 1 boxes of other pictures"]
    assert expected in dataset.describe()


def test_a_box_of_an_instance_that_does_not_count_is_left_out(tmp_path: Path) -> None:
    boxes = [box(7, 2, 2, 7, 4.5), box(7, 10, 5, 20, 30)]
    dataset = build_dataset(data_with(tmp_path, boxes, min_box=4, height=36, width=54), "val")
    assert len(dataset[0, 0].mask) == 1  # the person of 3.6 pixels has none


def test_training_has_the_boxes_of_the_annotations(tmp_path: Path) -> None:
    data = data_with(tmp_path, [box(7, 10, 5, 20, 30)])
    sample = build_dataset(data, "train")[0, 0]
    assert len(sample.mask) == 2 and "scores" not in sample.extras
    assert list(data.files("train")) != list(data.files("val")) and "data.boxes" in {
        place.key for place in data.places(["val"])
    }
    truth = CocoData.model_validate(data.model_dump() | {"boxes": "truth"})
    assert truth.boxes is None and "boxes" not in truth.model_dump()
    assert truth.fingerprint("val") != data.fingerprint("val")


@pytest.mark.parametrize(
    ("boxes", "what", "found"),
    [
        ([box(99, 5, 5, 30, 30)], "no box is of a picture of this split", "image_id 99"),
        ([box(7, 5, 5, 30, 30, category_id=5)], "the file of boxes has none of the category", "category_id 5"),
        ([], "the file of boxes has none of the category", "no box"),
        (
            [box(7, 30, 20, 58, 39), box(7, 10, 10, 20, 20), box(7, 20, 30, 50, 39)],
            "most boxes reach beyond their pictures",
            "2 of 3, such as [30, 20, 58, 39] in seven.png (60x40)",
        ),
        ([box(7, 30, 20, -10, 5)], "boxes cannot be used", None),
        ([box(7, 0.1, 0.2, 0.5, 0.5)], "boxes are shares of the picture, not pixels", None),
    ],
)
def test_boxes_of_another_data_set_or_form_are_one_message(
    tmp_path: Path, boxes: list[dict[str, Any]], what: str, found: str | None
) -> None:
    with pytest.raises(DataError, match=what) as refused:
        build_dataset(data_with(tmp_path, boxes), "val")
    assert found is None or refused.value.found == found
