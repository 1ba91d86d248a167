"""The interface of a kind of student network, and the student of a profile.

A network takes normalised images f32 [B,C,H,W], H and W multiples of the kind's stride, and returns raw logits: one
channel per class [B,K,H,W] for a semantic task, the two decisions [B,4,H,W] for a hierarchical one; with its own
``compose`` also tensors of other sizes by name. It may define:

- ``extra_inputs``: names of further inputs, keyword arguments of its ``forward`` with defaults; the dataset makes them
  (``SegmentationDataset.extras``). ``smallest_inputs`` returns those, by name, with which a forward and a backward pass
  through all layers cost least; default: none.
- ``compose`` and ``logit_channels``: how its raw output is read, see :mod:`kdtui.engine.models`.
- ``tap_points``: its features that a distillation term may read, see :mod:`kdtui.engine.taps`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from kdtui import plugins
from kdtui.engine.data import Batch, SegmentationDataset
from kdtui.engine.identify import RGB
from kdtui.engine.metrics import plain_values
from kdtui.engine.models import (
    UNWORKABLE,
    freeze_unused,
    inputs_of,
    one_line,
    outputs_of,
    set_input_channels,
)
from kdtui.engine.shapes import shapes_of
from kdtui.engine.torchmetrics import Metric
from kdtui.errors import KdtuiError, ModelError
from kdtui.events import STANDARD_SCALARS
from kdtui.export_options import ExportOptions
from kdtui.palette import RGB as RGBColour
from kdtui.profile import NetworkTable, Profile
from kdtui.profile.base import TaskName


@dataclass(frozen=True)
class GraphInput:
    """An input of exported graphs beside ``images``.

    Verification and calibration feed it with what the samples of the data carry under this name.

    Attributes:
        name: One of the network's ``extra_inputs``.
        example: Makes a tensor for tracing from the number of images, with at least two entries along each axis of its
            own: one would be traced as a constant.
        axes: Name of each axis that varies, by index: ``batch`` for the images, or a name of its own.
    """

    name: str
    example: Callable[[int], Tensor]
    axes: Mapping[int, str] = field(default_factory=lambda: {0: "batch"})


@dataclass(frozen=True)
class GraphOutput:
    """An output of exported graphs.

    Attributes:
        name: Its name in the file.
        source: Its name in :class:`kdtui.engine.models.Outputs`; ``logits`` is the main one.
        axes: Name of each axis that varies, by index: ``batch``, ``height`` and ``width`` of the images, or that of an
            input.
        logits: Whether it has one channel per class, from which ``--output`` makes probabilities or classes; others are
            written as they are.
    """

    name: str
    source: str
    axes: Mapping[int, str] = field(default_factory=lambda: {0: "batch", 2: "height", 3: "width"})
    logits: bool = True


@dataclass(frozen=True)
class Translation:
    """How exporters write an operator of a network's own (``torch.library.custom_op``).

    Attributes:
        operator: Its qualified name, ``NAMESPACE::NAME``.
        dynamo: Builds the nodes of ONNX with onnxscript, called with the arguments of the operator.
        torchscript: The same for the older exporter: a symbolic function, called with the graph and the arguments.
        opset: The oldest operator set that has these nodes.
    """

    operator: str
    dynamo: Callable[..., Any]
    torchscript: Callable[..., Any]
    opset: int


# Names of the main output. Not "softmax" and "argmax": the dynamo exporter uses these names for values inside the
# graph, and the duplicate name would not be valid ONNX.
MAIN_OUTPUTS = {"logits": "logits", "softmax": "probabilities", "argmax": "classes"}
_PARTS = ("bg_fg", "target_nontarget")


def graph_outputs(task: TaskName, options: ExportOptions) -> tuple[GraphOutput, ...]:
    """The main output and, if the options ask for them, the two decisions of a hierarchical task."""
    parts = _PARTS if options.parts and task == "hierarchical" else ()
    return (GraphOutput(MAIN_OUTPUTS[options.output], "logits"), *(GraphOutput(name, name) for name in parts))


class NetworkKind(ABC):
    """Base of the kinds of networks, created from its table.

    Args:
        table: ``[student]`` of a profile.

    Attributes:
        score: Name of the validation scalar whose largest value determines the best checkpoint.
    """

    score: ClassVar[str] = "miou"
    picture_legend: ClassVar[str] = ""
    """What the colours in the pictures of a run mean; they are laid over the image, except 0. Empty for classes."""
    any_channels: ClassVar[bool] = False
    """Whether networks take images of :attr:`channels` channels; others take three."""
    channels: int = RGB
    """Number of channels of the images."""

    def __init__(self, table: NetworkTable) -> None:
        self.table = table

    @property
    @abstractmethod
    def stride(self) -> int:
        """Height and width of images are padded to a multiple of this."""

    @abstractmethod
    def build(self, task: TaskName, classes: int, *, download: bool) -> nn.Module:
        """Build a network in training mode, initialised with torch's generator.

        Args:
            task: Determines with ``classes`` the channels of the output.
            classes: Number of classes of the task.
            download: Whether published weights may be loaded; False if weights of a checkpoint will be loaded.
        """

    def load_weights(self, network: nn.Module, classes: Sequence[str]) -> str:
        """Load the weights of a checkpoint that the table names; :meth:`build` has loaded published ones.

        Args:
            network: The result of :meth:`build`.
            classes: Class names of the data.

        Returns:
            What the initial weights are; empty if they are random.

        Raises:
            CheckpointError: The checkpoint cannot be read, or its weights do not match.
        """
        return ""

    @property
    def depthwise(self) -> bool:
        """Whether it mainly consists of depthwise convolutions, which a CPU computes slowly in bf16 on small maps."""
        return False

    @property
    def architecture(self) -> str:
        """Name of the network in messages and reports."""
        return self.table.label

    @property
    def encoder(self) -> str:
        """Name of its encoder; empty if it has none."""
        return ""

    @property
    def title(self) -> str:
        """Architecture and encoder."""
        return f"{self.architecture} {self.encoder}".strip()

    def metrics(self, classes: Sequence[str]) -> tuple[Metric, ...]:
        """What an evaluation computes beside the scores of the confusion matrix; by default nothing.

        Each is called as ``update(outputs, batch)`` (:class:`kdtui.engine.models.Outputs` and
        :class:`kdtui.engine.data.Batch`; all on the device of the metric, except ``batch.images``), and its ``compute``
        returns scalars by name. States with ``dist_reduce_fx="sum"`` are exact over ranks; counts need f64 or i64.
        """
        return ()

    def picture_labels(self, labels: Tensor, batch: Batch) -> Tensor:
        """Label maps of a batch, or classes in their form, as integer [B,H,W] of the images' size, for pictures."""
        return labels

    def picture_colours(self, classes: Sequence[RGBColour]) -> Sequence[RGBColour]:
        """The colours of the numbers of :meth:`picture_labels`; by default those of the classes."""
        return classes

    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """The inputs of exported graphs beside images, in order; a network with ``extra_inputs`` declares them here."""
        return ()

    def graph_outputs(self, task: TaskName, options: ExportOptions) -> tuple[GraphOutput, ...]:
        """The outputs of exported graphs; the first has logits, from which the mIoU of the file is computed."""
        return graph_outputs(task, options)

    def freezing(self, network: nn.Module) -> Callable[[int], bool] | None:
        """A function that freezes what is not trained in an epoch, counted from 1, of :meth:`build`'s network.

        It returns whether other parameters are trained than before, and puts frozen parts into eval mode. By default
        None: all parameters are always trained.
        """
        return None

    def check(self, network: nn.Module, profile: Profile) -> None:
        """Check what of a profile prevents its training, before it starts; by default nothing.

        Args:
            network: The result of :meth:`build`, on any device; unchanged.
            profile: The profile.

        Raises:
            KdtuiError: The reason.
        """
        self.table.check_data(profile.data)

    def workloads(self, height: int, width: int) -> Mapping[str, tuple[Tensor, ...]]:
        """Further inputs of one image, in the order of :meth:`graph_inputs`, for which latency is measured, by a name.

        Args:
            height: Height of the image.
            width: Its width.
        """
        return {}

    def parts(self, network: nn.Module, images: Tensor) -> Mapping[str, Callable[[], object]]:
        """Calls of parts of a network in torch whose latency is measured, by a name; by default none.

        Args:
            network: In eval mode.
            images: One image f32 [1,C,H,W], on its device.
        """
        return {}

    def translations(self) -> tuple[Translation, ...]:
        """How exporters write operators of the network's own."""
        return ()

    def facts(self) -> dict[str, Any]:
        """Description of the network in exported files and in the results of ``kdtui measure``."""
        return {
            "architecture": self.architecture,
            "encoder": self.encoder,
            "encoder_depth": None,
            "decoder_channels": None,
        }


def network_kind(table: NetworkTable) -> NetworkKind:
    """The kind of network of a table.

    Raises:
        UsageError: Its implementation cannot be imported.
    """
    kind: NetworkKind = plugins.imported(table.implementation)(table)
    return kind


def stride_of(profile: Profile) -> int:
    """Height and width of the student's input must be divisible by this."""
    return network_kind(profile.student).stride


def check_inputs(network: nn.Module, dataset: SegmentationDataset) -> None:
    """Refuse a network that reads an input which the data do not have.

    Raises:
        ModelError: Names it.
    """
    if getattr(network, "extra_inputs", ()):
        inputs_of(network, dataset.collate([dataset[0, 0]]).extras)


_SCALAR = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def check_metrics(kind: NetworkKind, network: nn.Module, dataset: SegmentationDataset) -> None:
    """Compute the metrics of a kind for one sample.

    Args:
        kind: The kind; one without metrics costs nothing.
        network: Its network, on the CPU.
        dataset: The validation split.

    Raises:
        ModelError: A metric fails, a name is not valid, or the score is none of the names.
    """
    names: set[str] = set()
    metrics = kind.metrics(dataset.classes)
    training = network.training
    try:
        if metrics:
            batch = dataset.collate([dataset[0, 0]])
            with torch.random.fork_rng(devices=[]), torch.inference_mode():
                raw = _any_output(network.eval(), batch.images, inputs_of(network, batch.extras))
                outputs = outputs_of(network, raw, dataset.task)
                for metric in metrics:
                    metric.update(outputs, batch)
                    names |= plain_values(metric.compute()).keys()
    except KdtuiError:
        raise
    except Exception as error:  # code of other packages may raise any exception
        raise ModelError(
            f"the metrics of {kind.title} cannot be computed",
            where=kind.table.implementation,
            found=f"{type(error).__name__}: {one_line(error)}",
        ) from error
    finally:
        network.train(training)
    wrong = sorted(name for name in names if name in STANDARD_SCALARS or not _SCALAR.fullmatch(name))
    if wrong or kind.score not in names | {"miou", "dice", "pixel_accuracy"}:
        raise ModelError(
            f"the metrics of {kind.title} have an invalid name",
            where=kind.table.implementation,
            found=wrong[0] if wrong else f"score = {kind.score}",
            allowed="letters, digits, _ and -, none of kdtui's own scores" if wrong else ", ".join(sorted(names)),
        )


def _any_output(network: nn.Module, images: Tensor, inputs: Mapping[str, Tensor]) -> Any:
    """Raw output of the right shapes: zeros, as a pass at full size may take seconds, if torch can tell the shapes."""
    try:
        return tree_map(lambda one: torch.zeros_like(one, device=images.device), shapes_of(network, images, inputs))
    except UNWORKABLE:  # an operator without shapes on the meta device
        return network(images, **inputs)


def build_student(
    table: NetworkTable, *, task: TaskName, classes: int, channels: int = RGB, download: bool = True
) -> nn.Module:
    """Build a student network; parameters that the output does not depend on are frozen.

    Args:
        table: ``[student]`` of a profile.
        task: Task of the data.
        classes: Number of classes of the data.
        channels: Number of channels of the images.
        download: Whether published weights may be loaded.

    Raises:
        ModelError: It cannot be built, or does not take images with these channels.
        UsageError: Its implementation cannot be imported.
    """
    kind = network_kind(table)
    if channels != RGB and not kind.any_channels:
        raise ModelError(
            f"networks of kind '{table.label}' take images with {RGB} channels only",
            where="data.channels",
            found=channels,
            allowed=RGB,
            hint=f"--set data.channels={RGB}",
        )
    kind.channels = channels
    try:
        network = kind.build(task, classes, download=download)
    except KdtuiError:
        raise
    except Exception as error:  # code of other packages may raise any exception
        raise ModelError(
            f"the network of kind '{table.label}' cannot be built",
            where=table.implementation,
            found=f"{type(error).__name__}: {one_line(error)}",
        ) from error
    set_input_channels(network, channels)
    freeze_unused(network)
    return network
