"""Pairwise similarities of structured distillation (SKD, Liu et al., 1903.04197).

``mean (A_S - A_T)²``, ``A = FᵀF`` with the features of max-pooled cells, of norm 1: the mean over the pairs of cells of
an image, weighted by the valid share of both, then over images.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.relation import weighted_mean
from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import SkdPairwiseTerm


def max_pooled(values: Tensor, cells: Tensor, side: int) -> Tensor:
    """The largest value of the cells with weight in squares of this side, [B,C,h,w]; 0 where none has weight.

    Args:
        values: [B,C,H,W].
        cells: Weights of the cells, [B,H,W].
        side: Side of a square; at the right and lower border they may be smaller.
    """
    outside = (cells == 0).unsqueeze(1)
    largest = F.max_pool2d(values.masked_fill(outside, -torch.inf), side, ceil_mode=True)
    return largest.masked_fill(largest == -torch.inf, 0.0)


class SkdPairwiseLoss(OutputLoss):
    """The mean over images; widths may differ, as cells are compared within a network only."""

    projects = False

    def __init__(
        self, table: SkdPairwiseTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._pool = table.pool

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        ours, theirs = (
            F.normalize(max_pooled(values, cells, self._pool).flatten(2), dim=1)
            for values in (student_map, teacher_map)
        )
        weights = F.max_pool2d(cells.unsqueeze(1), self._pool, ceil_mode=True).flatten(1)
        squares = (ours.mT @ ours - theirs.mT @ theirs).square()
        return share.mean_of_images(weighted_mean(weighted_mean(squares, weights.unsqueeze(1)), weights))
