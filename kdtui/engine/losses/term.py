"""What a term of the loss is: a module that turns outputs and labels into its share of an optimizer step.

A term sums over what its ``scope`` says and divides by the mass of the *whole* optimizer step, over all micro-batches
and ranks, so that accumulation and DDP change nothing. The mass of most terms is the number of valid pixels or images,
which every :class:`StepShare` holds; a term with another mass computes it in ``masses``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import DistillationTerm, SupervisedTerm

Scope = Literal["pixels", "batch"]


@dataclass(frozen=True)
class Labels:
    """What is known of the images of a micro-batch, on the device of the outputs.

    Attributes:
        masks: i64 [B,H,W], classes.
        ignore_index: Label of the pixels that contribute to no term.
    """

    masks: Tensor
    ignore_index: int

    @cached_property
    def valid(self) -> Tensor:
        """Bool [B,H,W]: the pixels that count."""
        return self.masks != self.ignore_index


@dataclass(frozen=True)
class StepShare:
    """What the whole optimizer step holds, so that one micro-batch knows its share of it.

    Attributes:
        valid_pixels: Valid pixels over all micro-batches and ranks, at least 1.
        images: Images over all micro-batches and ranks.
        world_size: Ranks; DDP averages gradients over them, so each rank's sum is multiplied back.
        masses: What the term's ``masses`` returned, summed over all micro-batches and ranks.
    """

    valid_pixels: float
    images: int
    world_size: int = 1
    masses: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def pixels(self) -> float:
        """What a sum over the valid pixels of a micro-batch is divided by."""
        return self.valid_pixels / self.world_size

    def cells(self, labels: Labels, student_map: Tensor) -> float:
        """What a sum over the cells of a map, each weighted by :func:`valid_cells`, is divided by.

        Cells are of equal size, so the sum of their shares is known from the number of valid pixels.
        """
        return self.pixels * student_map[0, 0].numel() / labels.masks[0].numel()

    def mass(self, name: str) -> Tensor:
        """What a sum that has this mass is divided by; never 0."""
        return self.masses[name].clamp(min=torch.finfo(torch.float32).tiny) / self.world_size

    def mean_of_images(self, per_image: Tensor) -> Tensor:
        """The part of the mean over all images of the step that these [B] values are."""
        return per_image.sum() * self.world_size / self.images


class SupervisedLoss(nn.Module):
    """Base of supervised terms.

    Args:
        table: Its keys.

    Attributes:
        scope: ``pixels`` where the value is the same however a step is cut, ``batch`` where statistics of a micro-batch
            are part of it.
    """

    scope: ClassVar[Scope] = "pixels"

    def __init__(self, table: SupervisedTerm) -> None:
        super().__init__()

    def masses(self, labels: Labels) -> dict[str, Tensor]:
        """Scalars to sum over the step before the first backward pass; by default none."""
        return {}

    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """The unweighted loss of one micro-batch as its share of the step; a scalar with graph."""
        raise NotImplementedError


class DistillationLoss(nn.Module):
    """Base of distillation terms; built from its table and the channels of what it reads.

    A projection is a submodule: it is trained with the student, restored by a resume and never exported.

    Args:
        table: Its keys, with the temperature it is computed at.
        student_channels: Channels of what ``table.student_needs`` names.
        teacher_channels: Channels of what ``table.teacher_needs`` names.

    Attributes:
        scope: As of :class:`SupervisedLoss`.
    """

    scope: ClassVar[Scope] = "pixels"

    def __init__(
        self, table: DistillationTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__()

    def masses(self, teacher: Outputs, labels: Labels) -> dict[str, Tensor]:
        """Scalars to sum over the step before the first backward pass; by default none.

        A term that defines it makes the teacher answer about all micro-batches of a step first, and keeps those outputs
        in memory until they are used.
        """
        return {}

    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """The unweighted loss of one micro-batch as its share of the step.

        Args:
            student: With graph.
            teacher: Detached, in f32.
            labels: Of the same images.
            share: Of the optimizer step this micro-batch belongs to.

        Returns:
            Scalar with graph.
        """
        raise NotImplementedError


def at_least_f32(values: Tensor) -> Tensor:
    """The same values in f32, or in f64 where they are."""
    return values if values.dtype == torch.float64 else values.float()


def same_grid(teacher_map: Tensor, student_map: Tensor) -> Tensor:
    """The teacher's map [B,C,h,w], resized bilinearly to the student's grid where it differs."""
    if teacher_map.shape[-2:] == student_map.shape[-2:]:
        return teacher_map
    return F.interpolate(teacher_map, size=student_map.shape[-2:], mode="bilinear", align_corners=False)


def valid_cells(valid: Tensor, student_map: Tensor) -> Tensor:
    """The share of valid pixels in each cell of a map.

    Args:
        valid: bool [B,H,W].
        student_map: [B,C,h,w]; its dtype is the result's.

    Returns:
        [B,h,w], in [0, 1].
    """
    height, width = student_map.shape[-2:]
    shares = F.adaptive_avg_pool2d(valid.unsqueeze(1).to(student_map.dtype), (height, width))
    return shares.squeeze(1)


def projection(student_channels: int, teacher_channels: int) -> nn.Module:
    """What takes the student's channels to the teacher's: nothing, or a 1x1 convolution."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)
