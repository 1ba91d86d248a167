"""A device for one alone: every slot of it, so that no training of this store runs beside a measurement."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kdtui.errors import Interrupted, UsageError
from kdtui.launch.slots import Slots, Ticket, capacity, slot_folder
from kdtui.store.identity import hostname

_LOOK = 0.1


@contextlib.contextmanager
def alone(
    root: Path,
    device: str,
    *,
    waiting: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Slots]:
    """Hold every slot of a device of this host.

    Stands in the same line as runs do: it waits for those that run, and runs that come later wait for it. Processes
    that inherit the slots' descriptors keep the device when this one is killed.

    Args:
        root: The run store.
        device: ``cpu`` or ``gpu``.
        waiting: Called once when the device is not free at once.
        cancelled: Asked while it waits.

    Raises:
        UsageError: This machine has no such device.
        Interrupted: It was given up while it waited.
    """
    folder = slot_folder(root, hostname())
    names = _every_slot(folder, device)
    if not names:
        raise UsageError("this machine has no such device", where="--device", found=device, allowed="cpu")
    ticket = Ticket(folder, device, time.time(), f"measure-{os.getpid()}")
    told = False
    try:
        while (slots := ticket.look(names, len(names))) is None:
            if cancelled():
                raise Interrupted("given up while waiting for the device; nothing was measured")
            if not told:
                told = True
                waiting()
            time.sleep(_LOOK)
    finally:
        ticket.leave()
    try:
        yield slots
    finally:
        slots.release()


def _every_slot(folder: Path, device: str) -> tuple[str, ...]:
    """Slots of the device as this process counts them, and those that another one with another count has made."""
    own = capacity().names(device)
    made = [path.name.removeprefix(f"{device}-") for path in sorted(folder.glob(f"{device}-*"))]
    return (*own, *(name for name in made if name not in own)) if own else ()
