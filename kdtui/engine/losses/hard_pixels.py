"""Cross entropy in which some pixels count more: uncertain ones, the hardest ones, those near boundaries.

All read the main logits. The focal loss of smp is one of independent sigmoids per class, which does not fit a softmax.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.band import boundary_band
from kdtui.engine.losses.supervised import class_weights_of
from kdtui.engine.losses.term import Labels, StepShare, SupervisedLoss, at_least_f32
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import BoundaryTerm, FocalTerm, OhemTerm


def cross_entropy_map(student: Outputs, labels: Labels) -> Tensor:
    """Cross entropy of each pixel, [B,H,W] in at least f32; 0 without gradient at ignored pixels."""
    logits = at_least_f32(student.main)
    return F.cross_entropy(logits, labels.masks, ignore_index=labels.ignore_index, reduction="none")


class FocalLoss(SupervisedLoss):
    """The mean over the valid pixels of the step of ``w(y) · (1 - p)^γ · CE``, ``p`` the probability of the label."""

    weights: Tensor | None

    def __init__(self, table: FocalTerm) -> None:
        super().__init__(table)
        self._gamma = table.gamma
        alpha = table.alpha
        weights = class_weights_of(table) if alpha is None else torch.tensor((1 - alpha, alpha))
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        each = cross_entropy_map(student, labels)
        # 1 - exp(-CE) without cancellation. The derivative of a power below 1 is infinite at 0, that of the clamp is 0.
        uncertainty = (-torch.expm1(-each)).clamp(min=torch.finfo(each.dtype).eps)
        each = uncertainty**self._gamma * each
        if self.weights is not None:
            each = each * self.weights.to(each.dtype)[labels.masks.masked_fill(~labels.valid, 0)]
        return each.sum() / share.pixels


class OhemLoss(SupervisedLoss):
    """The mean cross entropy of the hardest pixels of a micro-batch, weighted by its number of valid pixels."""

    def __init__(self, table: OhemTerm) -> None:
        super().__init__(table)
        self._share = table.share

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        each = cross_entropy_map(student, labels)[labels.valid]
        count = math.ceil(self._share * each.numel())
        return each.topk(count, sorted=False).values.sum() * (each.numel() / max(1, count)) / share.pixels


class BoundaryLoss(SupervisedLoss):
    """``CE · (1 + (w - 1) · [pixel in the band])``, the mean over the valid pixels of the step."""

    def __init__(self, table: BoundaryTerm) -> None:
        super().__init__(table)
        self._weight, self._band = table.boundary_weight, table.band

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        band = boundary_band(labels, self._band)
        each = cross_entropy_map(student, labels)
        return torch.where(band, self._weight * each, each).sum() / share.pixels
