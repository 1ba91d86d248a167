"""A network of three layers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.engine.models import out_channels
from kdtui.engine.network import NetworkKind
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


class PlainKind(NetworkKind):
    """Builds it."""

    table: PlainNetwork

    @property
    def stride(self) -> int:
        """It halves the resolution once."""
        return 2

    def build(self, task: TaskName, classes: int, *, download: bool) -> nn.Module:
        """There are no published weights."""
        extra_inputs = ("brightness",) if self.table.brightness else ()
        return Plain(self.table.width, out_channels(task, classes), extra_inputs)
