"""What a launcher does, whatever it launches on, and which one a run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kdtui.errors import LaunchError
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.store import RunStore

if TYPE_CHECKING:
    from kdtui.profile import Profile


class Launcher(Protocol):
    """Starts and ends runs; every process it starts outlives it."""

    def launch(self, run: Run, *, total_epochs: int | None = None) -> LaunchRecord:
        """Start the next attempt of ``run``; returns once its supervisor has recorded itself.

        Args:
            run: A run that is not running.
            total_epochs: Another horizon than the profile's; None keeps that of the former attempt.
        """
        ...

    def stop(self, run: Run, *, kill: bool = False) -> None:
        """Ask ``run`` to save and end, or end it at once."""
        ...


def launcher_for(target: Profile | str, store: RunStore) -> Launcher:
    """The launcher of a profile, or of a target's name.

    Raises:
        LaunchError: No such target.
    """
    name = target if isinstance(target, str) else target.launch.target
    if name != "local":
        raise LaunchError("No such launch target", found=name, allowed="local")
    from kdtui.launch.local import LocalLauncher

    return LocalLauncher(store)
