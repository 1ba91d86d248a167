"""The band of pixels around boundaries between classes."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from kdtui.engine.losses.term import Labels


def boundary_band(labels: Labels, width: int) -> Tensor:
    """Pixels whose neighbourhood has two classes: the union over classes of dilation minus erosion.

    Ignored pixels and the border of the image are no boundary.

    Args:
        labels: Masks i64 [B,H,W].
        width: Side of the square neighbourhood in pixels; odd.

    Returns:
        bool [B,H,W].
    """
    masks = labels.masks.unsqueeze(1).float()
    largest = F.max_pool2d(masks.masked_fill(~labels.valid.unsqueeze(1), -math.inf), width, 1, width // 2)
    smallest = -F.max_pool2d((-masks).masked_fill(~labels.valid.unsqueeze(1), -math.inf), width, 1, width // 2)
    return (largest > smallest).squeeze(1)
