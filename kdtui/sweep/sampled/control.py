"""Starting sampled sweeps, from the command line and the cockpit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdtui.sweep import controlled
from kdtui.sweep.folder import SweepFolder, create
from kdtui.sweep.sampled.optional import check_installed
from kdtui.sweep.sampled.spec import Request, SampledSpec, from_tables, read_request

if TYPE_CHECKING:
    from kdtui.store.store import RunStore


def begin(
    store: RunStore, spec: SampledSpec, trials: int, *, tags: Sequence[str] = (), retry: bool = False
) -> tuple[SweepFolder, bool]:
    """Make a sweep, or change the number of its trials, and start or continue it.

    Args:
        store: The store of the runs.
        spec: The sweep.
        trials: How many trials it shall have.
        tags: Tags of new runs.
        retry: Whether failed runs are trained again.

    Returns:
        The folder, and whether this call started its controller.

    Raises:
        LaunchError: As of :func:`start`.
        StoreError: The folder cannot be written.
    """
    check_installed()
    folder = create(store.root, spec.id, spec.to_tables())
    Request(trials, tuple(tags)).write(folder)
    return folder, start(folder, retry=retry)


def start(folder: SweepFolder, *, retry: bool = False) -> bool:
    """Start or continue a sweep.

    Args:
        folder: Its folder.
        retry: Whether failed runs are trained again.

    Returns:
        Whether this call started its controller; False if it is running already.

    Raises:
        LaunchError: Optuna is not installed, or the controller could not be started.
        StoreError: The specification or the number of trials cannot be read.
    """
    check_installed()
    from_tables(folder)
    read_request(folder)
    return controlled.start(folder, retry=retry)
