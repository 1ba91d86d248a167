"""Predicts whether a launch starts at once, from the device slots, their queue and the live runs of the store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.errors import StoreError
from kdtui.launch.device_queue import Claim, Queue, QueueFile, device_keys, read_queue
from kdtui.launch.slots import SLOTS, Capacity
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary

if TYPE_CHECKING:
    from kdtui.profile import Profile


@dataclass(frozen=True)
class DeviceUse:
    """The device slots that new runs share.

    Attributes:
        slots: Slots of this machine.
        keys: Files of these slots in the queue of the machine, by device.
        queue: Users of the slots and those waiting, of all stores and users.
        store: The folder of the run store.
    """

    slots: Capacity
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)
    store: str = ""

    def users(self, device: str) -> tuple[QueueFile, ...]:
        """Those that use a slot of the device or wait for one."""
        return self.queue.users(self.keys.get(device, ()))


def machine(slots: Capacity, root: Path) -> DeviceUse:
    """The slots and the queue of this machine; may call ``nvidia-smi``, so call it in a thread."""
    keys = {device: device_keys(device, slots.names(device)) for device in ("cpu", "gpu") if slots.names(device)}
    return DeviceUse(slots, keys, read_queue(), os.path.realpath(root))


@dataclass(frozen=True)
class QueuePosition:
    """Predicted place of new runs in the queue.

    Attributes:
        device: ``cpu`` or ``gpu``.
        at_once: Number of runs that start at once.
        behind: Number of live runs that the next one waits for.
        others: Titles of those that belong to other stores or are no runs.
        trouble: Why this machine can never start them; empty if it can.
    """

    device: str
    at_once: int
    behind: int
    others: tuple[str, ...] = ()
    trouble: str = ""

    def words(self, runs: int) -> str:
        """The place as a sentence, for a number of new runs."""
        if self.trouble:
            return self.trouble
        waits = f"behind {self.behind} run{'s' if self.behind != 1 else ''}"
        if not self.at_once:
            named = f": {self.others[0]}{' …' if len(self.others) > 1 else ''}" if self.others else ""
            return f"waits for the {self.device.upper()} {waits}{named}"
        if self.at_once >= runs:
            return "starts now"
        return f"{self.at_once} of {runs} start{'s' if self.at_once == 1 else ''} now, the others wait"


def place(profile: Profile, runs: int, rows: Iterable[RunSummary], here: DeviceUse) -> QueuePosition:
    """Predict the place of ``runs`` new runs of a profile.

    The supervisors of the runs decide when they check the queue; this is the result for the present queue.

    Args:
        profile: The profile of one of the runs.
        runs: Number of runs.
        rows: The runs of the store.
        here: The slots of this machine and its queue.
    """
    wanted = profile.training.accelerator
    device = ("gpu" if here.slots.gpu else "cpu") if wanted == "auto" else wanted
    # Processes on the CPU share one slot; on GPUs each process needs its own.
    each = profile.training.devices if device == "gpu" else 1
    slots = len(here.slots.names(device))
    if slots < each:
        has = f"this machine has {slots}" if slots else "this machine has none"
        trouble = f"{each} {device.upper()}{'s' if each > 1 else ''} requested, {has}; see {SLOTS}"
        return QueuePosition(device, 0, 0, trouble=trouble)
    users = here.users(device)
    queued = {user.claim.run for user in users if user.claim.store == here.store}
    # Launched a moment ago, or by an older version: not in the queue of the machine.
    unqueued = [
        row
        for row in rows
        if row.state in LIVE and row.host == hostname() and row.device == device and row.path.name not in queued
    ]
    claims = {(user.claim.store, user.claim.run or user.name): user for user in users}
    behind = len(claims) + len(unqueued)
    own = Claim(store=here.store, user=os.geteuid())
    others = tuple(
        user.title(own)
        for user in claims.values()
        if user.claim.store != here.store or user.claim.what != user.claim.run
    )
    held = [user for user in users if user.name in here.keys.get(device, ())]
    # Those waiting longer are served first.
    if len(held) < len(users) or any(row.waiting_since is not None for row in unqueued):
        return QueuePosition(device, 0, behind, others)
    free = slots - len(held) - sum(_slots_of(row, device) for row in unqueued)
    return QueuePosition(device, min(runs, max(0, free) // each), behind, others)


def _slots_of(row: RunSummary, device: str) -> int:
    if device == "cpu":
        return 1
    try:
        record = Run(row.path).launch_record()
    except StoreError:  # the record of a live run is damaged: it has at least one slot
        return 1
    return record.devices if record is not None else 1
