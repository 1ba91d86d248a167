"""Segment whole pictures of any size: at the network's input size, at their own, or by sliding windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data.geometry import Content
from kdtui.engine.data.source import Size

Mode = Literal["resize", "whole", "slide"]
Logits = Callable[[Tensor], Tensor]
"""Normalised images f32 [B,C,H,W] to logits of the classes f32 [B,K,H,W]."""


@dataclass(frozen=True)
class Inference:
    """How a picture is given to a network.

    Attributes:
        mode: ``resize``: at the size of the network's input. ``whole``: at the picture's own size, padded to the
            stride. ``slide``: in windows at the picture's own size, whose logits are averaged where they overlap.
        window: The network's input; for ``slide`` the size of a window.
        overlap: Share of a window that it has at least in common with its neighbour, in [0, 0.9].
        batch_size: Largest number of windows in one forward pass.
    """

    mode: Mode
    window: Size
    overlap: float = 0.25
    batch_size: int = 8

    def __call__(self, network: Logits, images: Tensor, content: Size) -> Tensor:
        """Logits f32 [B,K,h,w] of the part of the images that is not padding.

        Args:
            network: The network; its input must be divisible by its stride.
            images: f32 [B,C,H,W], normalised, padded at the right and bottom.
            content: Height and width of the pictures without padding.
        """
        logits = network(images) if self.mode != "slide" else self._slide(network, images)
        return logits[..., : content.height, : content.width]

    def _slide(self, network: Logits, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        window = Size(min(height, self.window.height), min(width, self.window.width))
        places = [
            (top, left) for top in self._starts(height, window.height) for left in self._starts(width, window.width)
        ]
        total: Tensor | None = None
        per_pass = max(1, self.batch_size // len(images))
        for chunk in _chunks(places, per_pass):
            crops = [images[..., top : top + window.height, left : left + window.width] for top, left in chunk]
            logits = network(torch.cat(crops))
            if total is None:
                # On the device of the network, to which it moves the images itself.
                total = logits.new_zeros(len(images), logits.shape[1], height, width)
            for (top, left), part in zip(chunk, logits.split(len(images)), strict=True):
                total[..., top : top + window.height, left : left + window.width] += part
        assert total is not None
        counts = total.new_zeros(1, 1, height, width)
        for top, left in places:
            counts[..., top : top + window.height, left : left + window.width] += 1
        return total.div_(counts)

    def _starts(self, length: int, window: int) -> list[int]:
        """First rows or columns of the windows: evenly spaced, the last one ends at the border."""
        if length <= window:
            return [0]
        step = max(1, math.floor(window * (1 - self.overlap)))
        count = math.ceil((length - window) / step) + 1
        return [round(index * (length - window) / (count - 1)) for index in range(count)]


def _chunks(places: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for first in range(0, len(places), size):
        yield places[first : first + size]


def at_size(logits: Tensor, size: Size) -> Tensor:
    """Logits [B,K,h,w] resampled bilinearly to another size."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)


def resampled(logits: Tensor, content: Content, *, of: Size, to: Size) -> Tensor:
    """A part of logits [B,K,h,w], resampled bilinearly.

    Args:
        logits: For an image; they may have another size than the image.
        content: The part, in pixels of the image.
        of: Size of the image.
        to: Size of the result.
    """
    down, across = logits.shape[-2] / of.height, logits.shape[-1] / of.width
    top, left = content.top * down, content.left * across
    height, width = content.height * down, content.width * across
    if all(value == round(value) for value in (top, left, height, width)):
        rows, columns = slice(int(top), int(top + height)), slice(int(left), int(left + width))
        return at_size(logits[..., rows, columns], to)
    # Edges of the part in the coordinates of `grid_sample`, where the image spans -1 to 1.
    scales = width / logits.shape[-1], height / logits.shape[-2]
    shifts = 2 * left / logits.shape[-1] + scales[0] - 1, 2 * top / logits.shape[-2] + scales[1] - 1
    theta = logits.new_tensor([[scales[0], 0.0, shifts[0]], [0.0, scales[1], shifts[1]]])
    grid = functional.affine_grid(theta.expand(len(logits), 2, 3), [len(logits), 1, *to], align_corners=False)
    return functional.grid_sample(logits, grid, padding_mode="border", align_corners=False)
