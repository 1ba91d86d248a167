"""Distillation terms on dense logits (Hinton et al., 1503.02531; Liu et al., 1903.04197).

``T² · (1/M) Σ_px m Σ_c p_T log(p_T / p_S)`` with ``p = softmax(z / T)`` over channels, ``m`` the mask of valid pixels
and ``M`` their number. The mean is over pixels: ``batchmean`` would be H·W times too large on dense maps and dominate
the supervised loss. T² keeps the size of the gradient independent of T. Logits are not clamped, because the gradient of
clamped values is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import DistillationLoss, Labels, StepShare, at_least_f32, same_grid
from kdtui.engine.models import Outputs
from kdtui.errors import ModelError
from kdtui.profile.term_tables import KlTerm

_SMALLEST = 1e-7
"""Added to the standard deviation of a pixel's logits, as published."""


def pixel_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    *,
    temperature: float,
    valid_pixels: Tensor | float,
    weights: Tensor | None = None,
) -> Tensor:
    """KL of the softened class distributions per pixel.

    Args:
        student_logits: f32 [B,C,H,W].
        teacher_logits: [B,C,h,w], detached; resized bilinearly to the student's grid if it differs.
        valid: bool [B,H,W]; other pixels contribute neither value nor gradient.
        temperature: T > 0.
        valid_pixels: Divisor of the sum over pixels.
        weights: Weights of the pixels, [B,H,W]; None if all are 1.

    Returns:
        Scalar f32, >= 0 up to rounding.
    """
    teacher_logits = same_grid(teacher_logits, student_logits)
    student_log = F.log_softmax(at_least_f32(student_logits) / temperature, dim=1)
    teacher_log = F.log_softmax(at_least_f32(teacher_logits) / temperature, dim=1)
    divergence = F.kl_div(student_log, teacher_log, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * _weighted(divergence.masked_fill(~valid, 0.0), weights).sum() / valid_pixels


def binary_pixel_kl(
    student_logit: Tensor,
    teacher_logit: Tensor,
    valid: Tensor,
    *,
    temperature: float,
    valid_pixels: Tensor | float,
    weights: Tensor | None = None,
) -> Tensor:
    """KL of a two-way decision ``[σ(z/T), 1 - σ(z/T)]``; equals :func:`pixel_kl` on ``[0, z]``.

    Args:
        student_logit: f32 [B,H,W], the log odds of the decision.
        teacher_logit: [B,h,w], detached.
        valid: bool [B,H,W].
        temperature: T > 0.
        valid_pixels: Divisor of the sum over pixels.
        weights: Weights of the pixels, [B,H,W]; None if all are 1.

    Returns:
        Scalar f32.
    """
    teacher_logit = same_grid(teacher_logit.unsqueeze(1), student_logit.unsqueeze(1)).squeeze(1)
    student_z, teacher_z = at_least_f32(student_logit) / temperature, at_least_f32(teacher_logit) / temperature
    probability = torch.sigmoid(teacher_z)
    yes = probability * (F.logsigmoid(teacher_z) - F.logsigmoid(student_z))
    no = (1 - probability) * (F.logsigmoid(-teacher_z) - F.logsigmoid(-student_z))
    return temperature**2 * _weighted((yes + no).masked_fill(~valid, 0.0), weights).sum() / valid_pixels


def _log_odds(logits: Tensor) -> Tensor:
    """The log odds [B,H,W] of a decision: its only channel, or the difference of two, whose softmax is its sigmoid."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def _weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values if weights is None else values * weights


def standardised(logits: Tensor) -> Tensor:
    """Logits [B,C,H,W] with mean 0 and standard deviation 1 (unbiased) over the classes of a pixel."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    # The gradient of a root at 0 is infinite; that of the clamp, for equal logits, is 0.
    deviation = logits.var(dim=1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny).sqrt()
    return centred / (deviation + _SMALLEST)


class KlLoss(DistillationLoss):
    """KL on the main logits, on one of the two decisions of a hierarchical task, or on the foreground."""

    def __init__(self, table: KlTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._on, self._standardise = table.on, bool(table.standardise)
        if self._standardise and student_channels[self._on] < 3:
            raise ModelError(
                "standardised logits of two classes differ by nothing but their order",
                found="standardise = true with two classes",
                allowed="three or more classes",
                hint="omit standardise of this term",
            )

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See :func:`pixel_kl`."""
        return self._kl(student, teacher, labels, share.pixels)

    def _kl(
        self, student: Outputs, teacher: Outputs, labels: Labels, mass: Tensor | float, weights: Tensor | None = None
    ) -> Tensor:
        if not self._standardise:
            teacher = teacher.softened(self.temperature)
        ours, theirs = at_least_f32(student[self._on]), at_least_f32(teacher[self._on])
        scale: dict[str, Any] = {"temperature": self.temperature, "valid_pixels": mass, "weights": weights}
        if self._standardise:
            ours, theirs = standardised(ours), standardised(same_grid(theirs, ours))
        if self._on == "logits":
            return pixel_kl(ours, theirs, labels.valid, **scale)
        return binary_pixel_kl(_log_odds(ours), _log_odds(theirs), labels.valid, **scale)


class ReliableKlLoss(KlLoss):
    """``Σ w · KL / Σ w`` over the valid pixels of the step, where ``w`` is how well the teacher knows the label.

    The weight is that of the teacher's classes, also if one of the two decisions of a hierarchical task is compared.
    """

    def __init__(self, table: KlTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._weight_by = table.weight_by

    def _weights(self, teacher: Outputs, labels: Labels) -> Tensor:
        """Weights of the pixels, [B,H,W]; 0 at ignored ones."""
        logits = same_grid(at_least_f32(teacher.main), labels.masks)
        true = labels.masks.masked_fill(~labels.valid, 0)
        if self._weight_by == "correct":
            return ((logits.argmax(dim=1) == true) & labels.valid).to(logits.dtype)
        probability = F.softmax(logits, dim=1).gather(1, true.unsqueeze(1)).squeeze(1)
        return probability.masked_fill(~labels.valid, 0.0)

    def masses(self, teacher: Outputs, labels: Labels) -> dict[str, Tensor]:
        """The sum of the weights."""
        return {"weights": self._weights(teacher, labels).sum()}

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        return self._kl(student, teacher, labels, share.mass("weights"), self._weights(teacher, labels))


def kl_loss(table: KlTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]) -> KlLoss:
    """The module of the term ``kl``; one without weights needs no mass of the step before the first backward pass."""
    kind = KlLoss if table.weight_by in (None, "none") else ReliableKlLoss
    return kind(table, student_channels, teacher_channels)
