"""Kinds of student networks: one table each, ``[student]``. The network is built in the engine.

A further kind is a subclass of :class:`NetworkTable` here or in another package (entry-point group
``kdtui.networks``), and a :class:`kdtui.engine.network.NetworkKind` that ``implementation`` names.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kdtui import plugins
from kdtui.errors import UsageError
from kdtui.profile.base import Bool, Int, PathTo, ProfileTable, TaskName
from kdtui.profile.data_tables import DataTable
from kdtui.profile.find import OF_RUN
from kdtui.profile.limits import MOST_EPOCHS

HIERARCHICAL_CHANNELS = 4
"""Output channels of a network for a hierarchical task: two 2-way decisions."""
PUBLISHED = ("none", "imagenet")
"""The values of ``student.weights`` that are written as ``encoder_weights``."""
Width = Annotated[int, Field(strict=True, ge=1, le=8192)]


class NetworkTable(ProfileTable):
    """Base of the tables of network kinds. A kind adds ``kind``, its keys, and ``implementation``."""

    implementation: ClassVar[str]
    """``package.module:attribute`` of the kind: a subclass of ``kdtui.engine.network.NetworkKind``."""
    regions: ClassVar[bool] = False
    """Whether it has one output per box of a picture, and needs data with boxes."""

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

    def check_data(self, data: DataTable) -> None:
        """Check that the network can be trained with these data, as far as the tables tell.

        Raises:
            UsageError: It cannot.
        """
        boxes = bool(getattr(data, "regions", False))
        if boxes != self.regions:
            raise UsageError(
                f"networks of kind '{type(self).model_fields['kind'].default}' "
                + ("need data with boxes" if self.regions else "do not take data with boxes"),
                where="student.kind, data.sample",
                found=f'sample = "{getattr(data, "sample", "crop")}" of {type(data).model_fields["kind"].default}',
                allowed='sample = "image"' if self.regions else 'sample = "crop", or student.kind = "roi"',
                hint=f"--set data.sample={'image' if self.regions else 'crop'}",
            )


class SmpTable(NetworkTable):
    """Keys of a network of segmentation-models-pytorch, with its names.

    Attributes:
        decoder_channels: Decoder widths, which have a large effect on speed: a list for Unet, Unet++, MAnet; otherwise
            a number.
        binary: Output for two classes: ``sigmoid`` has one channel, the logit of the second class; ``softmax``, the
            default, has one per class.
        encoder_weights: As ``weights`` for ``none`` and ``imagenet``, as which these two are written.
        weights: Initial weights: ``none`` (the default), ``imagenet`` (published ones of the encoder, downloaded unless
            they are in the cache), a checkpoint file, or ``run:NAME`` for the best checkpoint of a run.
        weights_part: What is loaded from a checkpoint: ``all`` (the default; every tensor has to match) or ``encoder``.
    """

    kind: str
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
    def _one_source_of_weights(self) -> Self:
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


class Model(SmpTable):
    """The student network, with the names of segmentation-models-pytorch.

    Attributes:
        kind: Kind of the network; the other keys are those of `smp`.
    """

    implementation = "kdtui.engine.smp_network:SmpNetwork"

    # Not written, so that profiles of earlier and later runs are equal.
    kind: Literal["smp"] = Field("smp", exclude=True)

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


Side = Annotated[int, Field(strict=True, ge=8, le=1024)]


class RoiModel(SmpTable):
    """One pass over a picture, and a head for each box: background, target and others in a mask per box.

    Attributes:
        kind: Kind of the network. Stage 1 separates foreground and background of the whole picture with a network of
            segmentation-models-pytorch, which the keys of `smp` describe; the head reads its output and the pixels
            in each box.
        weights: Initial weights of stage 1: as for `smp`. A checkpoint may be that of a network for two classes, or of
            a network of kind `roi`, of which all weights are loaded.
        binary: Output of stage 1; default: one channel, the logit of the foreground.
        stage1_epochs: Epochs in which stage 1 alone is trained; then it is frozen, and the head is trained. 0: it is
            frozen from the start. Default: both are trained together.
        roi: Height and width of the grid on which the head reads a box, in cells.
        mask: Height and width of the mask of a box: 1, 2 or 4 times those of `roi`.
        head_channels: Width of the head's features.
        head_depth: Number of times that the decision between background and foreground halves its maps.
        rgb_features: Whether the head reads the pixels of the picture, or only the output of stage 1.
        attention: Whether the decision between target and others has spatial attention and attention of channels.
        gate: Whether the first decision scales the features of the second one.
    """

    implementation = "kdtui.engine.roi.network:RoiKind"
    regions = True

    kind: Literal["roi"] = "roi"
    stage1_epochs: Int | None = Field(None, ge=0, le=MOST_EPOCHS)
    roi: tuple[Side, ...] = Field((80, 60), min_length=2, max_length=2)
    mask: tuple[Side, ...] = Field((160, 120), min_length=2, max_length=2)
    head_channels: Int = Field(64, ge=8, le=1024)
    head_depth: Int = Field(3, ge=1, le=5)
    rgb_features: Bool = True
    attention: Bool = True
    gate: Bool = True

    @property
    def factor(self) -> int:
        """Size of the masks divided by that of the grid."""
        return self.mask[0] // self.roi[0]

    def catalog_arguments(self) -> None:
        """The catalog has networks of smp only."""
        return

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if [side * self.factor for side in self.roi] != list(self.mask) or self.factor not in (1, 2, 4):
            sizes = " or ".join(str([side * factor for side in self.roi]) for factor in (1, 2, 4))
            raise ValueError(f"found mask = {list(self.mask)} with roi = {list(self.roi)}; allowed: mask = {sizes}")
        smallest = 2 ** (self.head_depth + 1)
        if min(self.roi) < smallest:
            raise ValueError(
                f"found roi = {list(self.roi)} with head_depth = {self.head_depth}; "
                f"allowed: sides of at least {smallest}, or a smaller head_depth"
            )
        return self

    def check_data(self, data: DataTable) -> None:
        """As the base class; the label maps of boxes need the size of the masks."""
        super().check_data(data)
        size = tuple(getattr(data, "mask_size", self.mask))
        if size != self.mask:
            raise UsageError(
                "the label maps of the data have another size than the masks of the network",
                where="data.mask_size, student.mask",
                found=f"{list(size)}, {list(self.mask)}",
                allowed="the same size",
                hint=f"--set 'data.mask_size={list(self.mask)}'",
            )


BUILT_IN: tuple[type[NetworkTable], ...] = (Model, RoiModel)
"""The built-in kinds of networks; the first is the default of ``student.kind``."""


def network_kinds() -> tuple[type[NetworkTable], ...]:
    """The tables of all kinds of networks, built-in ones first."""
    return (*BUILT_IN, *plugins.tables(plugins.NETWORKS, NetworkTable, "kind", built_in=BUILT_IN))
