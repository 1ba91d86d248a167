"""The teacher's answers as labels of images that have none.

Soft: ``(1/M) Σ_px m H(p_T, p_S)``, cross entropy with the teacher's probabilities at temperature 1: the KL plus the
entropy of the teacher. Hard: the mean cross entropy with the teacher's class over the pixels of the step where its
probability is at least a threshold (FixMatch, Sohn et al., 2001.07685).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.losses.term import DistillationLoss, Labels, StepShare, at_least_f32, same_grid
from kdtui.engine.models import Outputs


def confident_pixels(teacher: Outputs, labels: Labels, threshold: float) -> Tensor:
    """Valid pixels where the teacher's class has at least this probability, bool [B,H,W]."""
    logits = same_grid(at_least_f32(teacher.main), labels.masks)
    return (F.softmax(logits, dim=1).amax(dim=1) >= threshold) & labels.valid


class SoftLabelLoss(DistillationLoss):
    """Cross entropy with the teacher's probabilities, the mean over valid pixels."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        ours = at_least_f32(student.main)
        theirs = F.softmax(same_grid(at_least_f32(teacher.main), ours), dim=1)
        each = F.cross_entropy(ours, theirs, reduction="none")
        return each.masked_fill(~labels.valid, 0.0).sum() / share.pixels


class HardLabelLoss(DistillationLoss):
    """Cross entropy with the teacher's class, the mean over confident pixels.

    Args:
        threshold: Probability of the teacher's class from which a pixel is confident, in (0, 1].
    """

    def __init__(self, threshold: float) -> None:
        nn.Module.__init__(self)
        self._threshold = threshold

    def masses(self, teacher: Outputs, labels: Labels) -> dict[str, Tensor]:
        """The number of confident pixels."""
        return {"confident": confident_pixels(teacher, labels, self._threshold).sum()}

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        ours = at_least_f32(student.main)
        classes = same_grid(at_least_f32(teacher.main), ours).argmax(dim=1)
        each = F.cross_entropy(ours, classes, reduction="none")
        confident = confident_pixels(teacher, labels, self._threshold)
        return torch.where(confident, each, 0.0).sum() / share.mass("confident")
