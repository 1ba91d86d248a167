"""Terms with a head of their own on features of the student: contours and distances of the regions of one class.

The head is a part of the loss: it is trained with the student and restored on resume, but it is in no exported network.
It has two layers per cell, without statistics of the batch, so that the loss depends neither on micro-batches nor on
neighbouring cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from segmentation_models_pytorch.losses._functional import soft_dice_score
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.losses.band import boundary_band
from kdtui.engine.losses.term import Labels, StepShare, SupervisedLoss, at_least_f32
from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import ContourTerm, DistanceTerm, HeadTerm

_MOST_HIDDEN = 64


class HeadLoss(SupervisedLoss):
    """Base of such terms.

    Args:
        table: Its keys.
        channels: Channels of the student's outputs that it reads.
    """

    def __init__(self, table: HeadTerm, channels: Mapping[str, int]) -> None:
        super().__init__(table)
        self._on, self._class = table.on, table.of_class
        width = channels[table.on]
        hidden = min(width, _MOST_HIDDEN)
        self.head = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 1, 1))

    def values(self, student: Outputs, labels: Labels) -> Tensor:
        """Output of the head at the size of the labels, [B,H,W] in at least f32."""
        with torch.autocast(student[self._on].device.type, enabled=False):
            values = self.head(at_least_f32(student[self._on]))
        # Nearest, so that a cell only depends on its own pixels.
        resized: Tensor = F.interpolate(values, labels.masks.shape[-2:]).squeeze(1)
        return resized

    def inside(self, labels: Labels) -> Tensor:
        """Pixels of the class, bool [B,H,W]."""
        return labels.masks == self._class


class ContourLoss(HeadLoss):
    """Cross entropy of contour pixels, the mean over valid pixels, plus Dice of each image.

    Contour pixels are the band around boundaries of the class. Their weight in the cross entropy makes up for their
    small number.
    """

    def __init__(self, table: ContourTerm, channels: Mapping[str, int]) -> None:
        super().__init__(table, channels)
        self._band, self._weight = table.band, table.contour_weight

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        logits, valid = self.values(student, labels), labels.valid
        region = Labels(self.inside(labels).long().masked_fill(~valid, labels.ignore_index), labels.ignore_index)
        contour = (boundary_band(region, self._band) & valid).to(logits.dtype)
        weight = logits.new_tensor(self._weight)
        each = F.binary_cross_entropy_with_logits(logits, contour, pos_weight=weight, reduction="none")
        predicted = (logits.sigmoid() * valid).flatten(1)
        dice = 1 - soft_dice_score(predicted, contour.flatten(1), dims=1)
        present = contour.flatten(1).any(dim=1)
        return each.masked_fill(~valid, 0.0).sum() / share.pixels + share.mean_of_images(dice * present)


class DistanceLoss(HeadLoss):
    """Smooth L1 of the signed distance to the boundary of the class, the mean over valid pixels.

    The distance is positive inside, in pixels up to ``reach``, divided by it.
    """

    def __init__(self, table: DistanceTerm, channels: Mapping[str, int]) -> None:
        super().__init__(table, channels)
        self._reach = table.reach

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """See the class."""
        values, inside = self.values(student, labels), self.inside(labels)
        distance = signed_distance(inside, labels.valid, self._reach).to(values.dtype)
        each = F.smooth_l1_loss(values, distance, reduction="none")
        return each.masked_fill(~labels.valid, 0.0).sum() / share.pixels


def signed_distance(inside: Tensor, valid: Tensor, reach: int) -> Tensor:
    """Euclidean distance to the nearest valid pixel on the other side, positive inside, clipped and divided by reach.

    Args:
        inside: Pixels of a region, bool [B,H,W].
        valid: Pixels with a label, bool [B,H,W]; distances to others do not count.
        reach: Largest distance in pixels.

    Returns:
        f32 [B,H,W], in [-1, 1].
    """
    to_outside, to_inside = (_distance(side & valid, reach) for side in (~inside, inside))
    return torch.where(inside, to_outside, -to_inside) / reach


def _distance(pixels: Tensor, reach: int) -> Tensor:
    """Exact Euclidean distance to the nearest of these pixels, at most ``reach``; one axis after the other."""
    far = float(reach**2)
    squares = torch.where(pixels, 0.0, far)
    offsets = range(-reach, reach + 1)
    for axis in (-1, -2):
        length = squares.shape[axis]
        border = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        padded = F.pad(squares, border, value=far)
        nearest = squares
        for offset in offsets:
            nearest = torch.minimum(nearest, padded.narrow(axis, reach + offset, length) + offset**2)
        squares = nearest
    return squares.sqrt()
