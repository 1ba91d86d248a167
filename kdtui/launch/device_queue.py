"""The processes that use this machine's devices or wait for them, over all run stores and users.

Only the locks of the shared folder's files decide; the text of the files is for display.
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
from kdtui.store.identity import boot_id
from kdtui.store.state import QueuePlace
from kdtui.text import one_line

BEAT = 1.0
"""Seconds between two heartbeats of a waiting process."""
STALE = 30.0
"""Seconds without a heartbeat after which a waiting process is skipped: it may be in a frozen container."""

_TICKET = re.compile(r"\d{13}\.\d{6}-(cpu|gpu)-[0-9]{1,20}-[0-9a-f]{8}")
_SLOT = re.compile(r"(cpu|gpu)-[A-Za-z0-9._-]{1,80}")
_MOST_KEYS = 1024
_MOST_TEXT = 4096


@dataclass(frozen=True)
class Claim:
    """The text of a ticket or slot file: the process that waits for devices or uses one.

    Attributes:
        what: Title: a run's id, or another use of the device.
        store: The run store.
        run: The run's id.
        keys: Names of the slot files that it waits for.
        processes: ``{"pid", "start_ticks", "boot_id"}`` of each process that waits or uses the device.
        user: User id of these processes; None if unknown.
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
        """Read a claim from an untrusted JSON object; invalid values are left out."""
        if body is None:
            return cls()
        what, store, run = (body.get(key) for key in ("what", "store", "run"))
        keys, processes, user = (body.get(key) for key in ("keys", "processes", "user"))
        return cls(
            one_line(what)[:120] if isinstance(what, str) else "",
            store[:_MOST_TEXT] if isinstance(store, str) else "",
            run[:_MOST_TEXT] if isinstance(run, str) else "",
            tuple(key for key in _listed(keys) if isinstance(key, str)),
            tuple(who for who in _listed(processes) if isinstance(who, dict)),
            user if type(user) is int and 0 <= user < 2**32 else None,
        )

    @property
    def suspended(self) -> bool:
        """Whether one of its processes is stopped; the other ranks of a run then wait for it."""
        return any(is_suspended(who) for who in self.processes)


@dataclass(frozen=True)
class QueueFile:
    """A locked file of the shared folder.

    Attributes:
        name: Name of the file: the ticket's position in the queue, or the slot.
        claim: The file's text.
        silent: Seconds since the file was written or touched.
    """

    name: str
    claim: Claim
    silent: float

    @property
    def passed_over(self) -> str:
        """Reason for skipping this waiting process; empty if it is not skipped."""
        if self.claim.suspended:
            return "suspended"
        return f"not responding for {self.silent:.0f} s" if self.silent > STALE else ""

    def title(self, seen_from: Claim) -> str:
        """The run or process, with its run store and user if they differ from those of ``seen_from``."""
        text = self.claim.what or "a process"
        if self.claim.store and self.claim.store != seen_from.store:
            text += f" in {one_line(self.claim.store)[:200]}"
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

    waiters: tuple[QueueFile, ...] = ()
    holders: tuple[QueueFile, ...] = ()

    @classmethod
    def read(cls, folder: SharedFolder) -> Self:
        """Read the files that are locked now.

        Raises:
            LaunchError: The folder cannot be listed.
        """
        names = folder.names()
        waiters = [read_entry(folder, name) for name in names if _TICKET.fullmatch(name)]
        holders = [read_entry(folder, name) for name in names if _SLOT.fullmatch(name)]
        return cls(tuple(filter(None, waiters)), tuple(filter(None, holders)))

    def claims(self) -> tuple[tuple[str, Claim, bool], ...]:
        """The state of the queue without times: equal as long as nothing changed."""
        return tuple((entry.name, entry.claim, bool(entry.passed_over)) for entry in (*self.waiters, *self.holders))

    def users(self, keys: Collection[str]) -> tuple[QueueFile, ...]:
        """The users of these slots, then the processes that wait for one of them and are not skipped."""
        waiters = (
            entry for entry in self.waiters if not entry.passed_over and not set(keys).isdisjoint(entry.claim.keys)
        )
        return (*(entry for entry in self.holders if entry.name in keys), *waiters)

    def place(self, waiter: QueueFile) -> QueuePlace:
        """Position of a waiting process, and the entries ahead of it that are suspended or of another run store."""
        if waiter.passed_over:
            return QueuePlace(0, f"{waiter.passed_over}, skipped")
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
        words += [f"{other.title(claim)} is {other.passed_over} and skipped" for other in older if other.passed_over]
        return QueuePlace(len(ahead) + 1, "; ".join([*words[:3], *(["…"] if len(words) > 3 else [])]))


def read_entry(folder: SharedFolder, name: str) -> QueueFile | None:
    """Read a file of the shared folder; None if no process holds its lock."""
    descriptor = folder.open(name)
    if descriptor is None:
        return None
    try:
        if not is_held(descriptor):
            return None
        status = os.fstat(descriptor)
        silent = max(0.0, time.time() - status.st_mtime)
        claim = Claim.of(read_json(descriptor))
        if _TICKET.fullmatch(name):  # created by the waiting process; a slot file, by its first user
            claim = replace(claim, user=status.st_uid)
        return QueueFile(name, claim, silent)
    finally:
        os.close(descriptor)


def is_ticket(name: str, device: str) -> bool:
    """Whether a file of the shared folder is a ticket for that kind of device."""
    match = _TICKET.fullmatch(name)
    return match is not None and match[1] == device


def read_queue() -> Queue:
    """The queue of this machine; empty if no process ever queued here, or if the folder cannot be read."""
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
    """Queue positions of all runs of a store that wait for a device of this machine, by run id."""
    queue = read_queue()
    store = os.path.realpath(root)
    return {waiter.claim.run: queue.place(waiter) for waiter in queue.waiters if waiter.claim.store == store}


def device_keys(device: str, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the slots' files in the shared folder; a GPU is identified by its UUID, not by its index.

    Several machines may share the folder, so slots without a UUID are named by the machine's boot id.

    Args:
        device: ``cpu`` or ``gpu``.
        names: Names of the slots, as in :class:`kdtui.launch.slots.Place`.
    """
    uuids = _gpu_uuids() if device == "gpu" else ()
    machine = boot_id()[:8]
    keys = []
    for name in names:
        uuid = _uuid(name, uuids) if device == "gpu" else None
        keys.append(f"{device}-{_safe(uuid or f'{machine}-{name}')}")
    return tuple(keys)


def cpu_names(folder: SharedFolder) -> tuple[str, ...]:
    """Names of all CPU slots that processes of this machine have created."""
    prefix = f"cpu-{_safe(boot_id()[:8])}-"
    made = (name.removeprefix(prefix) for name in folder.names() if name.startswith(prefix))
    return tuple(sorted((name for name in made if name.isascii() and name.isdecimal() and len(name) <= 4), key=int))


def _listed(value: object) -> list[Any]:
    return value[:_MOST_KEYS] if isinstance(value, list) else []


def _meet(waiter: QueueFile, claim: Claim) -> bool:
    return bool(set(waiter.claim.keys) & set(claim.keys))


def _safe(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text)[:80]


def _uuid(name: str, uuids: Sequence[str]) -> str | None:
    """The UUID of a GPU that is named by its index, its UUID or the beginning of its UUID."""
    if name.isascii() and name.isdecimal():
        gpus = [uuid for uuid in uuids if uuid.startswith("GPU-")]
        return gpus[int(name)] if len(name) < 6 and int(name) < len(gpus) else None
    matches = [uuid for uuid in uuids if uuid.startswith(name)]
    return matches[0] if len(matches) == 1 else None


def _gpu_uuids() -> tuple[str, ...]:
    """UUIDs of the GPUs in the order of their indices, and of their MIG instances; empty without ``nvidia-smi``."""
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
    except KeyError:  # a user of a container, or a removed one
        return str(number)


def older(names: Iterable[str], own: str, device: str) -> list[str]:
    """The tickets among ``names`` for the same kind of device that are older than the ticket ``own``."""
    return [name for name in names if name < own and is_ticket(name, device)]
