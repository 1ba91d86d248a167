"""The loss of a network's foreground, one logit per pixel of a picture."""

from __future__ import annotations

from collections.abc import Mapping

from segmentation_models_pytorch.losses._functional import soft_dice_score
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, StepShare, SupervisedLoss, at_least_f32
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import ForegroundTerm


class ForegroundLoss(SupervisedLoss):
    """Cross entropy, the mean over valid pixels, plus Dice of the foreground of each picture that has one."""

    def __init__(self, table: ForegroundTerm, channels: Mapping[str, int]) -> None:
        super().__init__(table)
        self._on = table.on

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class; every class but the first one is foreground."""
        logits = at_least_f32(student[self._on]).squeeze(1)
        truth = ((labels.masks > 0) & labels.valid).to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").masked_fill(~labels.valid, 0.0)
        predicted = (logits.sigmoid() * labels.valid).flatten(1)
        dice = 1 - soft_dice_score(predicted, truth.flatten(1), dims=1)
        present = truth.flatten(1).any(dim=1)
        return each.sum() / share.pixels + share.mean_of_images(dice * present)
