"""Masked generative distillation (MGD, Yang et al., 2205.01529).

``Σ ‖G(mask · P(f_S)) - f_T‖² / N``: cells of the student's map are hidden at random, and a generator ``G`` of two
convolutions, trained with the student, has to reconstruct the teacher's whole map from the others. The sum is over the
channels and the valid cells of an image, the mean over images; ignored cells are hidden, too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdtui.engine.losses.term import Labels, OutputLoss, StepShare, valid_cells
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import MgdTerm

_ODD = -0x61C8864680B583EB
"""2^64 divided by the golden ratio, as a signed number: its multiples are spread evenly."""
_BITS = 24


class MgdLoss(OutputLoss):
    """The mean over images.

    Attributes:
        generator: Reconstructs the teacher's map; trained with the student, not exported.
    """

    def __init__(
        self, table: MgdTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._masked = table.masked
        width = teacher_channels[self._teacher_on]
        self.generator = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """Compute the loss; see the module's docstring."""
        student_map, teacher_map = self.maps(student, teacher)
        cells = valid_cells(labels.valid, student_map)
        shown = (cells > 0) & ~hidden_cells(labels.masks, student_map, share.step, self._masked)
        squares = (self.generator(student_map * shown.unsqueeze(1)) - teacher_map).square().sum(dim=1)
        return share.mean_of_images((squares * cells).sum(dim=(1, 2)))


def hidden_cells(masks: Tensor, student_map: Tensor, step: int, masked: float) -> Tensor:
    """A random choice of cells that follows from the step and the labels of the image alone.

    So it does not depend on how a step is split, a resumed run repeats it, and no random numbers of the run are used.

    Args:
        masks: i64 [B,H,W].
        student_map: [B,C,h,w].
        step: Number of the optimizer step.
        masked: Share of the cells to hide.

    Returns:
        bool [B,h,w].
    """
    labels = masks.flatten(1)
    pixels = _scrambled(torch.arange(labels.shape[1], device=masks.device) * _ODD)
    key = _scrambled((labels * pixels).sum(dim=1, keepdim=True) + step * _ODD % 2**63)
    size = student_map.shape[-2:]
    numbers = _scrambled(key + torch.arange(size.numel(), device=masks.device) * _ODD)
    hidden: Tensor = _shifted(numbers, 64 - _BITS) < masked * 2**_BITS
    return hidden.view(-1, *size)


def _scrambled(numbers: Tensor) -> Tensor:
    """Random 64 bits that follow from each number (the finaliser of SplitMix64)."""
    numbers = (numbers ^ _shifted(numbers, 30)) * -0x40A7B892E31B1A47
    numbers = (numbers ^ _shifted(numbers, 27)) * -0x6B2FB644ECCEEE15
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Shift to the right, filling up with zeros; torch repeats the sign."""
    shifted: Tensor = (numbers >> bits) & ((1 << (64 - bits)) - 1)
    return shifted
