"""Mean squared difference of features (FitNets, Romero et al., 1412.6550).

``(1/M) Σ_cells m · mean_c (P(f_S) - f_T)²``: ``m`` is the share of valid pixels in a cell of the student's grid, ``M``
the sum of ``m`` over the step, and ``P`` a 1x1 convolution if the widths differ. It has no batch norm, whose statistics
would depend on the micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kdtui.engine.losses.term import (
    DistillationLoss,
    Labels,
    StepShare,
    at_least_f32,
    projection,
    same_grid,
    valid_cells,
)
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import FeatureTerm


class FeatureLoss(DistillationLoss):
    """The mean over valid cells and channels."""

    def __init__(
        self, table: FeatureTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._on, self._teacher_on = table.on, table.teacher_on or table.on
        self.projection = projection(student_channels[self._on], teacher_channels[self._teacher_on])

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map = self.projection(at_least_f32(student[self._on]))
        teacher_map = same_grid(at_least_f32(teacher[self._teacher_on]), student_map)
        cells = valid_cells(labels.valid, student_map)
        squares: Tensor = (student_map - teacher_map).square().mean(dim=1)
        return (squares * cells).sum() / share.cells(labels, student_map)
