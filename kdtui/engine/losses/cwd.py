"""Channel-wise distillation (Shu et al., 2011.13256).

``T² / (N·C) Σ_{n,c} KL(softmax_HW(t_nc / T) ‖ softmax_HW(s_nc / T))``: compares the spatial distribution of each
channel. The distributions are over the valid positions of an image; an image without valid positions contributes
nothing.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs


def channel_kl(student_map: Tensor, teacher_map: Tensor, cells: Tensor, *, temperature: float) -> Tensor:
    """KL of each channel's softened distribution over the cells of an image, times T², the mean over channels.

    Args:
        student_map: [B,C,h,w], at least f32.
        teacher_map: The same shape, detached.
        cells: bool [B,h,w]; other cells contribute neither value nor gradient.
        temperature: T > 0.

    Returns:
        [B]; 0 for an image without cells.
    """
    cells = cells.flatten(1)
    # An image without cells keeps all of them here, as the softmax over none would be NaN.
    outside = (~cells & cells.any(dim=1, keepdim=True)).unsqueeze(1)
    student_log, teacher_log = (
        F.log_softmax(values.flatten(2).masked_fill(outside, -float("inf")) / temperature, dim=2)
        for values in (student_map, teacher_map)
    )
    divergence = F.kl_div(student_log, teacher_log, reduction="none", log_target=True)
    return temperature**2 * divergence.masked_fill(~cells.unsqueeze(1), 0.0).sum(dim=2).mean(dim=1)


class CwdLoss(OutputLoss):
    """The mean over images and channels; features of the student are projected if the widths differ."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map) > 0
        return share.mean_of_images(channel_kl(student_map, teacher_map, cells, temperature=self.temperature))
