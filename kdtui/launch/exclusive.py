"""A device for one alone: every slot of it, so that no training of this machine runs beside a measurement."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kdtui.errors import Interrupted, UsageError
from kdtui.launch.device_queue import cpu_names
from kdtui.launch.shared_folder import machine_folder
from kdtui.launch.slots import Slots, Ticket, capacity, slot_folder
from kdtui.store.identity import hostname

_LOOK = 0.1


@contextlib.contextmanager
def alone(
    root: Path,
    device: str,
    *,
    waiting: Callable[[str], None] = lambda reason: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Slots]:
    """Hold every slot of a device of this machine.

    Queues as runs do: it waits for those that run, and runs that come later wait for it. Processes that inherit the
    slots' descriptors keep the device when this one is killed.

    Args:
        root: The run store.
        device: ``cpu`` or ``gpu``.
        waiting: Called when the device is not free at once, with who holds it or is first, and when that changes.
        cancelled: Asked while it waits.

    Raises:
        UsageError: This machine has no such device.
        Interrupted: It was given up while it waited.
        LaunchError: The folder of the queue cannot be used.
    """
    names = _every_slot(root, device)
    if not names:
        raise UsageError("this machine has no such device", where="--device", found=device, allowed="cpu")
    title = f"kdtui measure (pid {os.getpid()})"
    ticket = Ticket(root, device, names, time.time(), f"measure-{os.getpid()}", what=title)
    reason: str | None = None
    try:
        while (slots := ticket.look(len(names))) is None:
            if cancelled():
                raise Interrupted("given up while waiting for the device; nothing was measured")
            if (now := ticket.place().reason) != reason:
                reason = now
                waiting(reason)
            time.sleep(_LOOK)
    finally:
        ticket.leave()
    try:
        yield slots
    finally:
        slots.release()


def _every_slot(root: Path, device: str) -> tuple[str, ...]:
    """Slots of the device as this process counts them, and those that others with another count have made.

    Of GPUs those that this process or the run store uses: others of the machine compute on their own.
    """
    own = capacity().names(device)
    if not own:
        return ()
    made = [path.name.removeprefix(f"{device}-") for path in sorted(slot_folder(root, hostname()).glob(f"{device}-*"))]
    if device == "cpu":
        folder = machine_folder()
        made += cpu_names(folder)
        folder.close()
    return tuple(dict.fromkeys((*own, *made)))
