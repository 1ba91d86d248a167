from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses.lovasz import LovaszLoss, lovasz_softmax
from kdtui.profile.term_tables import LovaszTerm
from tests.engine.losses.blob import random_batch, value


def by_definition(probabilities: Tensor, masks: Tensor) -> float:
    """The Lovász extension of the Jaccard loss as a set function of wrong pixels; each gain by counting sets."""
    losses = []
    for label in range(len(probabilities)):
        own = {pixel for pixel, mask in enumerate(masks.tolist()) if mask == label}
        if not own:
            continue

        def jaccard_loss(wrong: set[int], own: set[int] = own) -> float:
            return 1 - len(own - wrong) / len(own | wrong)

        errors = [abs((pixel in own) - float(p)) for pixel, p in enumerate(probabilities[label])]
        order = sorted(range(len(errors)), key=lambda pixel: -errors[pixel])
        gains = [jaccard_loss({*order[: at + 1]}) - jaccard_loss({*order[:at]}) for at in range(len(order))]
        losses.append(sum(errors[pixel] * gain for pixel, gain in zip(order, gains, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("absent", [False, True])
def test_it_is_the_lovasz_extension_of_the_jaccard_loss(absent: bool) -> None:
    logits, masks = random_batch()
    if absent:
        masks = torch.where(masks == 0, 1, masks)
    valid = masks != IGNORE_INDEX
    probabilities = logits.softmax(dim=1).movedim(1, 0)[:, valid]
    expected = by_definition(probabilities, masks[valid])
    assert value(LovaszLoss(LovaszTerm()), logits, masks) == pytest.approx(expected, rel=1e-12)


def test_it_equals_the_librarys_in_single_precision() -> None:
    logits, masks = random_batch()
    reference = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(logits.float(), masks)
    assert value(LovaszLoss(LovaszTerm()), logits.float(), masks) == pytest.approx(float(reference), rel=1e-5)


def test_a_perfect_prediction_costs_nothing() -> None:
    masks = torch.tensor([0, 1, 1, 2])
    perfect = torch.nn.functional.one_hot(masks, 3).T.double()
    assert float(lovasz_softmax(perfect, masks)) == 0.0
    assert float(lovasz_softmax(1 - perfect, masks)) == pytest.approx(1.0)
