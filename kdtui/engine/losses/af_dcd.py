"""Augmentation-free dense contrastive distillation (Af-DCD, Fan et al., NeurIPS 2023), its omni-contrast.

The channels are split into groups, the cells into square patches. The positive of a group of the student in a cell is
the same group of the teacher in the same cell, its negatives are the teacher's other groups in all cells of the patch.
The loss is the cross entropy of the negative L1 distances divided by τ, summed over groups, the mean over the valid
cells of an image, then over images. The masked reconstruction of the publication is the term ``mgd``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.skd_pairwise import max_pooled
from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs
from kdtui.errors import ModelError
from kdtui.profile.term_tables import MOST_GROUPS, AfDcdTerm


class AfDcdLoss(OutputLoss):
    """The mean over images."""

    def __init__(
        self, table: AfDcdTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._patch, self._pool = table.patch, table.pool
        self._groups = _groups(table, teacher_channels[self._teacher_on])

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        if self._pool > 1:
            student_map, teacher_map = (max_pooled(values, cells, self._pool) for values in (student_map, teacher_map))
            cells = F.max_pool2d(cells.unsqueeze(1), self._pool, ceil_mode=True).squeeze(1)
        weights = self._patches(cells.unsqueeze(1), groups=1).flatten(2)
        costs = self._contrast(
            self._patches(student_map, groups=self._groups), self._patches(teacher_map, groups=self._groups), weights
        )
        per_image = (costs * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp(min=1e-6)
        return share.mean_of_images(per_image)

    def _contrast(self, ours: Tensor, theirs: Tensor, weights: Tensor) -> Tensor:
        """Cross entropy of the cells [B,patches,P] from features [B,patches,P,groups,C] and weights [B,patches,P]."""
        images, patches, size, groups, _ = ours.shape
        distances = torch.cdist(ours.flatten(2, 3).flatten(0, 1), theirs.flatten(2, 3).flatten(0, 1), p=1)
        scores = -distances.view(images, patches, size * groups, size * groups) / self.temperature
        group = torch.arange(groups, device=ours.device).repeat(size)
        same_group = group.unsqueeze(1) == group
        own = torch.eye(size * groups, dtype=torch.bool, device=ours.device)
        # A negative counts as much as its cell has valid pixels, the positive always.
        columns = weights.repeat_interleave(groups, dim=-1).unsqueeze(2)
        scores = scores + columns.log().masked_fill(own, 0.0).masked_fill(same_group & ~own, -torch.inf)
        costs = scores.logsumexp(dim=-1) - scores.diagonal(dim1=-2, dim2=-1)
        return costs.view(images, patches, size, groups).sum(dim=-1)

    def _patches(self, values: Tensor, groups: int) -> Tensor:
        """Features of the cells by patch, [B,patches,cells of a patch,groups,C]; missing cells at the border are 0."""
        side = self._patch
        values = F.pad(values, (0, -values.shape[-1] % side, 0, -values.shape[-2] % side))
        images, channels, height, width = values.shape
        parts = values.view(images, groups, channels // groups, height // side, side, width // side, side)
        return parts.permute(0, 3, 5, 4, 6, 1, 2).flatten(1, 2).flatten(2, 3)


def _groups(table: AfDcdTerm, channels: int) -> int:
    """The number of groups; refused if it does not divide the teacher's channels."""
    divisors = [count for count in range(2, min(channels, 64) + 1) if channels % count == 0]
    if table.groups is None and divisors and divisors[0] <= MOST_GROUPS:
        return max(count for count in divisors if count <= MOST_GROUPS)
    if table.groups in divisors and table.groups is not None:
        return table.groups
    raise ModelError(
        "the teacher's channels cannot be split into groups of equal size",
        found=f"{table.groups or MOST_GROUPS} groups of {channels} channels",
        allowed=", ".join(map(str, divisors)) or "a feature with another number of channels",
        hint=f"set groups of this term to {divisors[-1]}" if divisors else "set teacher_on of this term",
    )
