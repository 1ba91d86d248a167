"""Mean squared difference of features (FitNets, Romero et al., 1412.6550).

``(1/M) Σ_cells m · mean_c (P(f_S) - f_T)²``: ``m`` is the share of valid pixels in a cell of the student's grid, ``M``
the sum of ``m`` over the step, and ``P`` the projection of :class:`OutputLoss`.
"""

from __future__ import annotations

from torch import Tensor

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs


class FeatureLoss(OutputLoss):
    """The mean over valid cells and channels."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        squares: Tensor = (student_map - teacher_map).square().mean(dim=1)
        return (squares * cells).sum() / share.cells(labels, student_map)
