"""DIST: correlations instead of KL (Huang et al., 2205.10536).

``τ² · (β · (1 - mean_px ρ(a_px, b_px)) + γ · (1 - mean_c ρ(a_c, b_c)))`` with the probabilities ``a`` and ``b`` of
student and teacher, ``softmax(z / τ)``, as a table of pixels and classes, and Pearson's correlation ``ρ`` of its rows
(between classes) and of its columns (within a class, over the valid pixels of a micro-batch).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import DistillationLoss, Labels, StepShare, at_least_f32, same_grid
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import DistTerm


def pearson(ours: Tensor, theirs: Tensor, dim: int) -> Tensor:
    """Pearson's correlation along a dimension; 0 where one of both is constant."""
    return F.cosine_similarity(ours - ours.mean(dim, keepdim=True), theirs - theirs.mean(dim, keepdim=True), dim)


class DistLoss(DistillationLoss):
    """The mean over micro-batches, weighted by their number of valid pixels.

    With two classes, a row has the correlation 1 or -1 and no gradient, so that only columns are compared.
    """

    def __init__(
        self, table: DistTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._gamma = table.gamma
        self._beta = table.beta if student_channels[table.on] > 2 else 0.0

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        teacher_logits = same_grid(teacher.softened(self.temperature).main, student.main)
        ours, theirs = (
            F.softmax(at_least_f32(logits).movedim(1, -1)[labels.valid] / self.temperature, dim=1)
            for logits in (student.main, teacher_logits)
        )
        between = (1 - pearson(ours, theirs, 1)).sum()
        within = (1 - pearson(ours, theirs, 0)).mean() * len(ours)
        return self.temperature**2 * (self._beta * between + self._gamma * within) / share.pixels
