"""Distillation terms on dense logits (Hinton et al., 1503.02531; Liu et al., 1903.04197).

``T² · (1/M) Σ_px m Σ_c p_T log(p_T / p_S)`` with ``p = softmax(z / T)`` over channels, ``m`` the mask of valid pixels
and ``M`` their number. The mean is over pixels: ``batchmean`` would be H·W times too large on dense maps and dominate
the supervised loss. T² keeps the size of the gradient independent of T. Logits are not clamped, because the gradient of
clamped values is zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import DistillationLoss, Labels, StepShare, at_least_f32, same_grid
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import KlTerm


def pixel_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    *,
    temperature: float,
    valid_pixels: Tensor | float,
) -> Tensor:
    """KL of the softened class distributions per pixel.

    Args:
        student_logits: f32 [B,C,H,W].
        teacher_logits: [B,C,h,w], detached; resized bilinearly to the student's grid if it differs.
        valid: bool [B,H,W]; other pixels contribute neither value nor gradient.
        temperature: T > 0.
        valid_pixels: Divisor of the sum over pixels.

    Returns:
        Scalar f32, >= 0 up to rounding.
    """
    teacher_logits = same_grid(teacher_logits, student_logits)
    student_log = F.log_softmax(at_least_f32(student_logits) / temperature, dim=1)
    teacher_log = F.log_softmax(at_least_f32(teacher_logits) / temperature, dim=1)
    divergence = F.kl_div(student_log, teacher_log, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * divergence.masked_fill(~valid, 0.0).sum() / valid_pixels


def binary_pixel_kl(
    student_logit: Tensor,
    teacher_logit: Tensor,
    valid: Tensor,
    *,
    temperature: float,
    valid_pixels: Tensor | float,
) -> Tensor:
    """KL of a two-way decision ``[σ(z/T), 1 - σ(z/T)]``; equals :func:`pixel_kl` on ``[0, z]``.

    Args:
        student_logit: f32 [B,H,W], the log odds of the decision.
        teacher_logit: [B,h,w], detached.
        valid: bool [B,H,W].
        temperature: T > 0.
        valid_pixels: Divisor of the sum over pixels.

    Returns:
        Scalar f32.
    """
    teacher_logit = same_grid(teacher_logit.unsqueeze(1), student_logit.unsqueeze(1)).squeeze(1)
    student_z, teacher_z = at_least_f32(student_logit) / temperature, at_least_f32(teacher_logit) / temperature
    probability = torch.sigmoid(teacher_z)
    yes = probability * (F.logsigmoid(teacher_z) - F.logsigmoid(student_z))
    no = (1 - probability) * (F.logsigmoid(-teacher_z) - F.logsigmoid(-student_z))
    return temperature**2 * (yes + no).masked_fill(~valid, 0.0).sum() / valid_pixels


class KlLoss(DistillationLoss):
    """KL on the main logits or on one of the two decisions of a hierarchical task."""

    def __init__(self, table: KlTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]) -> None:
        super().__init__(table, student_channels, teacher_channels)
        assert table.temperature is not None
        self._on, self._temperature = table.on, table.temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See :func:`pixel_kl`."""
        ours, theirs = at_least_f32(student[self._on]), at_least_f32(teacher[self._on])
        scale: dict[str, float] = {"temperature": self._temperature, "valid_pixels": share.pixels}
        if self._on == "logits":
            return pixel_kl(ours, theirs, labels.valid, **scale)
        # A softmax over two channels is a sigmoid of their difference.
        return binary_pixel_kl(ours[:, 1] - ours[:, 0], theirs[:, 1] - theirs[:, 0], labels.valid, **scale)
