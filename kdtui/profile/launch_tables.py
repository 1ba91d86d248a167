"""The tables of launch targets, ``[launch]``: where runs are trained, and the launcher that starts them."""

from __future__ import annotations

from typing import ClassVar, Literal

from kdtui import plugins
from kdtui.profile.base import ProfileTable


class LaunchTable(ProfileTable):
    """Base of the tables of launch targets; those of other packages come from the entry points ``kdtui.launchers``.

    Attributes:
        target: Where the run is trained: this machine, or a target that another package adds.
        implementation: ``package.module:attribute`` of a callable that takes the run store and returns the
            :class:`kdtui.launch.launcher.Launcher`.
        waits: Whether a launched run starts only when the runs of its manifest's ``awaited`` have finished.
        prepares: Whether the launcher is a :class:`kdtui.launch.launcher.PreparingLauncher`.
    """

    target: str = ""
    implementation: ClassVar[str]
    waits: ClassVar[bool] = False
    prepares: ClassVar[bool] = False


class LocalLaunch(LaunchTable):
    """Train on this machine, in processes that keep running after kdtui exits."""

    target: Literal["local"] = "local"
    implementation: ClassVar[str] = "kdtui.launch.local:LocalLauncher"
    waits: ClassVar[bool] = True
    prepares: ClassVar[bool] = True


BUILT_IN: tuple[type[LaunchTable], ...] = (LocalLaunch,)
DEFAULT: type[LaunchTable] = BUILT_IN[0]
"""The table of a profile without ``launch.target``."""


def target_name(table: type[LaunchTable]) -> str:
    """The name by which profiles and launch records select the target of ``table``."""
    return str(table.model_fields["target"].default)


def launch_tables() -> tuple[type[LaunchTable], ...]:
    """The tables of all launch targets, built-in ones first."""
    return (*BUILT_IN, *plugins.tables(plugins.LAUNCHERS, LaunchTable, "target", built_in=BUILT_IN))
