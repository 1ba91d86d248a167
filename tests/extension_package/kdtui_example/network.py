"""A network of three layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from kdtui.engine.data import Batch
from kdtui.engine.models import Outputs, out_channels
from kdtui.engine.network import GraphInput, NetworkKind
from kdtui.engine.taps import TapPoint
from kdtui.profile.base import TaskName

from .tables import PlainNetwork


class Plain(nn.Module):
    """Half the resolution, then the logits."""

    def __init__(self, width: int, channels: int, extra_inputs: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.extra_inputs = extra_inputs
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, channels, 1)

    def forward(self, images: Tensor, brightness: Tensor | None = None) -> Tensor:
        """Raw logits [B,C,H,W] of images [B,3,H,W] and their means [B]."""
        if brightness is not None:
            images = images - brightness.view(-1, 1, 1, 1)
        return F.interpolate(self.head(self.body(images)), scale_factor=2.0, mode="bilinear", align_corners=False)

    def tap_points(self) -> dict[str, TapPoint]:
        """Where terms may read features."""
        return {"body": TapPoint(self.body, lambda output: output)}


class Recall(Metric):
    """The share of the pixels of the last class that have it in the prediction."""

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Count the pixels of a batch."""
        last = outputs.main.shape[1] - 1
        truth = batch.masks == last
        self.counts += torch.stack([(truth & (outputs.main.argmax(dim=1) == last)).sum(), truth.sum()])

    def compute(self) -> dict[str, Tensor]:
        """One scalar."""
        return {"recall": self.counts[0] / self.counts[1]}


class PlainKind(NetworkKind):
    """Builds it."""

    table: PlainNetwork
    score = "recall"

    @property
    def stride(self) -> int:
        """It halves the resolution once."""
        return 2

    def build(self, task: TaskName, classes: int, *, download: bool) -> nn.Module:
        """There are no published weights."""
        extra_inputs = ("brightness",) if self.table.brightness else ()
        return Plain(self.table.width, out_channels(task, classes), extra_inputs)

    def metrics(self, classes: Sequence[str]) -> tuple[Metric, ...]:
        """One of its own."""
        return (Recall(),)

    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The means, one per image."""
        return (GraphInput("brightness", torch.zeros),) if self.table.brightness else ()
