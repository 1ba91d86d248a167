"""Segment whole pictures of any size: at the network's input size, at their own, or by sliding windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Mode = Literal["resize", "whole", "slide"]
Logits = Callable[[Tensor], Tensor]
"""Normalised images f32 [B,C,H,W] to logits of the classes f32 [B,K,H,W]."""


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


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
        counts = images.new_zeros(1, 1, height, width)
        per_pass = max(1, self.batch_size // len(images))
        for chunk in _chunks(places, per_pass):
            crops = [images[..., top : top + window.height, left : left + window.width] for top, left in chunk]
            logits = network(torch.cat(crops))
            if total is None:
                total = logits.new_zeros(len(images), logits.shape[1], height, width)
            for (top, left), part in zip(chunk, logits.split(len(images)), strict=True):
                total[..., top : top + window.height, left : left + window.width] += part
                counts[..., top : top + window.height, left : left + window.width] += 1
        assert total is not None
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
