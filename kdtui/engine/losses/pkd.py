"""Correlation of features (PKD, Cao et al., 2207.02039).

``(1/2M) Σ_cells m · mean_c (z(P(f_S)) - z(f_T))²``: ``z`` standardises each channel over the valid cells of a
micro-batch, so that only the pattern of a channel counts, not its size. This is one minus the mean of Pearson's
correlations of the channels.
"""

from __future__ import annotations

from torch import Tensor

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells, z_scores
from kdtui.engine.models import Outputs

_ADDED = 1e-6
"""Added to standard deviations, as published."""


class PkdLoss(OutputLoss):
    """The mean over valid cells and channels."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        ours, theirs = (z_scores(values, cells, added=_ADDED) for values in (student_map, teacher_map))
        return ((ours - theirs).square().mean(dim=1) * cells).sum() / share.cells(labels, student_map) / 2
