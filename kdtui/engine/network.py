"""The interface of a kind of student network, and the student of a profile.

A network takes normalised images f32 [B,3,H,W], H and W multiples of the kind's stride, and returns raw logits: one
channel per class [B,K,H,W] for a semantic task, the two decisions [B,4,H,W] for a hierarchical one. It may define:

- ``extra_inputs``: names of further inputs, keyword arguments of its ``forward`` with defaults; the dataset makes them
  (``SegmentationDataset.extras``).
- ``compose`` and ``logit_channels``: how its raw output is read, see :mod:`kdtui.engine.models`.
- ``tap_points``: its features that a distillation term may read, see :mod:`kdtui.engine.taps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from kdtui import plugins
from kdtui.engine.data import SegmentationDataset
from kdtui.engine.models import freeze_unused, inputs_of, one_line
from kdtui.errors import KdtuiError, ModelError
from kdtui.profile import NetworkTable, Profile
from kdtui.profile.base import TaskName


class NetworkKind(ABC):
    """Base of the kinds of networks, created from its table.

    Args:
        table: ``[student]`` of a profile.
    """

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
        inputs_of(network, dataset[0, 0].extras)


def build_student(table: NetworkTable, *, task: TaskName, classes: int, download: bool = True) -> nn.Module:
    """Build a student network; parameters that the output does not depend on are frozen.

    Args:
        table: ``[student]`` of a profile.
        task: Task of the data.
        classes: Number of classes of the data.
        download: Whether published weights may be loaded.

    Raises:
        ModelError: It cannot be built.
        UsageError: Its implementation cannot be imported.
    """
    kind = network_kind(table)
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
    freeze_unused(network)
    return network
