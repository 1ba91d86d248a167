"""Paste the masks of boxes into their pictures.

A mask [h,w] of a box spans the box from edge to edge: the centre of its cell (i, j) is at
``(x1 + (j + 1/2) (x2 - x1) / w, y1 + (i + 1/2) (y2 - y1) / h)``, and that of a pixel (r, c) of a picture at
``(c + 1/2, r + 1/2)``. RoIAlign with ``aligned=True`` and the label maps of the data have this geometry too, so a mask
that is cut and pasted is at its place without a shift.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data import IGNORE_INDEX, Batch
from kdtui.engine.data.source import Size
from kdtui.palette import RGB, instance_colours

BACKGROUND, TARGET, OTHER = 0, 1, 2
"""The classes of the mask of a box."""
MOST_COLOURS = 254
"""Instances of a picture with a number of their own; further ones start again at 1."""


class Window(NamedTuple):
    """The pixels of a picture whose centres are in a box: rows and columns from the first to before the last."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def window_of(box: Sequence[float], size: Size) -> Window:
    """The part of a picture that a box covers; empty for a box outside it.

    Args:
        box: x1, y1, x2, y2 in pixels of the picture, continuous: the picture spans 0 to its width and height.
        size: Size of the picture.
    """

    def limits(low: float, high: float, side: int) -> tuple[int, int]:
        first, last = (min(max(math.ceil(edge - 0.5), 0), side) for edge in (low, high))
        return first, max(first, last)

    x1, y1, x2, y2 = map(float, box)
    return Window(*limits(y1, y2, size.height), *limits(x1, x2, size.width))


def pasted(values: Tensor, box: Sequence[float], size: Size) -> tuple[Window, Tensor]:
    """Values of a box at the pixels of a picture, by bilinear interpolation.

    Args:
        values: [C,h,w] of the box, such as logits.
        box: x1, y1, x2, y2 in pixels of the picture, see :func:`window_of`.
        size: Size of the picture.

    Returns:
        The pixels, and their values f32 [C,rows,columns]; beyond the centre of an outermost cell, those of the cell.
    """
    window = window_of(box, size)
    rows, columns = window.bottom - window.top, window.right - window.left
    if not rows or not columns:
        return window, values.new_zeros((len(values), rows, columns), dtype=torch.float32)
    x1, y1, x2, y2 = map(float, box)
    # In f64: with large pictures, f32 moves the centres of pixels by a thousandth of a cell.
    down, across = (
        ((torch.arange(first, last, dtype=torch.float64, device=values.device) + 0.5 - low) / (high - low) * 2 - 1)
        for first, last, low, high in ((window.top, window.bottom, y1, y2), (window.left, window.right, x1, x2))
    )
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).float()
    sampled = functional.grid_sample(
        values[None].float(), grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return window, sampled[0]


def target_mask(logits: Tensor, box: Sequence[float], size: Size) -> Tensor:
    """The pixels of a picture where the target of a box has the largest logit, bool [height,width].

    Args:
        logits: f32 [3,h,w]: background, target, other.
        box: x1, y1, x2, y2 in pixels of the picture.
        size: Size of the picture.
    """
    mask = torch.zeros(size, dtype=torch.bool, device=logits.device)
    window, values = pasted(logits, box, size)
    mask[window.slices] = values.argmax(dim=0) == TARGET
    return mask


def pasted_labels(labels: Tensor, box: Sequence[float], size: Size) -> tuple[Tensor, Tensor]:
    """The pixels of a picture where a label map has the target, and where it is ignored, bool [height,width] each.

    Args:
        labels: Classes integer [h,w], or the ignore index.
        box: x1, y1, x2, y2 in pixels of the picture.
        size: Size of the picture.
    """
    target, ignored = (torch.zeros(size, dtype=torch.bool, device=labels.device) for _ in range(2))
    kinds = torch.where(labels == IGNORE_INDEX, OTHER + 1, labels).long()
    window, values = pasted(functional.one_hot(kinds, OTHER + 2).permute(2, 0, 1).float(), box, size)
    largest = values.argmax(dim=0)
    target[window.slices], ignored[window.slices] = largest == TARGET, largest == OTHER + 1
    return target, ignored


LEGEND = "each instance has a colour of its own"
"""What the colours of :func:`instance_picture` mean."""


def picture_colours() -> list[RGB]:
    """The colours of the numbers of :func:`instance_picture`; 0 has none of its own."""
    return [(0, 0, 0), *instance_colours(MOST_COLOURS)]


def by_area(boxes: Tensor) -> Iterator[int]:
    """Indices of boxes [N,4], the largest first: a small one that is painted later remains visible."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    yield from areas.argsort(descending=True, stable=True).tolist()


def instance_picture(labels: Tensor, batch: Batch) -> Tensor:
    """The targets of all boxes of a batch in its images, by number, i64 [B,H,W].

    Args:
        labels: Classes integer [N,h,w], one map per box of ``batch.extras["rois"]``; true or predicted ones.
        batch: The images and their boxes.

    Returns:
        0 for no instance, 1, 2, ... for the boxes of an image in their order, and the ignore index where a box is
        ignored and no instance is.
    """
    size = Size(*batch.images.shape[-2:])
    rois = batch.extras["rois"].to(labels.device)
    pictures = torch.zeros((len(batch.images), *size), dtype=torch.long, device=labels.device)
    for number, picture in enumerate(pictures):
        own = (rois[:, 0].long() == number).nonzero().flatten()
        for place in by_area(rois[own, 1:]):
            target, ignored = pasted_labels(labels[own[place]], rois[own[place], 1:].tolist(), size)
            picture[ignored & (picture == 0)] = IGNORE_INDEX
            picture[target] = place % MOST_COLOURS + 1
    return pictures
