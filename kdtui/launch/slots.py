"""Slots of a device: waiting for one, holding it, or holding all of them for a measurement."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdtui.errors import Interrupted, LaunchError, StoreError, UsageError
from kdtui.launch.alive import is_suspended
from kdtui.launch.device_queue import BEAT, Claim, Queue, cpu_names, device_keys, older, read_entry
from kdtui.launch.gpus import chosen_gpus, installed_gpus, numbers
from kdtui.launch.shared_folder import is_held, machine_folder, read_json, try_lock, write_text
from kdtui.store.files import open_file, printable
from kdtui.store.identity import hostname, identity_of, own_identity
from kdtui.store.run import Run
from kdtui.store.state import QueuePlace

SLOTS = "KDTUI_SLOTS"
"""``cpu:2,gpu:1``: how many runs share the CPU, and how many GPUs may be used."""
MOST = 256
"""Slots of one kind."""


@dataclass(frozen=True)
class Capacity:
    """What this machine offers: names of slots per kind; a GPU's name is what CUDA calls it."""

    cpu: tuple[str, ...]
    gpu: tuple[str, ...]

    def names(self, device: str) -> tuple[str, ...]:
        """The slots of one kind."""
        return self.gpu if device == "gpu" else self.cpu


def capacity() -> Capacity:
    """One slot for the CPU and one for each visible GPU, or what ``KDTUI_SLOTS`` says.

    Raises:
        UsageError: ``KDTUI_SLOTS`` cannot be read.
    """
    wanted = _wanted(os.environ.get(SLOTS, ""))
    cpus = tuple(str(n) for n in range(wanted.get("cpu", 1)))
    if "gpu" not in wanted:
        return Capacity(cpus, visible_gpus() or ())
    seen = visible_gpus() if wanted["gpu"] else ()
    # Where nothing can count the GPUs the user's word does; the engine's check counts them by torch.
    gpus = tuple(str(n) for n in range(wanted["gpu"])) if seen is None else seen[: wanted["gpu"]]
    return Capacity(cpus, gpus)


@dataclass(frozen=True)
class Place:
    """Where a run would run on this machine.

    Attributes:
        device: ``cpu`` or ``gpu``.
        names: This machine's slots of that kind.
        needed: How many of them it takes at once; ranks on the CPU share one.
    """

    device: str
    names: tuple[str, ...]
    needed: int

    @property
    def shortage(self) -> str:
        """What this machine will never have; empty where it has enough."""
        if len(self.names) >= self.needed:
            return ""
        return (
            f"{self.needed} {self.device.upper()}{'s' if self.needed > 1 else ''}; this machine has {len(self.names)}"
        )


def place(accelerator: str, devices: int) -> Place:
    """Where a run with these settings would run.

    Args:
        accelerator: ``training.accelerator``: ``auto``, ``cpu`` or ``gpu``.
        devices: ``training.devices``.

    Raises:
        UsageError: ``KDTUI_SLOTS`` cannot be read.
    """
    here = capacity()
    device = ("gpu" if here.gpu else "cpu") if accelerator == "auto" else accelerator
    return Place(device, here.names(device), devices if device == "gpu" else 1)


def _wanted(text: str) -> dict[str, int]:
    wanted = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        device, colon, count = part.partition(":")
        fits = count.isascii() and count.isdecimal() and len(count) <= len(str(MOST)) and int(count) <= MOST
        if device not in ("cpu", "gpu") or not colon or not fits or (device == "cpu" and int(count) < 1):
            raise UsageError(
                f"{SLOTS} cannot be read",
                found=printable(part)[:80],
                allowed=f"cpu:N with N from 1 to {MOST} and gpu:N up to {MOST}, separated by a comma",
                hint=f"for example {SLOTS}=cpu:2,gpu:1",
            )
        wanted[device] = int(count)
    return wanted


def visible_gpus() -> tuple[str, ...] | None:
    """GPUs that CUDA would show, counted without torch; None where nothing can count them."""
    chosen, installed = os.environ.get("CUDA_VISIBLE_DEVICES"), installed_gpus()
    if chosen is not None:
        return chosen_gpus(chosen, installed)
    return None if installed is None else numbers(installed)


@dataclass
class Slots:
    """Taken slots; held until :meth:`release` and every process that inherited ``descriptors`` is gone."""

    names: tuple[str, ...]
    descriptors: tuple[int, ...]
    claim: Claim = field(default_factory=Claim)

    def used_by(self, processes: Sequence[Mapping[str, Any]]) -> None:
        """Say which processes hold the slots now."""
        text = replace(self.claim, processes=tuple(processes)).encode()
        for descriptor in self.descriptors[: len(self.names)]:
            write_text(descriptor, text)

    def release(self) -> None:
        """Close this process's descriptors, once."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)


class Ticket:
    """A place in the queue of this machine for one kind of device; first come, first served.

    Args:
        root: The run store.
        device: ``cpu`` or ``gpu``.
        names: The slots that would do, as :class:`Place` names them.
        created: Time of the launch: the order of the queue.
        run_id: The run, or what else is done with the device.
        what: What is shown to others that wait; default the run's id.

    Raises:
        LaunchError: The folder of the queue cannot be used.
    """

    def __init__(
        self, root: Path, device: str, names: Sequence[str], created: float, run_id: str, *, what: str | None = None
    ) -> None:
        keys = device_keys(device, names)
        self._keys = dict(zip(names, keys, strict=True))
        self._device = device
        self._claim = Claim(
            what or run_id, os.path.realpath(root), run_id, tuple(keys), (own_identity(),), os.geteuid()
        )
        text = self._claim.encode()
        self._shared = machine_folder()
        self._name = f"{created:020.6f}-{device}-{os.getpid()}-{os.urandom(4).hex()}"
        self._fd: int | None = self._shared.publish(self._name, text)
        self._beaten = time.monotonic()
        self._old = _OldQueue(root, device, f"{created:020.6f}-{device}-{run_id}", text)

    def look(self, count: int) -> Slots | None:
        """Take ``count`` slots if they are free and no older ticket waits for any of them; all in one look, or none.

        Raises:
            LaunchError: The folder of the queue cannot be used.
        """
        self._beat()
        if self._older_waits() or self._old.older_waits():
            return None
        return self._take(count)

    def place(self) -> QueuePlace:
        """Where this ticket is in the queue, and what it waits for."""
        queue = Queue.read(self._shared)
        return next((queue.place(waiter) for waiter in queue.waiters if waiter.name == self._name), QueuePlace(0))

    def leave(self) -> None:
        """Release the ticket."""
        if self._fd is not None:
            self._shared.unlink(self._name)
            os.close(self._fd)
            self._old.leave()
            self._shared.close()
            self._fd = None

    def _beat(self) -> None:
        if self._fd is not None and time.monotonic() - self._beaten > BEAT:
            self._beaten = time.monotonic()
            os.utime(self._fd)

    def _older_waits(self) -> bool:
        wanted = set(self._claim.keys)
        for name in older(self._shared.names(), self._name, self._device):
            waiter = read_entry(self._shared, name)
            if waiter is None:
                self._shared.unlink(name)  # its process is gone: the lock was free
            elif wanted & set(waiter.claim.keys) and not waiter.passed_over:
                return True
        return False

    def _take(self, count: int) -> Slots | None:
        names: list[str] = []
        shared: list[int] = []
        old: list[int] = []
        for name, key in self._keys.items():
            if len(names) == count:
                break
            if (descriptor := self._shared.lock(key)) is None:
                continue
            shared.append(descriptor)
            if (locked := self._old.lock(name)) is None:
                os.close(shared.pop())
                continue
            old += locked
            names.append(name)
        slots = Slots(tuple(names), (*shared, *old), self._claim)
        if len(names) == count:
            slots.used_by(self._claim.processes)
            return slots
        slots.release()
        return None


class _OldQueue:
    """The queue of one run store, in which supervisors of older versions wait.

    Where this user may not write there, its slots are still locked, and the ticket is left out.
    """

    def __init__(self, root: Path, device: str, name: str, text: bytes) -> None:
        self._root, self._device, self._name = root, device, name
        self._folder = slot_folder(root, hostname())
        self._waiting = self._folder / "waiting"
        self._fd: int | None = None
        try:
            self._waiting.mkdir(parents=True, exist_ok=True)
            # Locked before its name can be seen: older versions remove a ticket that is not.
            aside = self._waiting / f".new-{os.getpid()}-{os.urandom(4).hex()}"
            descriptor = open_file(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            if try_lock(descriptor):
                self._fd = descriptor
                write_text(descriptor, text)
                aside.rename(self._waiting / name)
        except PermissionError:
            return
        except OSError as error:
            raise _unusable(self._waiting, error) from error

    def older_waits(self) -> bool:
        """Whether a supervisor of an older version, which no ticket of the machine's folder stands for, is first."""
        for path in sorted(self._waiting.glob(f"*-{self._device}-*")):
            if path.name >= self._name:
                return False
            try:
                descriptor = open_file(path)
            except OSError:  # gone meanwhile
                continue
            try:
                if not is_held(descriptor):
                    path.unlink(missing_ok=True)
                # A ticket that says who waits has another one in the machine's folder, which counts.
                elif read_json(descriptor) is None and not self._suspended(path.name):
                    return True
            except PermissionError:  # a dead ticket of another user: it does no harm
                continue
            finally:
                os.close(descriptor)
        return False

    def _suspended(self, name: str) -> bool:
        run_id = name.split(f"-{self._device}-", 1)[1]
        if (measuring := run_id.removeprefix("measure-")).isdecimal():
            return is_suspended(identity_of(int(measuring)))
        try:
            record = Run(self._root / run_id).launch_record()
        except StoreError:  # damaged: nothing says so
            return False
        return record is not None and is_suspended(record.identity)

    def lock(self, name: str) -> tuple[int, ...] | None:
        """The descriptor of a slot's lock, or None where it is held; none where this user cannot make the file."""
        path = self._folder / f"{self._device}-{name.replace('/', '_')}"
        try:
            try:
                descriptor = open_file(path, os.O_RDWR)
            except FileNotFoundError:
                descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
            except PermissionError:  # a lock needs no more than reading
                descriptor = open_file(path)
            return (descriptor,) if try_lock(descriptor) else None
        except PermissionError:
            return ()
        except OSError as error:
            raise _unusable(path, error) from error

    def leave(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                (self._waiting / self._name).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None


def _unusable(path: Path, error: OSError) -> LaunchError:
    return LaunchError(
        "A device slot of this run store cannot be locked",
        where=path,
        found=error.strerror,
        hint="choose another place with --runs-dir or KDTUI_RUNS",
    )


def slot_folder(root: Path, host: str) -> Path:
    """Where older versions keep the slots of ``host`` in the store at ``root``."""
    return root / ".slots" / "".join(c if c.isalnum() or c in "-._" else "_" for c in host).lstrip(".")


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
                raise Interrupted("cancelled while waiting for the device; nothing was measured")
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
