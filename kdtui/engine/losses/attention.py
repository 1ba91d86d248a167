"""Attention transfer (Zagoruyko and Komodakis, 1612.03928).

``(1/M) Σ_cells m · (g_S - g_T)²``: ``g`` is the mean over channels of squared features, divided by its L2 norm over the
valid cells of an image. Networks of any width are compared without a projection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs


def attention(values: Tensor, cells: Tensor) -> Tensor:
    """Attention of each cell.

    Args:
        values: [B,C,h,w], at least f32.
        cells: Weights of the cells, [B,h,w].

    Returns:
        [B,h,w], with the norm 1; 0 in cells without weight.
    """
    energy = values.square().mean(dim=1) * (cells > 0)
    norm = (energy.square() * cells).sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(values.dtype).tiny).sqrt()
    return energy / norm


class AttentionLoss(OutputLoss):
    """The mean over valid cells."""

    projects = False

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        squares = (attention(student_map, cells) - attention(teacher_map, cells)).square()
        return (squares * cells).sum() / share.cells(labels, student_map)
