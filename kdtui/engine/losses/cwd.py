"""Channel-wise distillation (Shu et al., 2011.13256).

``T² / (N·C) Σ_{n,c} KL(softmax_HW(t_nc / T) ‖ softmax_HW(s_nc / T))``: compares the spatial distribution of each
channel. The distributions are over the valid positions of an image; an image without valid positions contributes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import CwdTerm


class CwdLoss(OutputLoss):
    """The mean over images and channels; features of the student are projected if the widths differ."""

    def __init__(
        self, table: CwdTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        assert table.temperature is not None
        self._temperature = table.temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map).flatten(1) > 0
        # An image without valid positions keeps all of them here, as the softmax over none would be NaN.
        outside = (~cells & cells.any(dim=1, keepdim=True)).unsqueeze(1)
        student_log, teacher_log = (
            F.log_softmax(values.flatten(2).masked_fill(outside, -float("inf")) / self._temperature, dim=2)
            for values in (student_map, teacher_map)
        )
        divergence = F.kl_div(student_log, teacher_log, reduction="none", log_target=True)
        per_image = divergence.masked_fill(~cells.unsqueeze(1), 0.0).sum(dim=2).mean(dim=1)
        return self._temperature**2 * share.mean_of_images(per_image)
