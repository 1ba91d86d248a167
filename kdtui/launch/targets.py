"""The launcher of a run: that of the target in its launch record, else in its profile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kdtui import plugins
from kdtui.errors import KdtuiError, LaunchError, StoreError
from kdtui.launch.launcher import Check, Launcher, PreparingLauncher
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.state import Liveness
from kdtui.store.store import RunStore
from kdtui.text import one_line

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.profile.launch_tables import LaunchTable


def launcher_for(profile: Profile, store: RunStore) -> Launcher:
    """The launcher of the target that a profile names.

    Raises:
        LaunchError: It cannot be imported.
    """
    return _launcher(type(profile.launch), store)


def preparing_launcher(profile: Profile, store: RunStore) -> PreparingLauncher | None:
    """The launcher of a profile's target if it can start processes before the run exists; otherwise None."""
    if not profile.launch.prepares:
        return None
    return cast(PreparingLauncher, launcher_for(profile, store))


def launcher_of(run: Run, store: RunStore) -> Launcher:
    """The launcher that started the last attempt of a run; before the first one, that of its profile.

    Raises:
        LaunchError: Its target is not installed, or cannot be imported.
    """
    return _by_target(_recorded_target(run), store)


class RecordedProcesses:
    """Liveness of runs by the launchers of their records; passed to a run store as ``alive``.

    Args:
        root: The folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self._store = RunStore(root)
        self._launchers: dict[str | None, Launcher] = {}

    def __call__(self, record: LaunchRecord) -> Liveness:
        """Query the launcher of the record's target.

        Raises:
            LaunchError: The target is not installed, or its launcher fails.
        """
        if record.target not in self._launchers:
            self._launchers[record.target] = _by_target(record.target, self._store)
        return self._launchers[record.target].liveness(record)


def open_store(root: Path | None = None) -> RunStore:
    """A run store with the liveness of its runs and the device queue of this machine.

    Args:
        root: Its folder; default ``$KDTUI_RUNS``, else ``./runs``.
    """
    from kdtui.launch.device_queue import places

    store = RunStore(root)
    return RunStore(store.root, alive=RecordedProcesses(store.root), places=places)


def _recorded_target(run: Run) -> str | None:
    """The target in the launch record, else in the profile; None where neither can be read or names one."""
    try:
        record = run.launch_record()
        if record is not None:
            return record.target
    except StoreError:  # damaged: use the target of the profile
        pass
    try:
        table = run.profile_table().get("launch")
    except StoreError:
        return None
    target = table.get("target") if isinstance(table, dict) else None
    return target if isinstance(target, str) else None


def _by_target(target: str | None, store: RunStore) -> Launcher:
    """The launcher of a target by its name; None is the default target, for which no table is loaded."""
    if target is None:
        from kdtui.launch.local import LocalLauncher

        return LocalLauncher(store)
    from kdtui.profile.launch_tables import BUILT_IN, launch_tables, target_name

    built_in = {target_name(table): table for table in BUILT_IN}
    tables = built_in if target in built_in else {target_name(table): table for table in launch_tables()}
    if target in tables:
        return _launcher(tables[target], store)
    name = one_line(target)[:80]
    broken = next(
        (entry for entry in plugins.broken() if (entry.group, entry.name) == (plugins.LAUNCHERS, target)), None
    )
    if broken is not None:
        raise LaunchError(
            f"launch target '{name}' of package {broken.package} is broken",
            found=broken.reason,
            hint="`kdtui doctor` lists the installed extensions",
        )
    raise LaunchError(
        f"launch target '{name}' is not installed",
        allowed=", ".join(tables),
        hint="install the package that provides it",
    )


def _launcher(table: type[LaunchTable], store: RunStore) -> Launcher:
    from kdtui.profile.launch_tables import BUILT_IN, target_name

    make = plugins.imported(table.implementation)
    if table in BUILT_IN:
        launcher: Launcher = make(store)
        return launcher
    with _reported(target_name(table)):
        return _Reported(make(store), target_name(table))


class _Reported:
    """A launcher of another package; all its exceptions are converted to :class:`LaunchError`."""

    def __init__(self, launcher: Launcher, target: str) -> None:
        self._launcher, self._target = launcher, target

    def launch(self, run: Run, *, total_epochs: int | None = None) -> LaunchRecord:
        with _reported(self._target):
            return self._launcher.launch(run, total_epochs=total_epochs)

    def stop(self, run: Run, *, kill: bool = False) -> None:
        with _reported(self._target):
            self._launcher.stop(run, kill=kill)

    def liveness(self, record: LaunchRecord) -> Liveness:
        with _reported(self._target):
            return self._launcher.liveness(record)

    def check(self, profile: Profile, *, torch_gpus: int | None = None) -> tuple[Check, ...]:
        with _reported(self._target):
            return tuple(self._launcher.check(profile, torch_gpus=torch_gpus))


@contextlib.contextmanager
def _reported(target: str) -> Iterator[None]:
    try:
        yield
    except KdtuiError:
        raise
    except Exception as error:  # code of another package may raise anything
        raise LaunchError(
            f"the launcher of target '{target}' failed",
            found=one_line(f"{type(error).__name__}: {error}")[:300],
            hint="report it to the authors of its package",
        ) from error
