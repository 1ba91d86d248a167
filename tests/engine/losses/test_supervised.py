from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses import cross_entropy, dice_per_image

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
