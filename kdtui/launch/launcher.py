"""The launcher interface: starts, stops and observes the runs of one launch target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kdtui.store.run import LaunchRecord, Run
from kdtui.store.state import Liveness

if TYPE_CHECKING:
    from kdtui.launch.standby import Standby
    from kdtui.profile import Profile


@dataclass(frozen=True)
class Check:
    """One pre-flight check of one run."""

    name: str
    ok: bool
    message: str
    hint: str | None = None


class Launcher(Protocol):
    """Starts, stops and observes the runs of one launch target; processes that it starts outlive this one.

    Its table (:class:`kdtui.profile.launch_tables.LaunchTable`) names a callable that creates it from a run store.
    """

    def launch(self, run: Run, *, total_epochs: int | None = None) -> LaunchRecord:
        """Start the next attempt of ``run``; return once the attempt is recorded in ``launch.json``.

        Args:
            run: A run that is not running.
            total_epochs: Number of epochs to train instead of the profile's; None keeps that of the last attempt.

        Raises:
            LaunchError: It cannot be started; nothing of it is running.
        """
        ...

    def stop(self, run: Run, *, kill: bool = False) -> None:
        """Request that ``run`` saves and stops, or kill its processes.

        Raises:
            KdtuiError: It is not running, or cannot be stopped from here.
        """
        ...

    def liveness(self, record: LaunchRecord) -> Liveness:
        """Whether any process of an attempt is running; called about once a second for each run that has not ended.

        Args:
            record: Its launch record, with the ranks that its events name.
        """
        ...

    def check(self, profile: Profile, *, torch_gpus: int | None = None) -> tuple[Check, ...]:
        """Whether the target can run a profile: devices, slots, programs, permissions.

        Args:
            profile: A complete profile.
            torch_gpus: GPUs of this machine that the engine's torch can use; None if unknown.
        """
        ...


class PreparingLauncher(Launcher, Protocol):
    """A launcher that can start processes before the run exists; its table has ``prepares = True``."""

    def prepare(self, profile: Profile) -> Standby | None:
        """What checks a profile and can train it afterwards in the same process; None where that is not possible.

        Args:
            profile: The profile of the run to come; its processes start with the check.
        """
        ...

    def launch(self, run: Run, *, total_epochs: int | None = None, standby: Standby | None = None) -> LaunchRecord:
        """As for every launcher.

        Args:
            run: A run that is not running.
            total_epochs: See there.
            standby: What checked the profile of this run.
        """
        ...
