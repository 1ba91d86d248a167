"""Who uses this machine's devices and who waits for them, over all run stores and users.

What the files of the shared folder say about their owners is shown in one line and never obeyed; what counts is who
holds their locks.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from kdtui import processes
from kdtui.errors import LaunchError
from kdtui.launch.alive import is_suspended
from kdtui.launch.shared_folder import SharedFolder, is_held, machine_folder, read_json
from kdtui.store.files import printable
from kdtui.store.identity import boot_id
from kdtui.store.state import QueuePlace

BEAT = 1.0
"""Seconds between two signs that a waiter gives."""
STALE = 30.0
"""Seconds without a sign after which a waiter is passed over: a frozen container, a process that cannot be seen."""

_TICKET = re.compile(r"\d{13}\.\d{6}-(cpu|gpu)-[0-9]{1,20}-[0-9a-f]{8}")
_SLOT = re.compile(r"(cpu|gpu)-[A-Za-z0-9._-]{1,80}")
_MOST_KEYS = 1024
_MOST_TEXT = 4096


@dataclass(frozen=True)
class Claim:
    """What a process that waits for devices, or uses one, says about itself.

    Attributes:
        what: A run's id, or what else is done with the device.
        store: The run store.
        run: The run's id.
        keys: The files of the slots that it waits for.
        processes: ``{"pid", "start_ticks", "boot_id"}`` of those that wait or use the device.
        user: Whose processes these are; None where it is not said.
    """

    what: str = ""
    store: str = ""
    run: str = ""
    keys: tuple[str, ...] = ()
    processes: tuple[Mapping[str, Any], ...] = ()
    user: int | None = None

    def encode(self) -> bytes:
        """One JSON object."""
        return json.dumps({**vars(self), "v": 1}).encode() + b"\n"

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Self:
        """The claim in a JSON object of anyone's making; what does not fit is left out."""
        if body is None:
            return cls()
        what, store, run = (body.get(key) for key in ("what", "store", "run"))
        keys, processes, user = (body.get(key) for key in ("keys", "processes", "user"))
        return cls(
            printable(what)[:120] if isinstance(what, str) else "",
            store[:_MOST_TEXT] if isinstance(store, str) else "",
            run[:_MOST_TEXT] if isinstance(run, str) else "",
            tuple(key for key in _listed(keys) if isinstance(key, str)),
            tuple(who for who in _listed(processes) if isinstance(who, dict)),
            user if type(user) is int and 0 <= user < 2**32 else None,
        )

    @property
    def suspended(self) -> bool:
        """Whether one of its processes is stopped: the others of a run wait for that one."""
        return any(is_suspended(who) for who in self.processes)


@dataclass(frozen=True)
class Entry:
    """A locked file of the shared folder.

    Attributes:
        name: Of the file: the order of the queue, or the slot.
        claim: What its owner says.
        silent: Seconds since it was written or touched.
    """

    name: str
    claim: Claim
    silent: float

    @property
    def passed_over(self) -> str:
        """Why this waiter is passed over; empty where it is not."""
        if self.claim.suspended:
            return "suspended"
        return f"without a sign for {self.silent:.0f} s" if self.silent > STALE else ""

    def title(self, seen_from: Claim) -> str:
        """Who it is, for a reader in another run store."""
        text = self.claim.what or "a process"
        if self.claim.store and self.claim.store != seen_from.store:
            text += f" in {printable(self.claim.store)[:200]}"
        if self.claim.user not in (None, seen_from.user):
            text += f" of user {_user(self.claim.user)}"
        return text


@dataclass(frozen=True)
class Queue:
    """The locked files of the shared folder.

    Attributes:
        waiters: Tickets, oldest first.
        holders: Slots in use.
    """

    waiters: tuple[Entry, ...] = ()
    holders: tuple[Entry, ...] = ()

    @classmethod
    def read(cls, folder: SharedFolder) -> Self:
        """What is locked now.

        Raises:
            LaunchError: The folder cannot be listed.
        """
        names = folder.names()
        waiters = [read_entry(folder, name) for name in names if _TICKET.fullmatch(name)]
        holders = [read_entry(folder, name) for name in names if _SLOT.fullmatch(name)]
        return cls(tuple(filter(None, waiters)), tuple(filter(None, holders)))

    def claims(self) -> tuple[tuple[str, Claim, bool], ...]:
        """All that the queue says but for the time: equal as long as nothing changed."""
        return tuple((entry.name, entry.claim, bool(entry.passed_over)) for entry in (*self.waiters, *self.holders))

    def users(self, keys: Collection[str]) -> tuple[Entry, ...]:
        """Who uses one of these slots, then who waits for one of them and is not passed over."""
        waiters = (
            entry for entry in self.waiters if not entry.passed_over and not set(keys).isdisjoint(entry.claim.keys)
        )
        return (*(entry for entry in self.holders if entry.name in keys), *waiters)

    def place(self, waiter: Entry) -> QueuePlace:
        """Where one of the waiters is in the queue, and what of another store or suspended is in front of it."""
        if waiter.passed_over:
            return QueuePlace(0, f"{waiter.passed_over}, passed over")
        claim = waiter.claim
        older = [other for other in self.waiters if other.name < waiter.name and _meet(other, claim)]
        ahead = [other for other in older if not other.passed_over]
        holders = [other for other in self.holders if other.name in claim.keys]
        words = []
        for holder in holders:
            mark = "suspended" if holder.claim.suspended else ""
            if mark or holder.claim.store != claim.store or holder.claim.what != holder.claim.run:
                words.append(f"held by {holder.title(claim)}" + (f", {mark}" if mark else ""))
        words += [f"behind {other.title(claim)}" for other in ahead[:1] if other.claim.store != claim.store]
        words += [
            f"{other.title(claim)} is {other.passed_over} and passed over" for other in older if other.passed_over
        ]
        return QueuePlace(len(ahead) + 1, "; ".join([*words[:3], *(["…"] if len(words) > 3 else [])]))


def read_entry(folder: SharedFolder, name: str) -> Entry | None:
    """A file of the shared folder, or None where no process holds its lock."""
    descriptor = folder.open(name)
    if descriptor is None:
        return None
    try:
        if not is_held(descriptor):
            return None
        status = os.fstat(descriptor)
        silent = max(0.0, time.time() - status.st_mtime)
        claim = Claim.of(read_json(descriptor))
        if _TICKET.fullmatch(name):  # made by who waits; the file of a slot, by who was there first
            claim = replace(claim, user=status.st_uid)
        return Entry(name, claim, silent)
    finally:
        os.close(descriptor)


def is_ticket(name: str, device: str) -> bool:
    """Whether a file of the shared folder is a ticket for that kind of device."""
    match = _TICKET.fullmatch(name)
    return match is not None and match[1] == device


def read_queue() -> Queue:
    """The queue of this machine; empty where no process ever queued here, or where it cannot be read."""
    try:
        folder = machine_folder(make=False)
    except LaunchError:
        return Queue()
    try:
        return Queue.read(folder)
    except LaunchError:
        return Queue()
    finally:
        folder.close()


def places(root: Path) -> Mapping[str, QueuePlace]:
    """The places of all runs of a store that wait for a device of this machine, by run id."""
    queue = read_queue()
    store = os.path.realpath(root)
    return {waiter.claim.run: queue.place(waiter) for waiter in queue.waiters if waiter.claim.store == store}


def device_keys(device: str, names: Sequence[str]) -> tuple[str, ...]:
    """The files of slots in the shared folder: a GPU by its UUID, whatever a process calls it.

    The folder may be shared by several machines, so what has no UUID is named with the machine's boot.

    Args:
        device: ``cpu`` or ``gpu``.
        names: Of slots, as :class:`kdtui.launch.slots.Place` has them.
    """
    uuids = _gpu_uuids() if device == "gpu" else ()
    machine = boot_id()[:8]
    keys = []
    for name in names:
        uuid = _uuid(name, uuids) if device == "gpu" else None
        keys.append(f"{device}-{_safe(uuid or f'{machine}-{name}')}")
    return tuple(keys)


def cpu_names(folder: SharedFolder) -> tuple[str, ...]:
    """Names of the CPU slots of this machine that any process ever made."""
    prefix = f"cpu-{_safe(boot_id()[:8])}-"
    made = (name.removeprefix(prefix) for name in folder.names() if name.startswith(prefix))
    return tuple(sorted((name for name in made if name.isascii() and name.isdecimal() and len(name) <= 4), key=int))


def _listed(value: object) -> list[Any]:
    return value[:_MOST_KEYS] if isinstance(value, list) else []


def _meet(waiter: Entry, claim: Claim) -> bool:
    return bool(set(waiter.claim.keys) & set(claim.keys))


def _safe(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text)[:80]


def _uuid(name: str, uuids: Sequence[str]) -> str | None:
    """The UUID of a GPU that CUDA calls by its number, or by its UUID or the beginning of it."""
    if name.isascii() and name.isdecimal():
        gpus = [uuid for uuid in uuids if uuid.startswith("GPU-")]
        return gpus[int(name)] if len(name) < 6 and int(name) < len(gpus) else None
    matches = [uuid for uuid in uuids if uuid.startswith(name)]
    return matches[0] if len(matches) == 1 else None


def _gpu_uuids() -> tuple[str, ...]:
    """UUIDs of GPUs, in the order of their numbers, and of their MIG parts; empty without ``nvidia-smi``."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=processes.environment(),
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ()
    return tuple(re.findall(r"\(UUID: ([A-Za-z0-9-]+)\)", listed.stdout)) if listed.returncode == 0 else ()


@functools.cache
def _user(number: int | None) -> str:
    import pwd

    try:
        return pwd.getpwuid(number or 0).pw_name
    except KeyError:  # of a container, or removed
        return str(number)


def older(names: Iterable[str], own: str, device: str) -> list[str]:
    """Those of ``names`` that are tickets for the same kind of device and older than ``own``."""
    return [name for name in names if name < own and is_ticket(name, device)]
