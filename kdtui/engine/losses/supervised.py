"""Supervised terms, ``L_base`` = cross entropy + Dice, independent of gradient accumulation and number of ranks."""

from __future__ import annotations

from segmentation_models_pytorch.losses._functional import soft_dice_score
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, StepShare, SupervisedLoss, at_least_f32
from kdtui.engine.models import Outputs


def cross_entropy(logits: Tensor, masks: Tensor, *, ignore_index: int, valid_pixels: Tensor | float) -> Tensor:
    """Cross entropy summed over valid pixels, divided by ``valid_pixels``.

    Args:
        logits: f32 [B,C,H,W]; log probabilities are valid logits.
        masks: i64 [B,H,W].
        ignore_index: Label of pixels that do not contribute.
        valid_pixels: Divisor of the sum.
    """
    return F.cross_entropy(at_least_f32(logits), masks, ignore_index=ignore_index, reduction="sum") / valid_pixels


def dice_per_image(logits: Tensor, masks: Tensor, *, ignore_index: int) -> Tensor:
    """Soft Dice loss of each image.

    Equal to ``smp.losses.DiceLoss("multiclass")`` on a batch of one (classes that an image lacks count as zero loss),
    without a loop over images. Dice over a whole batch would depend on how the batch is split.

    Args:
        logits: f32 [B,C,H,W].
        masks: i64 [B,H,W].
        ignore_index: Label of pixels that do not contribute.

    Returns:
        f32 [B], in [0, 1].
    """
    classes = logits.shape[1]
    valid = masks != ignore_index
    probabilities = F.softmax(at_least_f32(logits), dim=1) * valid.unsqueeze(1)
    truth = F.one_hot(masks.masked_fill(~valid, 0), classes).permute(0, 3, 1, 2) * valid.unsqueeze(1)
    score = soft_dice_score(probabilities.flatten(2), truth.flatten(2).to(probabilities.dtype), dims=2)
    present = truth.flatten(2).any(dim=2)
    loss: Tensor = ((1.0 - score) * present).mean(dim=1)
    return loss


class CrossEntropyLoss(SupervisedLoss):
    """The mean over the valid pixels of the step."""

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See :func:`cross_entropy`."""
        return cross_entropy(student.main, labels.masks, ignore_index=labels.ignore_index, valid_pixels=share.pixels)


class DiceLoss(SupervisedLoss):
    """The mean over the images of the step."""

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See :func:`dice_per_image`."""
        return share.mean_of_images(dice_per_image(student.main, labels.masks, ignore_index=labels.ignore_index))
