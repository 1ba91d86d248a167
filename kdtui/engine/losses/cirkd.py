"""Relations between the cells of every two images (mini-batch term of CIRKD, Yang et al., 2204.06986).

As :mod:`kdtui.engine.losses.relation`, with the rows of one image and the columns of another one or of itself: the mean
over all pairs of the images that one device processes at once. The memory bank of the publication is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdtui.engine.losses.relation import RelationLoss, row_kl, weighted_mean
from kdtui.engine.losses.term import Labels, StepShare
from kdtui.engine.models import Outputs


class CirkdLoss(RelationLoss):
    """The mean over pairs whose second image has valid cells, then over the first images."""

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        ours, theirs, cells = self._directions(student, teacher, labels)
        ours_rows, theirs_rows = (
            torch.einsum("xcn,ycm->xynm", values, values) / self.temperature for values in (ours, theirs)
        )
        rows = row_kl(ours_rows, theirs_rows, cells[None, :, None])
        pairs = weighted_mean(rows, cells.unsqueeze(1))
        return share.mean_of_images(weighted_mean(pairs, (cells > 0).any(dim=1).to(pairs.dtype)))
