from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import Labels
from kdtui.engine.losses.band import boundary_band
from kdtui.engine.losses.hard_pixels import BoundaryLoss, FocalLoss, OhemLoss
from kdtui.profile.term_tables import BoundaryTerm, FocalTerm, OhemTerm
from tests.engine.losses.blob import LABELS, MASKS, STUDENT, random_batch, value


def pixels() -> list[tuple[float, int]]:
    """Cross entropy and label of each valid pixel of the random batch."""
    logits, masks = random_batch()
    log = logits.log_softmax(dim=1)
    return [
        (-float(log[image, int(mask), row, column]), int(mask))
        for image, area in enumerate(masks)
        for row, line in enumerate(area)
        for column, mask in enumerate(line)
        if mask != IGNORE_INDEX
    ]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_is_the_mean_of_the_published_formula(gamma: float) -> None:
    weights = (0.5, 1.0, 2.0)
    expected = [weights[label] * (1 - math.exp(-ce)) ** gamma * ce for ce, label in pixels()]
    term = FocalLoss(FocalTerm(gamma=gamma, class_weights=weights)).double()
    assert value(term, *random_batch()) == pytest.approx(sum(expected) / len(expected), rel=1e-12)


def test_alpha_weighs_class_one_against_class_zero() -> None:
    logits, masks = random_batch()
    masks = torch.where(masks == 2, 0, masks)
    two = logits[:, :2]
    alpha = value(FocalLoss(FocalTerm(alpha=0.25)), two, masks)
    weights = value(FocalLoss(FocalTerm(class_weights=(0.75, 0.25))), two, masks)
    assert alpha == weights
    published = []
    for probability, label in zip(torch.sigmoid(two[:, 1] - two[:, 0]).flatten(), masks.flatten(), strict=True):
        if label != IGNORE_INDEX:
            p = float(probability if label == 1 else 1 - probability)
            published.append(-(0.25 if label == 1 else 0.75) * (1 - p) ** 2 * math.log(p))
    assert alpha == pytest.approx(sum(published) / len(published), rel=1e-9)


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_ohem_is_the_mean_of_the_hardest_pixels(share: float) -> None:
    hardest = sorted((ce for ce, _ in pixels()), reverse=True)
    kept = hardest[: math.ceil(share * len(hardest))]
    term = OhemLoss(OhemTerm(share=share))
    assert value(term, *random_batch()) == pytest.approx(sum(kept) / len(kept), rel=1e-12)


def test_boundary_loss_equals_the_golden_value() -> None:
    term = BoundaryLoss(BoundaryTerm())
    assert value(term, STUDENT, MASKS) == pytest.approx(3.1185571749, abs=1e-10)
    assert int(boundary_band(LABELS, 3).sum()) == 46
    plain = BoundaryLoss(BoundaryTerm(boundary_weight=1.0))
    assert value(plain, STUDENT, MASKS) == pytest.approx(1.8500423770, abs=1e-10)
    assert value(plain, STUDENT, MASKS) == pytest.approx(float(F.cross_entropy(STUDENT, MASKS)))


@pytest.mark.parametrize("width", [3, 5])
def test_the_band_is_dilation_minus_erosion_of_any_class(width: int) -> None:
    generator = torch.Generator().manual_seed(2)
    masks = torch.randint(0, 3, (2, 3, 4), generator=generator).repeat_interleave(4, 1).repeat_interleave(5, 2)
    masks[0, 3:9, 4:11] = IGNORE_INDEX
    reach = width // 2
    expected = torch.zeros_like(masks, dtype=torch.bool)
    for image, row, column in torch.cartesian_prod(*map(torch.arange, masks.shape)).tolist():
        area = masks[image, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        around = {int(label) for label in area.flatten() if label != IGNORE_INDEX}
        dilated = {label for label in range(3) if label in around}
        eroded = {label for label in range(3) if around == {label}}
        expected[image, row, column] = bool(dilated - eroded)
    assert torch.equal(boundary_band(Labels(masks, IGNORE_INDEX), width), expected)
