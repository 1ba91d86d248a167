"""The kind of network for segmentation-models-pytorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from torch import nn

from kdtui.engine.models import create, stride
from kdtui.engine.network import NetworkKind
from kdtui.engine.student_weights import encoder_tensors, load_weights
from kdtui.errors import ModelError
from kdtui.profile import Model
from kdtui.profile.base import TaskName
from kdtui.text import counted

_DEPTHWISE = ("efficientnet", "mobilenet", "mobileone", "ghostnet", "mnasnet", "xception", "fbnet", "edgenext", "lcnet")
"""Parts of the names of encoders with depthwise convolutions."""


class SmpNetwork(NetworkKind):
    """A network of segmentation-models-pytorch: any architecture with any encoder."""

    any_channels = True
    table: Model

    @property
    def depthwise(self) -> bool:
        """Whether its encoder has depthwise convolutions."""
        return any(family in self.table.encoder for family in _DEPTHWISE)

    @property
    def stride(self) -> int:
        """The stride of the encoder's last stage."""
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
        """See :func:`kdtui.engine.models.create`.

        Raises:
            ModelError: It cannot be built, or a sigmoid output is set for other than two classes.
        """
        table = self.table if download else self.table.model_copy(update={"encoder_weights": "none"})
        channels = table.out_channels(task, classes)
        if table.binary == "sigmoid" and channels != 1:
            raise ModelError(
                "a sigmoid output needs two classes",
                where="student.binary",
                found=f"a {task} task with {classes} classes",
                allowed="sigmoid for a semantic task with two classes",
                hint="--set student.binary=softmax",
            )
        return create(table, channels=channels, in_channels=self.channels)

    def load_weights(self, network: nn.Module, classes: Sequence[str]) -> str:
        """See the base class."""
        if self.table.weights is not None:
            return load_weights(network, self.table, classes)
        if self.table.encoder_weights == "none":
            return ""
        return f"{self.table.encoder_weights} weights of {self.encoder}: {counted(encoder_tensors(network), 'tensor')}"

    def facts(self) -> dict[str, Any]:
        """The description, including depth and decoder widths."""
        widths = self.table.decoder_channels
        return super().facts() | {
            "encoder_depth": self.table.encoder_depth,
            "decoder_channels": widths and json.dumps(widths),
        }
