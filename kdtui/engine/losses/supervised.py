"""Cross entropy, and the losses on the overlap of regions: Dice, Jaccard, Tversky.

They read the main logits, are computed in at least f32, and do not depend on gradient accumulation and the number of
ranks. The losses of smp over a whole batch would; so only its formulas are used, on each image alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from segmentation_models_pytorch.losses._functional import soft_dice_score, soft_jaccard_score, soft_tversky_score
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, StepShare, SupervisedLoss, at_least_f32
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import ClassWeightedTerm, CrossEntropyTerm, TverskyTerm


def cross_entropy(
    logits: Tensor,
    masks: Tensor,
    *,
    ignore_index: int,
    valid_pixels: Tensor | float,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy summed over valid pixels, divided by ``valid_pixels``.

    Args:
        logits: f32 [B,C,H,W]; log probabilities are valid logits.
        masks: i64 [B,H,W].
        ignore_index: Label of pixels that do not contribute.
        valid_pixels: Divisor of the sum; with weights, the sum of the weights of the valid pixels.
        weights: Weight of each class, [C].
        label_smoothing: Share of the target that is distributed over all classes, in [0, 1).
    """
    logits = at_least_f32(logits)
    weights = None if weights is None else weights.to(logits.dtype)
    total = F.cross_entropy(
        logits, masks, weights, ignore_index=ignore_index, reduction="sum", label_smoothing=label_smoothing
    )
    return total / valid_pixels


class Regions(NamedTuple):
    """The regions of the classes in each image, zero at ignored pixels.

    Attributes:
        predicted: Probabilities, [B,C,P].
        true: Labels as 0 and 1, [B,C,P], in the same dtype.
        present: Bool [B,C]: classes that occur in the image.
    """

    predicted: Tensor
    true: Tensor
    present: Tensor

    def mean(self, per_class: Tensor) -> Tensor:
        """The mean [B] of values [B,C] over all classes; classes that an image lacks count as zero."""
        return (per_class * self.present).mean(dim=1)


def regions(logits: Tensor, masks: Tensor, *, ignore_index: int) -> Regions:
    """The regions of logits [B,C,H,W] and masks i64 [B,H,W]."""
    classes = logits.shape[1]
    valid = masks != ignore_index
    probabilities = F.softmax(at_least_f32(logits), dim=1) * valid.unsqueeze(1)
    truth = F.one_hot(masks.masked_fill(~valid, 0), classes).permute(0, 3, 1, 2) * valid.unsqueeze(1)
    flat = truth.flatten(2)
    return Regions(probabilities.flatten(2), flat.to(probabilities.dtype), flat.any(dim=2))


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
    areas = regions(logits, masks, ignore_index=ignore_index)
    return areas.mean(1.0 - soft_dice_score(areas.predicted, areas.true, dims=2))


def class_weights_of(table: ClassWeightedTerm) -> Tensor | None:
    """The weights of the classes as f32 [C]; None if all classes have the same weight."""
    assert not isinstance(table.class_weights, str), "weights are computed from the labels before the module is built"
    return None if table.class_weights is None else torch.tensor(table.class_weights)


class CrossEntropyLoss(SupervisedLoss):
    """The mean over the valid pixels of the step."""

    def __init__(self, table: CrossEntropyTerm) -> None:
        super().__init__(table)
        self._smoothing = table.label_smoothing or 0.0

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See :func:`cross_entropy`."""
        return self._loss(student, labels, share.pixels)

    def _loss(self, student: Outputs, labels: Labels, mass: Tensor | float, weights: Tensor | None = None) -> Tensor:
        return cross_entropy(
            student.main,
            labels.masks,
            ignore_index=labels.ignore_index,
            valid_pixels=mass,
            weights=weights,
            label_smoothing=self._smoothing,
        )


class WeightedCrossEntropyLoss(CrossEntropyLoss):
    """The sum of ``w(y) · CE`` over the valid pixels of the step, divided by their sum of ``w(y)``, as in torch."""

    weights: Tensor

    def __init__(self, table: CrossEntropyTerm) -> None:
        super().__init__(table)
        # Not persistent: it follows from the profile and the labels, and is not part of the resume state.
        self.register_buffer("weights", class_weights_of(table), persistent=False)

    def masses(self, labels: Labels) -> dict[str, Tensor]:
        """The sum of the weights of the valid pixels."""
        return {"weights": self.weights[labels.masks[labels.valid]].sum()}

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        return self._loss(student, labels, share.mass("weights"), self.weights)


def cross_entropy_loss(table: CrossEntropyTerm) -> CrossEntropyLoss:
    """The module of the term ``ce``; one without weights needs no mass of the step before the first backward pass."""
    return (CrossEntropyLoss if table.class_weights is None else WeightedCrossEntropyLoss)(table)


class DiceLoss(SupervisedLoss):
    """The mean over the images of the step."""

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See :func:`dice_per_image`."""
        return share.mean_of_images(dice_per_image(student.main, labels.masks, ignore_index=labels.ignore_index))


class JaccardLoss(SupervisedLoss):
    """The mean over the images of the step of ``1 - Σ p·y / (Σ p + Σ y - Σ p·y)``, the mean over classes."""

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        areas = regions(student.main, labels.masks, ignore_index=labels.ignore_index)
        return share.mean_of_images(areas.mean(1.0 - soft_jaccard_score(areas.predicted, areas.true, dims=2)))


class TverskyLoss(SupervisedLoss):
    """The mean over the images of the step of ``(1 - TP / (TP + α·FP + β·FN))^γ``, the mean over classes.

    The exponent applies to each class as published; smp applies it to the mean over classes.
    """

    def __init__(self, table: TverskyTerm) -> None:
        super().__init__(table)
        self._alpha, self._beta, self._gamma = table.alpha, table.beta, table.gamma

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        areas = regions(student.main, labels.masks, ignore_index=labels.ignore_index)
        each = 1.0 - soft_tversky_score(areas.predicted, areas.true, self._alpha, self._beta, dims=2)
        if self._gamma != 1.0:
            # The derivative of a power below 1 is infinite at 0, where that of the clamp is 0.
            each = each.clamp(min=torch.finfo(each.dtype).eps) ** self._gamma
        return share.mean_of_images(areas.mean(each))
