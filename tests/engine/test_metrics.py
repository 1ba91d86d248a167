from __future__ import annotations

import pytest
import torch

from kdtui.engine.metrics import SegmentationMetrics

IGNORE = 255


def metrics() -> SegmentationMetrics:
    return SegmentationMetrics(("background", "target", "other"), ignore_index=IGNORE)


def test_scores_by_hand() -> None:
    truth = torch.tensor([[[0, 0, 1, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1]]])
    counting = metrics()
    counting.update(predicted, truth)
    scores = counting.scores()
    assert scores.iou == {"background": 0.5, "target": pytest.approx(2 / 3), "other": None}
    assert scores.miou == pytest.approx((0.5 + 2 / 3) / 2)
    assert scores.dice == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores.pixel_accuracy == 0.75
    assert scores.agreement is None


def test_one_matrix_not_a_mean_over_images() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, predicted = torch.randint(0, 3, (2, 6, 8, 8), generator=generator)
    whole, parts = metrics(), metrics()
    whole.update(predicted, truth)
    for index in range(6):
        parts.update(predicted[index : index + 1], truth[index : index + 1])
    assert whole.scores() == parts.scores()


def test_ignored_pixels_count_nowhere() -> None:
    truth = torch.tensor([[[0, 1, IGNORE, IGNORE]]])
    ones, twos = metrics(), metrics()
    ones.update(torch.tensor([[[0, 1, 1, 1]]]), truth, torch.tensor([[[0, 1, 0, 0]]], dtype=torch.uint8))
    twos.update(torch.tensor([[[0, 1, 2, 2]]]), truth, torch.tensor([[[0, 1, 1, 1]]], dtype=torch.uint8))
    assert ones.scores() == twos.scores()
    assert ones.scores().agreement == 1.0


def test_agreement_is_with_the_teacher_not_the_truth() -> None:
    counting = metrics()
    wrong_together = torch.tensor([[[1, 1, 2, 0]]])
    counting.update(wrong_together, torch.zeros_like(wrong_together), torch.tensor([[[1, 1, 2, 1]]]))
    assert counting.scores().agreement == 0.75


def test_a_class_that_never_occurs_is_not_a_zero() -> None:
    counting = metrics()
    counting.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2, dtype=torch.long))
    assert counting.scores().miou == 1.0
