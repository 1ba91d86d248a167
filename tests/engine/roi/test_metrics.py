"""Metrics of instances, with values computed by hand and with programmed predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from kdtui.engine.data import IGNORE_INDEX, Batch
from kdtui.engine.models import Outputs
from kdtui.engine.roi.metrics import BoundaryF1, MaskAP, Separation, TargetIoU, instance_metrics
from tests.engine import rank_processes

SIDE = 16


def logits_of(classes: Tensor, confidence: float = 9.0) -> Tensor:
    """Logits [N,3,h,w] of classes [N,h,w]."""
    return confidence * torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float()


def computed(
    metric: Metric, predicted: Tensor, labels: Tensor, boxes: Tensor | None = None, **extras: Tensor
) -> dict[str, float]:
    """A metric of predicted classes and labels [N,h,w], each in an image of its own unless boxes are given."""
    if boxes is None:
        boxes = torch.tensor([[number, 0.0, 0.0, SIDE, SIDE] for number in range(len(labels))]).reshape(-1, 5)
    images = torch.zeros(max(1, int(boxes[:, 0].max()) + 1 if len(boxes) else 1), 3, SIDE, SIDE)
    metric.update(Outputs(logits_of(predicted)), Batch(images, labels, {"rois": boxes, **extras}))
    return {name: float(value) for name, value in metric.compute().items()}


def maps(*rectangles: tuple[int, int, int, int], other: int = 0) -> Tensor:
    """A label map for each rectangle (top, bottom, left, right) of the target, ``other`` elsewhere."""
    labels = torch.full((len(rectangles), SIDE, SIDE), other)
    for label_map, (top, bottom, left, right) in zip(labels, rectangles, strict=True):
        label_map[top:bottom, left:right] = 1
    return labels


def test_the_target_iou_is_a_mean_over_instances() -> None:
    labels = maps((0, 4, 0, 10), (0, 10, 0, 10), (0, 16, 0, 10))
    predicted = maps((0, 4, 0, 8), (0, 5, 0, 10), (0, 4, 0, 10))  # IoU .8, .5 and .25
    values = computed(TargetIoU(), predicted, labels)
    assert values["target_iou"] == pytest.approx((0.8 + 0.5 + 0.25) / 3, abs=1e-11)
    assert (values["detected_50"], values["detected_70"]) == pytest.approx((2 / 3, 1 / 3))


def test_seven_tenths_are_detected_at_seven_tenths() -> None:
    assert computed(TargetIoU(), maps((0, 7, 0, 10)), maps((0, 10, 0, 10)))["detected_70"] == 1


def test_ignored_cells_and_boxes_without_a_target_do_not_count() -> None:
    labels = maps((0, 4, 0, 4), (0, 0, 0, 0))
    labels[0, 8:] = IGNORE_INDEX
    predicted = maps((0, 4, 0, 4), (0, 9, 0, 9))
    predicted[0, 8:] = 1
    for metric in (TargetIoU(), BoundaryF1()):
        assert next(iter(computed(metric, predicted, labels).values())) == pytest.approx(1)


def test_a_missed_instance_has_no_overlap() -> None:
    labels, boxes = maps((0, 4, 0, 4)), torch.tensor([[1.0, 0, 0, SIDE, SIDE]])
    missed = {"missed": torch.tensor([2, 1])}
    ours, boundary, ap = (
        computed(metric, labels, labels, boxes, **missed) for metric in (TargetIoU(), BoundaryF1(), MaskAP())
    )
    assert ours == {"target_iou": 0.25, "detected_50": 0.25, "detected_70": 0.25}
    assert boundary["boundary_f1"] == 0.25
    assert ap["mask_ap50"] == pytest.approx(0.25, abs=0.01)  # pycocotools has 101 levels of recall


def square_moved(by: int) -> dict[str, float]:
    return computed(BoundaryF1(tolerance=1), maps((4, 9, 4 + by, 9 + by)), maps((4, 9, 4, 9)))


def test_a_boundary_agrees_within_the_tolerance() -> None:
    assert square_moved(0)["boundary_f1"] == square_moved(1)["boundary_f1"] == 1
    # Moved by two: of the sixteen pixels, all but those of one side and none of the corners beside it.
    assert square_moved(2)["boundary_f1"] == pytest.approx(_by_pixels(2), abs=1e-9)
    assert square_moved(7)["boundary_f1"] == 0


def _by_pixels(by: int) -> float:
    """The F1 of two squares of side 5, from the distances of all pairs of boundary pixels."""
    ring = {(row, column) for row in range(5) for column in range(5) if {row, column} & {0, 4}}
    moved = {(row, column + by) for row, column in ring}
    near = [sum(any(math.dist(a, b) <= 1 for b in other) for a in one) / 16 for one, other in ((moved, ring),) * 2]
    precision, recall = near
    return 2 * precision * recall / (precision + recall)


def test_a_boundary_is_within_the_mask_and_not_beside_ignored_cells() -> None:
    whole = maps((0, SIDE, 0, SIDE))
    assert math.isnan(computed(BoundaryF1(), whole, whole)["boundary_f1"])  # the target fills the box
    labels = maps((0, SIDE, 0, 8))
    labels[0, :, 8:] = IGNORE_INDEX
    assert math.isnan(computed(BoundaryF1(), whole, labels)["boundary_f1"])
    assert computed(BoundaryF1(), maps((0, 0, 0, 0)), maps((0, 8, 0, 8)))["boundary_f1"] == 0


def test_separation_is_of_the_second_decision_on_true_foreground() -> None:
    labels = maps((0, 4, 0, SIDE), other=2)  # 64 cells of the target, 192 of others
    labels[0, 15] = 0
    predicted = torch.where(labels == 2, 1, labels)  # others are taken for the target
    assert computed(Separation(), predicted, labels)["separation"] == pytest.approx(64 / 240)
    # The decision counts where the prediction is background.
    for decided, right in ((1, 64), (2, 176)):
        metric = Separation()
        logits = torch.zeros(1, 3, SIDE, SIDE)
        logits[:, 0], logits[:, decided] = 9.0, 1.0
        metric.update(Outputs(logits), Batch(torch.zeros(1, 3, SIDE, SIDE), labels, {}))
        assert float(metric.compute()["separation"]) == pytest.approx(right / 240)


def test_average_precision_of_perfect_half_and_false_masks() -> None:
    labels = maps((2, 10, 2, 10), (0, 12, 0, 10))
    assert computed(MaskAP(), labels, labels) == {"mask_ap": pytest.approx(1), "mask_ap50": pytest.approx(1)}
    # IoU 1 and .75: both at .5; the second is neither at .8, .85, .9 nor .95 (AP .504 by 101 levels of recall).
    partly = maps((2, 10, 2, 10), (0, 9, 0, 10))
    values = computed(MaskAP(), partly, labels)
    assert values["mask_ap50"] == pytest.approx(1)
    assert values["mask_ap"] == pytest.approx((6 + 4 * 51 / 101) / 10)
    # A box without a person is a false positive; it is more certain than the true one.
    empty = maps((0, 0, 0, 0), (0, 12, 0, 10))
    scores = {"scores": torch.tensor([0.9, 0.5])}
    assert computed(MaskAP(), labels, empty, **scores)["mask_ap50"] == pytest.approx(0.5)
    assert computed(MaskAP(), labels, empty, scores=torch.tensor([0.5, 0.9]))["mask_ap50"] == pytest.approx(1)


def test_masks_of_one_image_are_matched_in_its_pixels() -> None:
    """The predictions of two boxes are exchanged: each is the mask of the other person."""
    boxes = torch.tensor([[0.0, 0, 0, SIDE, SIDE], [0, 0, 0, SIDE, SIDE]])
    labels = maps((0, 6, 0, 6), (8, 16, 8, 16))
    assert computed(TargetIoU(), labels.flip(0), labels, boxes)["target_iou"] == 0
    assert computed(MaskAP(), labels.flip(0), labels, boxes)["mask_ap"] == pytest.approx(1)


@pytest.mark.parametrize("metric", instance_metrics(), ids=lambda metric: type(metric).__name__)
def test_no_box_is_no_value(metric: Metric) -> None:
    none = torch.zeros(0, SIDE, SIDE, dtype=torch.long)
    assert all(math.isnan(value) for value in computed(metric, none, none).values())


def random_batch(seed: int, images: int, boxes: int) -> tuple[Outputs, Batch]:
    """Blobs that resemble their labels, in boxes of random images."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((boxes, 3, 4, 4), generator=generator)
    logits = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")
    noisy = logits + 0.8 * torch.rand(logits.shape, generator=generator)
    places = torch.randint(0, images, (boxes, 1), generator=generator).sort(dim=0).values
    corners = torch.rand((boxes, 2), generator=generator) * 8
    rois = torch.cat([places, corners, corners + 6 + 10 * torch.rand((boxes, 2), generator=generator)], dim=1)
    return Outputs(9 * noisy), Batch(torch.zeros(images, 3, 24, 24), logits.argmax(dim=1), {"rois": rois})


def in_parts(outputs: Outputs, batch: Batch, images: int) -> list[tuple[Outputs, Batch]]:
    """A batch as batches of single images."""
    parts = []
    for number in range(images):
        own = batch.extras["rois"][:, 0] == number
        rois = batch.extras["rois"][own].clone()
        rois[:, 0] = 0
        parts.append((Outputs(outputs.main[own]), Batch(batch.images[:1], batch.masks[own], {"rois": rois})))
    return parts


def values_of(batches: list[tuple[Outputs, Batch]]) -> dict[str, float]:
    metrics = instance_metrics()
    for metric in metrics:
        for outputs, batch in batches:
            metric.update(outputs, batch)
    return {name: float(value) for metric in metrics for name, value in metric.compute().items()}


def expected() -> Mapping[str, float]:
    return values_of([random_batch(3, 5, 14)])


def test_metrics_do_not_depend_on_batches() -> None:
    whole = random_batch(3, 5, 14)
    parts = in_parts(*whole, 5)
    assert values_of([whole]) == values_of(parts) == values_of(parts[::-1])
    assert 0 < expected()["mask_ap"] < expected()["mask_ap50"] < 1
    assert 0 < expected()["target_iou"] < 1


def test_metrics_are_exact_over_ranks() -> None:
    """Two of three processes share five images; the third has none."""
    answers = rank_processes.ranks(3, str(Path(__file__).with_name("metrics_rank.py")))
    values: list[dict[str, Any]] = [json.loads(answer.splitlines()[-1]) for answer in answers]
    assert values == [expected()] * 3
