"""The interface of a family of networks whose checkpoints can teach."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from kdtui.engine.checkpoint import differences
from kdtui.engine.containers import Contents, Layout, as_tensors
from kdtui.engine.data import PixelFormat
from kdtui.engine.file_kinds import ONNX_SNIPPET
from kdtui.engine.models import Parameters
from kdtui.errors import TeacherError
from kdtui.profile.base import TaskName

ANOTHER_WAY = f"any network can teach as an ONNX file: {ONNX_SNIPPET}"

IMAGENET = PixelFormat(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The normalisation of most published networks."""


@dataclass(frozen=True)
class IdentifiedNetwork:
    """A network with the weights of a file.

    Attributes:
        network: Takes images f32 [B,C,H,W] and returns raw logits [B,K,H,W] of the same size.
        facts: ``architecture``, ``encoder``, ``encoder_depth``, ``decoder_channels``, ``out_channels`` and
            ``in_channels``, as in the report.
        parameters: Their numbers.
        stride: Height and width of images must be multiples of this; None for a network that takes any size.
        pixels: The images that it was trained with; None if neither the file nor the family determines them.
        task: Task of its output, if it is recorded in the file.
        notes: What a user should know about how it runs.
    """

    network: nn.Module
    facts: Mapping[str, Any]
    parameters: Parameters
    stride: int | None = None
    pixels: PixelFormat | None = None
    task: TaskName | None = None
    notes: tuple[str, ...] = ()


class Family(ABC):
    """A family of networks, recognised by the keys of their tensors."""

    layout: ClassVar[Layout]
    """The keys of its networks."""

    @abstractmethod
    def identify(self, contents: Contents, *, architecture: str | None, encoder: str | None) -> IdentifiedNetwork:
        """Build the network of a checkpoint and load its weights strictly.

        Args:
            contents: The tensors, without prefix, and the metadata of the file.
            architecture: The user's setting, if any.
            encoder: The user's setting, if any.

        Raises:
            TeacherError: No network of the family, or more than one, has these keys and shapes.
        """


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], *, where: Path, title: str) -> None:
    """Load the weights of a file into the network that was inferred from them.

    Args:
        network: The network.
        state: Tensors with its keys, of any floating dtype.
        where: The file.
        title: Name of the network in messages.

    Raises:
        TeacherError: Keys or shapes differ.
    """
    problems = differences(network, state)
    if problems:
        raise TeacherError(
            f"the weights do not match {title}",
            where=where,
            found="; ".join(problems),
            allowed="exactly the keys and shapes of that network",
            hint=ANOTHER_WAY,
        )
    network.load_state_dict(as_tensors(state))


def check_setting(name: str, value: str | None, inferred: str, *, where: Path) -> None:
    """Check a setting of the user against the value that follows from the tensors.

    Args:
        name: ``architecture`` or ``encoder``.
        value: The setting, if any.
        inferred: The value that follows from the tensors.
        where: The file.

    Raises:
        TeacherError: They differ.
    """
    if value is not None and value.casefold() != inferred.casefold():
        raise TeacherError(
            f"the tensors of this file belong to another {name}",
            where=where,
            found=f"teacher.{name} = {value}",
            allowed=inferred,
            hint=f"leave out teacher.{name}: it follows from the file",
        )


def unknown_network(family: str, *, where: Path, found: str, allowed: str) -> TeacherError:
    """The error for a network of a family that kdtui cannot build.

    Args:
        family: Name of the family.
        where: The file.
        found: Description of its keys.
        allowed: The networks of the family that can be built.
    """
    return TeacherError(
        f"this network of {family} is not supported", where=where, found=found, allowed=allowed, hint=ANOTHER_WAY
    )
