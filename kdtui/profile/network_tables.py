"""Kinds of student networks: one table each, ``[student]``. The network is built in the engine.

A further kind is a subclass of :class:`NetworkTable` here or in another package (entry-point group
``kdtui.networks``), and a :class:`kdtui.engine.network.NetworkKind` that ``implementation`` names.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from kdtui import plugins
from kdtui.profile.base import Int, PathTo, ProfileTable, TaskName
from kdtui.profile.find import OF_RUN

HIERARCHICAL_CHANNELS = 4
"""Output channels of a network for a hierarchical task: two 2-way decisions."""
PUBLISHED = ("none", "imagenet")
"""The values of ``student.weights`` that are written as ``encoder_weights``."""
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
        encoder_weights: As ``weights`` for ``none`` and ``imagenet``, as which these two are written.
        weights: Initial weights: ``none`` (the default), ``imagenet`` (published ones of the encoder, downloaded unless
            they are in the cache), a checkpoint file, or ``run:NAME`` for the best checkpoint of a run.
        weights_part: What is loaded from a checkpoint: ``all`` (the default; every tensor has to match) or ``encoder``.
    """

    implementation = "kdtui.engine.smp_network:SmpNetwork"

    # Not written, so that profiles of earlier and later runs are equal.
    kind: Literal["smp"] = Field("smp", exclude=True)
    architecture: str = "Unet"
    encoder: str = "timm-efficientnet-b0"
    encoder_weights: Literal["none", "imagenet"] = "none"
    weights: Annotated[str, Field(min_length=1), PathTo("FILE", OF_RUN)] | None = None
    weights_part: Literal["all", "encoder"] | None = None
    encoder_depth: Int = Field(5, ge=3, le=5)
    decoder_channels: Width | tuple[Width, ...] | None = None
    binary: Literal["sigmoid", "softmax"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _published_weights(cls, table: Any) -> Any:
        """Write published weights as ``encoder_weights``, so that profiles of earlier and later runs are equal."""
        if not isinstance(table, dict) or table.get("weights") not in PUBLISHED:
            return table
        return {
            **{key: value for key, value in table.items() if key not in ("weights", "weights_part")},
            "encoder_weights": table["weights"],
        }

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> Model:
        if self.weights is not None and self.encoder_weights != "none":
            raise ValueError(
                f"found weights = '{self.weights}' and encoder_weights = '{self.encoder_weights}'; allowed: one of them"
            )
        if self.weights_part is not None and self.weights is None:
            raise ValueError("found weights_part without a checkpoint; allowed: weights = a file or run:NAME")
        return self

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
