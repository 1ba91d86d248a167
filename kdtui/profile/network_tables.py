"""Kinds of student networks: one table each, ``[student]``. The network is built in the engine.

A further kind is a subclass of :class:`NetworkTable` here or in another package (entry-point group
``kdtui.networks``), and a :class:`kdtui.engine.network.NetworkKind` that ``implementation`` names.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kdtui import plugins
from kdtui.profile.base import Int, Table

Width = Annotated[int, Field(strict=True, ge=1, le=8192)]


class NetworkTable(Table):
    """What every kind of network has. A kind adds ``kind``, its own keys, and ``implementation``."""

    implementation: ClassVar[str]
    """``package.module:attribute`` of the kind: a subclass of ``kdtui.engine.network.NetworkKind``."""

    @property
    def label(self) -> str:
        """What names the network in lists."""
        return str(type(self).model_fields["kind"].default)

    def catalog_arguments(self) -> dict[str, Any] | None:
        """What :func:`kdtui.catalog.cost` must know to count parameters; None for networks that it does not know."""
        return None


class Model(NetworkTable):
    """The student network, as segmentation-models-pytorch names its parts.

    Attributes:
        kind: Which kind of network it is; the other keys are those of `smp`.
        decoder_channels: Decoder width; the lever on speed. A list for Unet, Unet++, MAnet; a number elsewhere.
        encoder_weights: ``imagenet`` downloads; ``none`` starts from scratch.
    """

    implementation = "kdtui.engine.smp_network:SmpNetwork"

    # Not written, so that profiles of earlier and later runs are equal.
    kind: Literal["smp"] = Field("smp", exclude=True)
    architecture: str = "Unet"
    encoder: str = "timm-efficientnet-b0"
    encoder_weights: Literal["none", "imagenet"] = "none"
    encoder_depth: Int = Field(5, ge=3, le=5)
    decoder_channels: Width | tuple[Width, ...] | None = None

    @property
    def label(self) -> str:
        """The encoder."""
        return self.encoder

    def catalog_arguments(self) -> dict[str, Any]:
        """All that decides its size, but for the output's channels."""
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
