"""Contours and distances: what the heads of these terms learn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import Labels, StepShare
from kdtui.engine.losses.band import boundary_band
from kdtui.engine.losses.heads import ContourLoss, DistanceLoss, HeadLoss, signed_distance
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import ContourTerm, DistanceTerm

CHANNELS = {"decoder": 1}


def masks() -> Tensor:
    """Two label maps with a disc of class 1, in the second one cut by the border and next to ignored pixels."""
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    labels = torch.stack([((rows - 12) ** 2 + (columns - x) ** 2 < 49).long() for x in (9, 18)])
    labels[1, :, 9:11] = IGNORE_INDEX
    return labels


def share(labels: Labels) -> StepShare:
    return StepShare(float(labels.valid.sum()), len(labels.masks))


def cost(term: HeadLoss, values: Tensor, labels: Labels) -> float:
    """The loss of a student whose head has these values as its output."""
    with torch.no_grad():
        return float(term(with_output(term, values), labels, share(labels)))


def with_output(term: HeadLoss, values: Tensor) -> Outputs:
    """A student whose head has these values as its output."""
    shift = float(values.min())
    with torch.no_grad():
        for name, parameter in term.head.named_parameters():
            parameter.fill_({"0.bias": 0.0, "2.bias": shift}.get(name, 1.0))
    return Outputs(torch.zeros(0), features={"decoder": (values - shift).unsqueeze(1)})


def edt(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance to the nearest other pixel."""
    distances = cv2.distanceTransform(pixels.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distances, np.float32)


@pytest.mark.parametrize("reach", [1, 3, 8])
def test_the_distance_is_that_of_opencv_clipped_at_the_reach(reach: int) -> None:
    inside = masks() == 1
    valid = torch.ones_like(inside)
    expected = [sum(sign * edt(side) for sign, side in ((1, one), (-1, ~one))) for one in inside.numpy()]
    np.testing.assert_allclose(
        signed_distance(inside, valid, reach), np.clip(np.stack(expected), -reach, reach) / reach, atol=1e-6
    )


def test_distances_to_ignored_pixels_and_in_regions_without_boundary_are_not_counted() -> None:
    valid = torch.ones(1, 6, 6, dtype=torch.bool)
    assert bool((signed_distance(valid, valid, 4) == 1).all())
    assert bool((signed_distance(~valid, valid, 4) == -1).all())
    half = torch.zeros(1, 1, 6, dtype=torch.bool)
    half[..., :3] = True
    ignored = torch.tensor([[[1, 1, 1, 0, 1, 1]]]).bool()
    assert signed_distance(half, ignored, 4)[0, 0].tolist() == [1.0, 0.75, 0.5, -0.25, -0.5, -0.75]


def test_a_perfect_contour_and_a_perfect_distance_cost_nothing() -> None:
    labels = Labels(masks(), IGNORE_INDEX)
    contour = ContourLoss(ContourTerm(), CHANNELS)
    region = Labels(labels.masks, IGNORE_INDEX)
    logits = torch.where(boundary_band(region, 3), 50.0, -50.0)
    assert cost(contour, logits, labels) == pytest.approx(0.0, abs=1e-5)
    assert cost(contour, -logits, labels) > 10
    distance = DistanceLoss(DistanceTerm(), CHANNELS)
    values = signed_distance(labels.masks == 1, labels.valid, 8)
    assert cost(distance, values, labels) == pytest.approx(0.0, abs=1e-9)


def test_a_map_without_the_class_has_no_dice() -> None:
    labels = Labels(torch.zeros(1, 8, 8, dtype=torch.int64), IGNORE_INDEX)
    term = ContourLoss(ContourTerm(), CHANNELS)
    assert cost(term, torch.full((1, 8, 8), -50.0), labels) == pytest.approx(0.0, abs=1e-6)
