"""Lovász-Softmax (Berman et al., 1705.08790): the Lovász extension of the Jaccard loss, the mean over classes.

``Σ_i e_(i) · (J(i) - J(i-1))`` with the errors ``e = |y_c - p_c|`` in descending order and ``J(i)`` the Jaccard loss of
class ``c`` if exactly the first ``i`` pixels are wrong. The set of pixels is that of a micro-batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, StepShare, SupervisedLoss, at_least_f32
from kdtui.engine.models import Outputs


def lovasz_softmax(probabilities: Tensor, masks: Tensor) -> Tensor:
    """The mean over the classes that occur; 0 without pixels.

    The loss of smp fails with f64, returns an empty tensor if all pixels are ignored, and computes ``J(i) - J(i-1)`` as
    a difference, which f32 cancels in large batches.

    Args:
        probabilities: [C,P] of the valid pixels, at least f32.
        masks: i64 [P].
    """
    truth = F.one_hot(masks, len(probabilities)).T.to(probabilities.dtype)
    errors, order = (truth - probabilities).abs().sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    total = truth.sum(dim=1, keepdim=True)
    correct = total - truth.cumsum(1)  # of the class, after the first i pixels
    union = total + (1 - truth).cumsum(1)
    # A pixel of the class removes 1 from the intersection, another one adds 1 to the union.
    steps = torch.where(truth > 0, 1.0, correct / (union - 1).clamp(min=1)) / union
    present = total.squeeze(1) > 0
    return ((errors * steps).sum(dim=1) * present).sum() / present.sum().clamp(min=1)


class LovaszLoss(SupervisedLoss):
    """The mean over micro-batches, weighted by their number of valid pixels."""

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the module."""
        probabilities = F.softmax(at_least_f32(student.main), dim=1).movedim(1, 0)[:, labels.valid]
        return lovasz_softmax(probabilities, labels.masks[labels.valid]) * probabilities.shape[1] / share.pixels
