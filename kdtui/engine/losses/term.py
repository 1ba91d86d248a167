"""Base classes of loss terms: modules that compute their share of an optimizer step from outputs and labels.

A term is a sum divided by the mass of the *whole* optimizer step, over all micro-batches and ranks, so that the result
does not depend on gradient accumulation and DDP. The mass of most terms is the number of valid pixels or images, which
:class:`StepShare` provides; a term with another mass computes it in ``masses``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.models import Outputs
from kdtui.profile.term_tables import DistillationTerm, OutputTerm, SupervisedTerm


@dataclass(frozen=True)
class Labels:
    """Labels of a micro-batch, on the device of the outputs.

    Attributes:
        masks: i64 [B,H,W], classes.
        ignore_index: Label of the pixels that do not contribute to any term.
        extras: What the batch carries beside images and labels, by name.
        pictures: Of whole pictures, if label maps are of parts of them: for terms on outputs with one map per picture.
    """

    masks: Tensor
    ignore_index: int
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    pictures: Labels | None = None

    @cached_property
    def valid(self) -> Tensor:
        """Bool [B,H,W]: pixels without the ignore index."""
        return self.masks != self.ignore_index


@dataclass(frozen=True)
class StepShare:
    """Totals of the whole optimizer step, from which the share of one micro-batch is computed.

    Attributes:
        valid_pixels: Valid pixels over all micro-batches and ranks, at least 1.
        images: Images over all micro-batches and ranks, at least 1; label maps, if a batch has another number of them.
        world_size: Number of ranks; DDP averages gradients over them, so each rank's sum is multiplied by it.
        masses: Results of the term's ``masses``, summed over all micro-batches and ranks.
        step: Number of optimizer steps before this one.
        epoch: Number of the epoch, from 1.
        pictures: The same of whole pictures, for :attr:`Labels.pictures`.
    """

    valid_pixels: float
    images: int
    world_size: int = 1
    masses: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 0
    epoch: int = 1
    pictures: StepShare | None = None

    @property
    def pixels(self) -> float:
        """Divisor of a sum over the valid pixels of a micro-batch."""
        return self.valid_pixels / self.world_size

    def cells(self, labels: Labels, student_map: Tensor) -> float:
        """Divisor of a sum over the cells of a map, weighted by :func:`valid_cells`.

        Cells have equal size, so the sum of the weights follows from the number of valid pixels.
        """
        return self.pixels * student_map.shape[-2:].numel() / labels.masks.shape[-2:].numel()

    def mass(self, name: str) -> Tensor:
        """Divisor of a sum with this mass; never 0."""
        return (self.masses[name] / self.world_size).clamp(min=torch.finfo(torch.float32).tiny)

    def mean_of_images(self, per_image: Tensor) -> Tensor:
        """The contribution of these values [B] to the mean over all images of the step."""
        return per_image.sum() * self.world_size / self.images


class SupervisedLoss(nn.Module, ABC):
    """Base of supervised terms.

    A term whose table has ``student_needs`` is built with the channels of the student's outputs as second argument. A
    submodule is trained with the student, restored on resume and not exported.

    Args:
        table: Its keys; weights of classes are numbers.
    """

    def __init__(self, table: SupervisedTerm) -> None:
        super().__init__()

    def masses(self, labels: Labels) -> dict[str, Tensor]:
        """Scalars to sum over the step before the first backward pass; by default none."""
        return {}

    @abstractmethod
    def forward(self, student: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """The unweighted loss of one micro-batch as its share of the step: a scalar with graph."""


class DistillationLoss(nn.Module, ABC):
    """Base of distillation terms, built from its table and the channels of the outputs that it reads.

    A projection is a submodule: it is trained with the student, restored on resume and not exported.

    Args:
        table: Its keys, with the temperature it is computed at.
        student_channels: Channels of the outputs in ``table.student_needs``.
        teacher_channels: Channels of the outputs in ``table.teacher_needs``.

    Attributes:
        temperature: T of this epoch, which a schedule changes unless the table has its own; 1 for a term without T.
    """

    def __init__(
        self, table: DistillationTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.temperature: float = getattr(table, "temperature", None) or 1.0

    def masses(self, teacher: Outputs, labels: Labels) -> dict[str, Tensor]:
        """Scalars to sum over the step before the first backward pass; by default none.

        If a term defines it, the teacher processes all micro-batches of a step first, and its outputs are kept in
        memory until they are used.
        """
        return {}

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, labels: Labels, share: StepShare) -> Tensor:
        """The unweighted loss of one micro-batch as its share of the step.

        Args:
            student: Outputs of the student, with graph.
            teacher: Outputs of the teacher, detached, in f32.
            labels: Labels of the same images.
            share: Totals of the optimizer step.

        Returns:
            Scalar with graph.
        """


class OutputLoss(DistillationLoss):
    """Base of terms that compare one output of the student with one of the teacher.

    If their widths differ, ``projection`` maps the student's channels to the teacher's: a 1x1 convolution without batch
    norm, whose statistics would depend on the micro-batch.

    Attributes:
        projects: Whether channels are compared one by one; otherwise there is no projection.
    """

    projects: ClassVar[bool] = True

    def __init__(
        self, table: OutputTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        super().__init__(table, student_channels, teacher_channels)
        self._on, self._teacher_on = table.on, table.teacher_on or table.on
        channels, wanted = student_channels[self._on], teacher_channels[self._teacher_on]
        self.projection: nn.Module = (
            nn.Conv2d(channels, wanted, 1) if self.projects and channels != wanted else nn.Identity()
        )

    def maps(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """The projected map of the student and that of the teacher, [B,C,h,w] on the student's grid, at least f32."""
        student_map = self.projection(at_least_f32(student[self._on]))
        return student_map, same_grid(at_least_f32(teacher[self._teacher_on]), student_map)


def at_least_f32(values: Tensor) -> Tensor:
    """Convert to f32, unless the values are f64."""
    return values if values.dtype == torch.float64 else values.float()


def same_grid(teacher_map: Tensor, student_map: Tensor) -> Tensor:
    """The teacher's map [B,C,h,w], resized bilinearly to the student's grid if it differs."""
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


def z_scores(values: Tensor, cells: Tensor, *, smallest: float = 0.0, added: float = 0.0) -> Tensor:
    """Standardise each channel over the cells of all images.

    Args:
        values: [B,C,h,w], at least f32.
        cells: Weights of the cells, [B,h,w], such as the result of :func:`valid_cells`.
        smallest: Lower bound of the standard deviation, which is unbiased.
        added: Added to the standard deviation.
    """
    weights, over = cells.unsqueeze(1), (0, 2, 3)
    tiny = torch.finfo(values.dtype).tiny
    count = weights.sum()
    centred = values - (values * weights).sum(over, keepdim=True) / count.clamp(min=tiny)
    variance = (centred.square() * weights).sum(over, keepdim=True) / (count - 1).clamp(min=1)
    # The gradient of a root at 0 is infinite; that of the clamp is 0.
    return centred / (variance.clamp(min=max(smallest**2, tiny)).sqrt() + added)
