"""Instances in boxes of whole pictures, with a programmed network and with a trained stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from kdtui.engine.data.box_file import DetectedBox
from kdtui.engine.data.coco import expand
from kdtui.engine.data.pixel_format import PixelFormat
from kdtui.engine.data.source import Size
from kdtui.engine.export import export
from kdtui.engine.export.source import of_run
from kdtui.engine.predict import PredictRequest, predict
from kdtui.engine.roi.align import roi_align
from kdtui.engine.roi.paste import target_mask
from kdtui.engine.roi.predict import segmented
from kdtui.errors import DataError, UsageError
from kdtui.export_options import ExportOptions
from kdtui.profile import Model, SyntheticData
from kdtui.store.run import Run
from tests.engine.runs import fit, make_run

GREY = PixelFormat((0.5, 0.5, 0.5), (1.0, 1.0, 1.0), False)


def bright(images: Tensor, rois: Tensor) -> Tensor:
    """Logits of a network whose target is what is bright in the image."""
    target = roi_align(images[:, :1], rois, (160, 120))
    return torch.cat([-target, target, torch.full_like(target, -9.0)], dim=1)


def discs(width: int, height: int) -> tuple[np.ndarray, list[DetectedBox], list[np.ndarray]]:
    """A dark picture with bright ellipses, a box around each, and their masks."""
    boxes = [(20.0, 10.0, 80.0, 130.0), (100.0, 40.0, 190.0, 100.0), (150.0, 90.0, 240.0, 170.0)]
    masks = []
    for box in boxes:
        one = Image.new("L", (width, height))
        ImageDraw.Draw(one).ellipse(box, fill=255)
        masks.append(np.asarray(one) > 0)
    picture = np.repeat(255 * np.any(masks, axis=0)[..., None], 3, axis=2).astype(np.uint8)
    return picture, [DetectedBox(1, None, box) for box in boxes], masks


@pytest.mark.parametrize("size", [Size(192, 256), Size(160, 160), Size(96, 96)])
def test_masks_are_at_their_place_in_the_picture(size: Size) -> None:
    """Whatever the scale of the network's input, and with padding at its right or bottom."""
    picture, boxes, masks = discs(230, 180)
    data = SyntheticData(sample="image", height=size.height, width=size.width)
    found = segmented(picture, boxes, bright, data=data, size=Size(size.height, size.width + 32), pixels=GREY)
    for logits, region, true in zip(found.logits, found.regions.tolist(), masks, strict=True):
        mask = target_mask(logits, region, Size(180, 230)).numpy()
        inside = np.zeros_like(mask)
        left, top, right, bottom = (round(edge) for edge in region)
        inside[max(0, top) : bottom, max(0, left) : right] = True
        true = true if true is not masks[1] else np.any(masks, axis=0) & inside  # it sees a part of its neighbour
        iou = (mask & true).sum() / (mask | true).sum()
        assert iou > (0.97 if true is not masks[2] else 0.8)


def test_a_box_outside_the_picture_has_no_mask() -> None:
    picture, _, _ = discs(230, 180)
    data = SyntheticData(sample="image", height=96, width=96)
    box = DetectedBox(1, None, (400.0, 10.0, 500.0, 90.0))
    found = segmented(picture, [box], bright, data=data, size=Size(96, 96), pixels=GREY)
    assert not target_mask(found.logits[0], found.regions[0].tolist(), Size(180, 230)).any()


@pytest.fixture(scope="module", autouse=True)
def stand_in() -> Iterator[None]:
    """The tables of the default kinds of network and data name those of the stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "implementation", "tests.engine.instances:InstancesKind")
        patch.setattr(SyntheticData, "implementation", "tests.engine.instances:BoxesOfPeople")
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    changes: dict[str, Any] = {"training__epochs": 1, "training__precision": "fp32"}
    run = make_run(tmp_path_factory.mktemp("instances"), **changes)
    assert fit(run) == "finished"
    return run


@pytest.fixture
def request_of(trained: Run, tmp_path: Path) -> PredictRequest:
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    for name, pixels in zip(("12.png", "b.png"), noise, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    boxes = [
        {"image_id": 12, "bbox": [1, 2, 20, 30], "score": 0.5},
        {"image_id": 99, "bbox": [1, 2, 20, 30]},
        {"image_id": 12, "bbox": [4, 2, 45, 36], "category_id": 3},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    return PredictRequest(
        [(str(tmp_path / name), str(tmp_path / "out" / name.split(".")[0])) for name in ("12.png", "b.png")],
        str(trained.best),
        run=str(trained.path),
        boxes=str(tmp_path / "boxes.json"),
        results=str(tmp_path / "out" / "instances.json"),
        overlay=True,
    )


def decoded(entry: dict[str, Any]) -> np.ndarray:
    """The mask bool [h,w] of an entry of the results."""
    height, width = entry["segmentation"]["size"]
    runs = expand(entry["segmentation"]["counts"])
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def changed(request: PredictRequest, **changes: Any) -> PredictRequest:
    return PredictRequest(**{**vars(request), **changes})


def answer_of(request: PredictRequest) -> dict[str, Any]:
    return predict(request, lambda *_, **__: None)


def test_run_lengths_and_pictures_of_all_instances_are_written(request_of: PredictRequest, tmp_path: Path) -> None:
    answer = answer_of(request_of)
    counts = (answer["pictures"], answer["instances"], answer["without_boxes"], answer["unused_boxes"])
    assert counts == (2, 2, 1, 1)
    first, second = json.loads((tmp_path / "out/instances.json").read_text())
    assert (first["image_id"], first["bbox"], first["category_id"]) == (12, [1, 2, 20, 30], 1)
    assert (second["bbox"], second["category_id"]) == ([4, 2, 45, 36], 3)
    assert 0 <= first["score"] <= 0.5
    masks = [decoded(one) for one in (first, second)]
    with Image.open(tmp_path / "out/12.png") as image:
        numbers = np.asarray(image)
        assert (image.mode, numbers.shape) == ("P", (40, 50))
    assert ((numbers == 1) == masks[0]).all()  # the smaller box is above the other one
    assert ((numbers == 2) == (masks[1] & ~masks[0])).all()
    with Image.open(tmp_path / "out/b.png") as image:
        assert not np.asarray(image).any()
    assert (tmp_path / "out/12-overlay.png").exists()


def test_an_export_gives_the_instances_of_its_run(request_of: PredictRequest, trained: Run, tmp_path: Path) -> None:
    answer_of(request_of)
    expected = json.loads((tmp_path / "out/instances.json").read_text())
    for output in ("logits", "argmax"):
        file = tmp_path / f"{output}.onnx"
        export(of_run(trained, trained.best), file, ExportOptions(opset=17, output=output, dynamic="batch", limit=1))
        answer = answer_of(changed(request_of, network=str(file), run=None, format="colour"))
        assert answer["instances"] == 2
        for one, other in zip(json.loads((tmp_path / "out/instances.json").read_text()), expected, strict=True):
            assert one["bbox"] == other["bbox"]
            assert (decoded(one) == decoded(other)).mean() > (0.98 if output == "logits" else 0.9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": None}, "and needs them"),
        ({"mode": "slide"}, "are resized for the network"),
        ({"overlap": 0.5}, "are resized for the network"),
        ({"format": "probabilities"}, "no probabilities of whole pictures"),
    ],
)
def test_what_boxes_exclude(request_of: PredictRequest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        answer_of(changed(request_of, **changes))


def test_boxes_of_other_pictures_only(request_of: PredictRequest, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('[{"image_id": 99, "bbox": [1, 2, 20, 30]}]')
    with pytest.raises(UsageError, match="no box belongs to any of the pictures") as refused:
        answer_of(request_of)
    assert refused.value.found == "image_id 99; pictures such as 12.png"
    (tmp_path / "boxes.json").write_text("[")
    with pytest.raises(DataError, match="not whole JSON"):
        answer_of(request_of)
