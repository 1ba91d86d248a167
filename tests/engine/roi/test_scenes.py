"""Metrics, pictures and predictions on synthetic pictures of several people."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX, build_dataset
from kdtui.engine.data.box_file import DetectedBox
from kdtui.engine.data.instances import PictureSamples
from kdtui.engine.data.source import Size
from kdtui.engine.models import Outputs
from kdtui.engine.roi.metrics import instance_metrics
from kdtui.engine.roi.paste import instance_picture, target_mask
from kdtui.engine.roi.predict import segmented
from kdtui.profile import SyntheticData

DATA = SyntheticData(sample="image", height=96, width=128, val_samples=3, mask_size=(48, 36), min_box=1)


@pytest.fixture(scope="module")
def scenes() -> PictureSamples:
    dataset = build_dataset(DATA, "val", stride=32)
    assert isinstance(dataset, PictureSamples)
    return dataset


def test_perfect_predictions_have_perfect_scores(scenes: PictureSamples) -> None:
    batch = scenes.collate([scenes[index, 0] for index in range(len(scenes))])
    logits = 20.0 * torch.nn.functional.one_hot(batch.masks % 3, 3).permute(0, 3, 1, 2).float()  # 255 is ignored
    values: dict[str, Tensor] = {}
    for metric in instance_metrics():
        metric.update(Outputs(logits), batch)
        values |= metric.compute()
    assert {name: float(value) for name, value in values.items()} == pytest.approx(dict.fromkeys(values, 1.0))
    assert len(values) == 7


def test_pasted_label_maps_show_the_people_of_the_picture(scenes: PictureSamples) -> None:
    batch = scenes.collate([scenes[index, 0] for index in range(len(scenes))])
    numbers = instance_picture(batch.masks, batch)
    people, true = (numbers > 0) & (numbers != IGNORE_INDEX), batch.extras["foreground"] == 1
    assert ((people & true).sum() / (people | true).sum()) > 0.9
    assert [int(one.unique().numel()) for one in numbers] == [scenes.label_maps(index) + 1 for index in range(3)]


def test_predictions_show_the_network_what_evaluations_show_it(scenes: PictureSamples) -> None:
    sample, marked = scenes[1, 0], scenes.marked(1)
    seen: list[tuple[Tensor, Tensor]] = []

    def network(images: Tensor, rois: Tensor) -> Tensor:
        seen.append((images, rois))
        classes = sample.mask % 3
        return torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float()

    boxes = [DetectedBox(1, None, (left, top, right, bottom)) for left, top, right, bottom in marked.boxes.tolist()]
    picture = scenes.read(1).image
    found = segmented(picture, boxes, network, data=DATA, size=Size(96, 128), pixels=scenes.pixels)
    ((images, rois),) = seen
    assert torch.allclose(images[0], sample.image, atol=1e-5)
    assert rois == pytest.approx(sample.extras["rois"], abs=1e-3)
    for place, layer in enumerate(scenes.layers(1)[number] for number in marked.targets.tolist()):
        mask = target_mask(found.logits[place], found.regions[place].tolist(), Size(*picture.shape[:2])).numpy()
        true = np.zeros_like(mask)
        left, top, right, bottom = layer.box
        true[top:bottom, left:right] = layer.mask
        assert (mask & true).sum() / (mask | true).sum() > 0.85
