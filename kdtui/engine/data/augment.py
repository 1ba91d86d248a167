"""Augmentation of image and mask together, determined by the seed of the view.

torchvision's transforms use torch's global generator, so each call runs in a fork of it with the view's seed: a view is
the same in any process and order, and the random numbers of the training are not affected.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kdtui.engine.data.protocol import IGNORE_INDEX, MEAN_BYTES
from kdtui.engine.torchvision_compat import ensure_torchvision
from kdtui.profile.base import TaskName

ensure_torchvision()

from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import InterpolationMode, v2  # noqa: E402

Level = Literal["none", "light", "heavy"]

OVERSIZE: dict[Level, float] = {"none": 1.0, "light": 1.0, "heavy": 1.5}
"""Size of cached samples relative to the network's input, to provide real pixels for zooming in."""


class Augment:
    """``light``: flip, brightness, contrast. ``heavy``: also rotation, shift, shear, zoom, colour jitter and blur.

    Args:
        level: ``light`` or ``heavy``.
        task: In ``hierarchical`` crops the target is identified by filling the frame, so zooming is limited.
        height: Height of the output.
        width: Width of the output.
    """

    def __init__(self, level: Level, task: TaskName, height: int, width: int) -> None:
        flip = v2.RandomHorizontalFlip(0.5)
        if level == "light":
            self._transform = v2.Compose([flip, v2.ColorJitter(brightness=0.2, contrast=0.2)])
            return
        turn = v2.RandomAffine(
            degrees=12,
            translate=(0.06, 0.06),
            scale=(0.85, 1.1),
            shear=4,
            interpolation=InterpolationMode.NEAREST,
            fill={tv_tensors.Image: MEAN_BYTES, tv_tensors.Mask: IGNORE_INDEX},
        )
        ratio = width / height
        zoom = v2.RandomResizedCrop(
            (height, width),
            scale=(0.65 if task == "hierarchical" else 0.35, 1.0),
            ratio=(0.9 * ratio, 1.1 * ratio),
            antialias=True,
        )
        colours = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)  # hue would take as long as the rest
        blur = v2.RandomApply([v2.GaussianBlur(3, sigma=(0.1, 1.2))], p=0.2)
        self._transform = v2.Compose([flip, v2.RandomApply([turn], p=0.5), zoom, colours, blur])

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Augment a sample with the view's seed."""
        # devices=[]: torch.manual_seed would also seed every GPU.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            out_image, out_mask = self._transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return out_image.as_subclass(Tensor), out_mask.as_subclass(Tensor)
