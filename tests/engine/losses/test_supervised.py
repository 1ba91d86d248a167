from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses import Labels, SupervisedLoss, cross_entropy, dice_per_image
from kdtui.engine.losses.supervised import DiceLoss, JaccardLoss, TverskyLoss, cross_entropy_loss
from kdtui.profile.term_tables import CrossEntropyTerm, DiceTerm, JaccardTerm, TverskyTerm
from tests.engine.losses.blob import random_batch, value

IGNORE = 255


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, 6, 5, generator=generator) * 2
    masks = torch.randint(0, 3, (4, 6, 5), generator=generator)
    masks[0, :2] = IGNORE  # very unequal shares
    masks[1, 0, 0] = IGNORE
    masks[2] = 1  # an image that lacks classes
    return logits, masks


def test_dice_is_the_librarys_on_each_image_alone() -> None:
    logits, masks = batch()
    reference = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
    expected = torch.stack([reference(logits[i : i + 1], masks[i : i + 1]) for i in range(len(masks))])
    torch.testing.assert_close(dice_per_image(logits, masks, ignore_index=IGNORE), expected)


def test_cross_entropy_over_all_valid_pixels_is_torchs_mean() -> None:
    logits, masks = batch()
    ours = cross_entropy(logits, masks, ignore_index=IGNORE, valid_pixels=(masks != IGNORE).sum())
    torch.testing.assert_close(ours, F.cross_entropy(logits, masks, ignore_index=IGNORE))


def test_an_image_without_a_valid_pixel_costs_nothing() -> None:
    logits, masks = batch()
    masks[:] = IGNORE
    assert dice_per_image(logits, masks, ignore_index=IGNORE).sum() == 0
    assert cross_entropy(logits, masks, ignore_index=IGNORE, valid_pixels=1.0) == 0


def test_ignored_pixels_change_nothing() -> None:
    logits, masks = batch()
    changed = torch.where((masks == IGNORE).unsqueeze(1), torch.full_like(logits, 9.0), logits)
    torch.testing.assert_close(
        dice_per_image(changed, masks, ignore_index=IGNORE), dice_per_image(logits, masks, ignore_index=IGNORE)
    )
    torch.testing.assert_close(
        cross_entropy(changed, masks, ignore_index=IGNORE, valid_pixels=3.0),
        cross_entropy(logits, masks, ignore_index=IGNORE, valid_pixels=3.0),
    )


def test_weighted_and_smoothed_cross_entropy_is_torchs_mean() -> None:
    logits, masks = batch()
    weights = (0.25, 1.0, 4.0)
    for table in (
        CrossEntropyTerm(class_weights=weights),
        CrossEntropyTerm(label_smoothing=0.2),
        CrossEntropyTerm(class_weights=weights, label_smoothing=0.2),
    ):
        expected = F.cross_entropy(
            logits,
            masks,
            torch.tensor(weights) if table.class_weights else None,
            ignore_index=IGNORE,
            label_smoothing=table.label_smoothing or 0.0,
        )
        assert value(cross_entropy_loss(table), logits, masks) == pytest.approx(float(expected), rel=1e-6)


def test_cross_entropy_needs_the_masses_of_the_step_only_with_weights() -> None:
    plain = cross_entropy_loss(CrossEntropyTerm(label_smoothing=0.1))
    assert type(plain).masses is SupervisedLoss.masses
    weighted = cross_entropy_loss(CrossEntropyTerm(class_weights=(0.5, 2.0, 1.0)))
    masks = torch.tensor([[[0, 1, IGNORE, 1]]])
    assert weighted.masses(Labels(masks, IGNORE)) == {"weights": torch.tensor(4.5)}
    assert weighted.state_dict() == {}


def tversky_by_loops(alpha: float, beta: float, gamma: float) -> float:
    logits, masks = random_batch()
    probabilities = logits.softmax(dim=1)
    images = []
    for image in range(len(masks)):
        total = 0.0
        for label in range(3):
            hit = false_positive = false_negative = 0.0
            for p, mask in zip(probabilities[image, label].flatten().tolist(), masks[image].flatten(), strict=True):
                if mask == IGNORE:
                    continue
                hit += p * (mask == label).item()
                false_positive += p * (mask != label).item()
                false_negative += (1 - p) * (mask == label).item()
            if (masks[image] == label).any():
                total += (1 - hit / (hit + alpha * false_positive + beta * false_negative)) ** gamma
        images.append(total / 3)
    return sum(images) / len(images)


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.3, 0.7, 1.0), (0.3, 0.7, 0.75), (0.5, 0.5, 1.0), (1, 1, 1)])
def test_overlap_losses_are_their_formulas_on_each_image(alpha: float, beta: float, gamma: float) -> None:
    expected = pytest.approx(tversky_by_loops(alpha, beta, gamma), rel=1e-9)
    table = TverskyTerm(alpha=float(alpha), beta=float(beta), gamma=float(gamma))
    assert value(TverskyLoss(table), *random_batch()) == expected
    if (alpha, beta) == (0.5, 0.5):
        assert value(DiceLoss(DiceTerm()), *random_batch()) == expected
    if (alpha, beta) == (1, 1):
        assert value(JaccardLoss(JaccardTerm()), *random_batch()) == expected


def test_jaccard_is_the_librarys_on_each_image_alone() -> None:
    logits, masks = batch()
    reference = smp.losses.JaccardLoss("multiclass", ignore_index=IGNORE)
    expected = torch.stack([reference(logits[i : i + 1], masks[i : i + 1]) for i in range(len(masks))]).mean()
    assert value(JaccardLoss(JaccardTerm()), logits, masks) == pytest.approx(float(expected), rel=1e-5)
