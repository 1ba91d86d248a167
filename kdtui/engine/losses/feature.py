"""Difference of features (FitNets, Romero et al., 1412.6550).

``(1/M) Σ_cells m · d(P(f_S), f_T)``: ``m`` is the share of valid pixels in a cell of the student's grid, ``M`` the sum
of ``m`` over the step, and ``P`` the projection of :class:`OutputLoss`. ``d`` is the squared difference or smooth L1,
the mean over channels, or one minus the cosine of both vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells, z_scores
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import FeatureTerm

_CONSTANT = 1e-6
"""Smallest standard deviation of a channel: a constant one would be divided by its rounding."""


class FeatureLoss(OutputLoss):
    """The mean over valid cells and channels."""

    def __init__(
        self, table: FeatureTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._form, self._standardise = table.form or "mse", bool(table.standardise)

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        if self._standardise:
            teacher_map = z_scores(teacher_map, cells, smallest=_CONSTANT)
        return (self._distances(student_map, teacher_map) * cells).sum() / share.cells(labels, student_map)

    def _distances(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The difference of each cell, [B,h,w]."""
        if self._form == "cosine":
            return 1 - F.cosine_similarity(ours, theirs, dim=1)
        if self._form == "smooth_l1":
            return F.smooth_l1_loss(ours, theirs, reduction="none").mean(dim=1)
        return (ours - theirs).square().mean(dim=1)
