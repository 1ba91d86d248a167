"""The tables that profiles use; no torch here. The work is in the modules that ``implementation`` names."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from kdtui.profile.base import Bool, FilePath, Int
from kdtui.profile.data_tables import DataTable
from kdtui.profile.launch_tables import LaunchTable
from kdtui.profile.network_tables import NetworkTable
from kdtui.profile.term_tables import DistillationTerm, OutputTerm, Temperature


class LogitDistanceTerm(DistillationTerm):
    """Mean squared difference of the logits.

    Attributes:
        temperature: Divisor of the logits; default: `distillation.temperature`, with its schedule.
    """

    implementation: ClassVar[str] = "kdtui_example.losses:LogitDistance"
    kind: Literal["logit_distance"] = "logit_distance"
    temperature: Temperature = None


class DirectionTerm(OutputTerm):
    """One minus the cosine between projected student features and teacher features."""

    implementation: ClassVar[str] = "kdtui_example.losses:Direction"
    kind: Literal["direction"] = "direction"
    on: str = "encoder"


class PlainNetwork(NetworkTable):
    """A network of three layers.

    Attributes:
        width: Channels of its only feature map.
        brightness: Whether it reads the mean of each image too.
    """

    implementation: ClassVar[str] = "kdtui_example.network:PlainKind"
    kind: Literal["plain"] = "plain"
    width: Int = Field(8, ge=1)
    brightness: Bool = False


class ArchiveData(DataTable):
    """Arrays ``SPLIT_images`` and ``SPLIT_masks`` in one ``.npz`` file.

    Attributes:
        archive: The file.
        classes: Names of the labels 0, 1, ...
    """

    implementation: ClassVar[str] = "kdtui_example.archive:Archive"
    kind: Literal["npz"] = "npz"
    archive: FilePath
    classes: tuple[str, ...]

    def class_names(self) -> tuple[str, ...]:
        """Those of the table."""
        return self.classes


class DetachedLaunch(LaunchTable):
    """Train in one process on this machine, without a slot."""

    target: Literal["detached"] = "detached"
    implementation: ClassVar[str] = "kdtui_example.launcher:DetachedLauncher"
