"""Relations between the cells of an image, for networks of any two widths, such as a CNN and a transformer.

``mean over rows of KL(softmax(F_T F_Tᵀ / τ) ‖ softmax(F_S F_Sᵀ / τ))``: ``F`` are the features of the cells, of norm 1,
so that a row is how similar one cell is to all others. A cell counts as much as it has valid pixels, as a row and in
the softmax of the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import CirkdTerm, RelationTerm


def pooled(values: Tensor, cells: Tensor, side: int) -> Tensor:
    """The mean over the valid parts of squares of cells, [B,C,h,w].

    Args:
        values: [B,C,H,W].
        cells: Weights of the cells, [B,H,W].
        side: Side of a square; at the right and lower border they may be smaller.
    """
    if side == 1:
        return values
    weights = cells.unsqueeze(1)
    total = F.avg_pool2d(values * weights, side, ceil_mode=True)
    return total / F.avg_pool2d(weights, side, ceil_mode=True).clamp(min=torch.finfo(values.dtype).tiny)


def row_kl(ours: Tensor, theirs: Tensor, columns: Tensor) -> Tensor:
    """KL of each row of relations.

    Args:
        ours: Logits of the student's rows, [...,N,N].
        theirs: Those of the teacher.
        columns: Weights of the columns, broadcast to [...,1,N]; one without weight takes no part.

    Returns:
        [...,N].
    """
    # Where all weights are 0, the softmax over none would be NaN.
    columns = torch.where((columns > 0).any(dim=-1, keepdim=True), columns, 1.0)
    ours_log, theirs_log = (F.log_softmax(rows + columns.log(), dim=-1) for rows in (ours, theirs))
    divergence = F.kl_div(ours_log, theirs_log, reduction="none", log_target=True)
    return divergence.masked_fill(columns == 0, 0.0).sum(dim=-1)


class RelationLoss(OutputLoss):
    """The mean over the rows of an image, then over images."""

    projects = False

    def __init__(
        self,
        table: RelationTerm | CirkdTerm,
        student_channels: Mapping[str, int],
        teacher_channels: Mapping[str, int],
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._pool = table.pool

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        ours, theirs, cells = self._directions(student, teacher, labels)
        rows = row_kl(ours.mT @ ours / self.temperature, theirs.mT @ theirs / self.temperature, cells.unsqueeze(1))
        return share.mean_of_images(weighted_mean(rows, cells))

    def _directions(self, student: Outputs, teacher: Outputs, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
        """Features of norm 1 of student and teacher, [B,C,N], and the weights of their cells, [B,N]."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        ours, theirs = (
            F.normalize(pooled(values, cells, self._pool).flatten(2), dim=1) for values in (student_map, teacher_map)
        )
        return ours, theirs, F.avg_pool2d(cells.unsqueeze(1), self._pool, ceil_mode=True).flatten(1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over the last dimension; 0 where all weights are 0."""
    return (values * weights).sum(dim=-1) / weights.sum(dim=-1).clamp(min=torch.finfo(values.dtype).tiny)
