"""Decoupled distillation: the target class and the other classes apart (DKD, Zhao et al., 2203.08679).

``w · T² · (α · TCKD + β · NCKD)``, the mean over valid pixels. TCKD is the KL of ``[p, 1 - p]`` with the probability
``p`` of the label, NCKD the KL of the probabilities of the other classes, which add up to 1; ``w`` rises linearly to 1
over the first epochs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import DistillationLoss, Labels, StepShare, at_least_f32, same_grid
from kdtui.engine.models import Outputs
from kdtui.errors import ModelError
from kdtui.profile.term_tables import DkdTerm


class DkdLoss(DistillationLoss):
    """The mean over the valid pixels of the step."""

    def __init__(
        self, table: DkdTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._alpha, self._beta, self._warmup = table.alpha, table.beta, table.warmup
        if student_channels[table.on] < 3:
            raise ModelError(
                "with two classes there is only one other class, which dkd cannot compare",
                found="two classes",
                allowed="three or more classes",
                hint='use the term kind = "kl"',
            )

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        true = labels.masks[labels.valid].unsqueeze(1)
        ours, theirs = (
            at_least_f32(logits).movedim(1, -1)[labels.valid] / self.temperature
            for logits in (student.main, same_grid(teacher.softened(self.temperature).main, student.main))
        )
        is_label = torch.zeros_like(ours, dtype=torch.bool).scatter(1, true, True)
        target = _kl(_target_and_rest(ours, true, is_label), _target_and_rest(theirs, true, is_label))
        others = _kl(*(F.log_softmax(logits.masked_fill(is_label, -torch.inf), dim=1) for logits in (ours, theirs)))
        both = self._alpha * target.sum() + self._beta * others.masked_fill(is_label, 0.0).sum()
        return self.temperature**2 * min(1.0, share.epoch / max(1, self._warmup)) * both / share.pixels


def _target_and_rest(logits: Tensor, true: Tensor, is_label: Tensor) -> Tensor:
    """Log probabilities of the label and of all other classes together, [P,2]."""
    rest = logits.masked_fill(is_label, -torch.inf).logsumexp(dim=1, keepdim=True)
    return F.log_softmax(torch.cat([logits.gather(1, true), rest], dim=1), dim=1)


def _kl(ours: Tensor, theirs: Tensor) -> Tensor:
    """The addends of the KL of log probabilities."""
    return F.kl_div(ours, theirs, reduction="none", log_target=True)
