"""Kinds of student networks: one table each, ``[student]``. The network is built in the engine.

A further kind is a subclass of :class:`NetworkTable` here or in another package (entry-point group
``kdtui.networks``), and a :class:`kdtui.engine.network.NetworkKind` that ``implementation`` names.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kdtui import plugins
from kdtui.profile.base import Int, ProfileTable, TaskName

HIERARCHICAL_CHANNELS = 4
"""Output channels of a network for a hierarchical task: two 2-way decisions."""
Width = Annotated[int, Field(strict=True, ge=1, le=8192)]


class NetworkTable(ProfileTable):
    """Base of the tables of network kinds. A kind adds ``kind``, its keys, and ``implementation``."""

    implementation: ClassVar[str]
    """``package.module:attribute`` of the kind: a subclass of ``kdtui.engine.network.NetworkKind``."""

    @property
    def label(self) -> str:
        """Name of the network in lists."""
        return str(type(self).model_fields["kind"].default)

    def catalog_arguments(self) -> dict[str, Any] | None:
        """Arguments of :func:`kdtui.catalog.cost`; None for networks that are not in the catalog."""
        return None

    def out_channels(self, task: TaskName, classes: int) -> int:
        """Output channels: two 2-way decisions for a hierarchical task, otherwise one per class.

        Args:
            task: Task of the data.
            classes: Number of its classes.
        """
        return HIERARCHICAL_CHANNELS if task == "hierarchical" else classes


class Model(NetworkTable):
    """The student network, with the names of segmentation-models-pytorch.

    Attributes:
        kind: Kind of the network; the other keys are those of `smp`.
        decoder_channels: Decoder widths, which have a large effect on speed: a list for Unet, Unet++, MAnet; otherwise
            a number.
        binary: Output for two classes: ``sigmoid`` has one channel, the logit of the second class; ``softmax``, the
            default, has one per class.
        encoder_weights: ``imagenet`` downloads pretrained weights; ``none`` trains from scratch.
    """

    implementation = "kdtui.engine.smp_network:SmpNetwork"

    # Not written, so that profiles of earlier and later runs are equal.
    kind: Literal["smp"] = Field("smp", exclude=True)
    architecture: str = "Unet"
    encoder: str = "timm-efficientnet-b0"
    encoder_weights: Literal["none", "imagenet"] = "none"
    encoder_depth: Int = Field(5, ge=3, le=5)
    decoder_channels: Width | tuple[Width, ...] | None = None
    binary: Literal["sigmoid", "softmax"] | None = None

    @property
    def label(self) -> str:
        """The encoder."""
        return self.encoder

    def out_channels(self, task: TaskName, classes: int) -> int:
        """As the base class, but one for two classes with ``binary = "sigmoid"``."""
        one = self.binary == "sigmoid" and task == "semantic" and classes == 2
        return 1 if one else super().out_channels(task, classes)

    def catalog_arguments(self) -> dict[str, Any]:
        """The arguments that determine its size, except the output channels."""
        return {
            "encoder": self.encoder,
            "architecture": self.architecture,
            "decoder_channels": self.decoder_channels,
            "encoder_depth": self.encoder_depth,
        }


BUILT_IN: tuple[type[NetworkTable], ...] = (Model,)
"""The built-in kinds of networks; the first is the default of ``student.kind``."""


def network_kinds() -> tuple[type[NetworkTable], ...]:
    """The tables of all kinds of networks, built-in ones first."""
    return (*BUILT_IN, *plugins.tables(plugins.NETWORKS, NetworkTable, "kind", built_in=BUILT_IN))
