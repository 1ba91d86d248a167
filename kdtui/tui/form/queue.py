"""Whether a launch starts at once: the slots of this machine, who uses them, and the live runs of the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from kdtui.errors import StoreError
from kdtui.launch.device_queue import Claim, Entry, Queue, device_keys, read_queue
from kdtui.launch.slots import SLOTS, Capacity
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary

if TYPE_CHECKING:
    from kdtui.profile import Profile


@dataclass(frozen=True)
class Machine:
    """What new runs would have to share.

    Attributes:
        slots: Of this machine.
        keys: By device, the files of these slots in the queue of the machine.
        queue: Who uses the slots and who waits for them, of all stores and users.
        store: The folder of the run store that is looked from.
    """

    slots: Capacity
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)
    store: str = ""

    def users(self, device: str) -> tuple[Entry, ...]:
        """Who uses a slot of that device or waits for one."""
        return self.queue.users(self.keys.get(device, ()))


class QueueRead(Message, bubble=False):
    """The queue of this machine changed."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        super().__init__()


class QueueSource:
    """The queue of this machine, as something that the watch looks at.

    Args:
        post: Takes what was found.
    """

    period = 2.0

    def __init__(self, post: Callable[[Message], object]) -> None:
        self._post = post
        self._before: Queue | None = None

    def look(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.Source`."""
        queue = read_queue()
        if queue.claims() != (None if self._before is None else self._before.claims()):
            self._before = queue
            self._post(QueueRead(queue))
        return ()


def machine(slots: Capacity, root: Path) -> Machine:
    """This machine as seen from a run store; may ask ``nvidia-smi``, so it is called in a thread."""
    keys = {device: device_keys(device, slots.names(device)) for device in ("cpu", "gpu") if slots.names(device)}
    return Machine(slots, keys, read_queue(), os.path.realpath(root))


@dataclass(frozen=True)
class Place:
    """Where new runs would stand in the line.

    Attributes:
        device: ``cpu`` or ``gpu``.
        at_once: How many of them start at once.
        behind: How many live runs the next one waits for.
        others: Those of other stores among them, or what is no run, as a person says it.
        trouble: Why this machine can never start them; empty when it can.
    """

    device: str
    at_once: int
    behind: int
    others: tuple[str, ...] = ()
    trouble: str = ""

    def words(self, runs: int) -> str:
        """The place as a sentence, for so many new runs."""
        if self.trouble:
            return self.trouble
        waits = f"behind {self.behind} run{'s' if self.behind != 1 else ''}"
        if not self.at_once:
            named = f": {self.others[0]}{' …' if len(self.others) > 1 else ''}" if self.others else ""
            return f"waits for the {self.device.upper()} {waits}{named}"
        if self.at_once >= runs:
            return "starts now"
        return f"{self.at_once} of {runs} start{'s' if self.at_once == 1 else ''} now, the others wait"


def place(profile: Profile, runs: int, rows: Iterable[RunSummary], here: Machine) -> Place:
    """Where ``runs`` new runs of a profile would stand.

    It is the supervisors who decide, when they look; this is what they would find now.

    Args:
        profile: Any of them.
        runs: How many there are.
        rows: The store's runs.
        here: The slots of this machine and its queue.
    """
    wanted = profile.training.accelerator
    device = ("gpu" if here.slots.gpu else "cpu") if wanted == "auto" else wanted
    # Ranks on the CPU share one slot; each GPU is one.
    each = profile.training.devices if device == "gpu" else 1
    slots = len(here.slots.names(device))
    if slots < each:
        has = f"this machine has {slots}" if slots else "this machine has none"
        trouble = f"{each} {device.upper()}{'s' if each > 1 else ''} wanted, {has}; look at {SLOTS}"
        return Place(device, 0, 0, trouble=trouble)
    users = here.users(device)
    queued = {user.claim.run for user in users if user.claim.store == here.store}
    # Launched a moment ago, or by an older version: the queue of the machine does not have them.
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
    # Older ones are served first.
    if len(held) < len(users) or any(row.waiting_since is not None for row in unqueued):
        return Place(device, 0, behind, others)
    free = slots - len(held) - sum(_slots_of(row, device) for row in unqueued)
    return Place(device, min(runs, max(0, free) // each), behind, others)


def _slots_of(row: RunSummary, device: str) -> int:
    if device == "cpu":
        return 1
    try:
        record = Run(row.path).launch_record()
    except StoreError:  # damaged under a live run: it has at least one
        return 1
    return record.devices if record is not None else 1
