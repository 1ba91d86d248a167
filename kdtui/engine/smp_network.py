"""The networks of segmentation-models-pytorch as a kind."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from kdtui.engine.models import create, out_channels, stride
from kdtui.engine.network import NetworkKind
from kdtui.profile import Model
from kdtui.profile.base import TaskName

_DEPTHWISE = ("efficientnet", "mobilenet", "mobileone", "ghostnet", "mnasnet", "xception", "fbnet", "edgenext", "lcnet")
"""Parts of the names of encoders that are made of depthwise convolutions."""


class SmpNetwork(NetworkKind):
    """Any architecture with any encoder."""

    table: Model

    @property
    def depthwise(self) -> bool:
        """Whether its encoder is made of depthwise convolutions."""
        return any(family in self.table.encoder for family in _DEPTHWISE)

    @property
    def stride(self) -> int:
        """That of the encoder's last stage."""
        return stride(self.table)

    @property
    def architecture(self) -> str:
        """As smp calls it."""
        return self.table.architecture

    @property
    def encoder(self) -> str:
        """As smp calls it."""
        return self.table.encoder

    def build(self, task: TaskName, classes: int, *, download: bool) -> nn.Module:
        """See :func:`kdtui.engine.models.create`."""
        table = self.table if download else self.table.model_copy(update={"encoder_weights": "none"})
        return create(table, channels=out_channels(task, classes))

    def facts(self) -> dict[str, Any]:
        """The keys of its table."""
        widths = self.table.decoder_channels
        return super().facts() | {
            "encoder_depth": self.table.encoder_depth,
            "decoder_channels": widths and json.dumps(widths),
        }
