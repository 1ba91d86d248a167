"""Device slots: waiting for one, holding it, or holding all of a device for a measurement."""

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
from kdtui.launch.shared_folder import is_held, lock_or_close, machine_folder, read_json, write_text
from kdtui.store.files import open_file
from kdtui.store.identity import hostname, identity_of, own_identity
from kdtui.store.run import Run
from kdtui.store.state import QueuePlace
from kdtui.text import counted, one_line

SLOTS = "KDTUI_SLOTS"
"""``cpu:2,gpu:1``: how many runs share the CPU, and how many GPUs may be used."""
MOST = 256
"""Maximum number of slots of one kind."""


@dataclass(frozen=True)
class Capacity:
    """Slots of this machine: their names per kind of device; a GPU's name is the one that CUDA uses."""

    cpu: tuple[str, ...]
    gpu: tuple[str, ...]

    def names(self, device: str) -> tuple[str, ...]:
        """The names of the slots of one kind."""
        return self.gpu if device == "gpu" else self.cpu


def capacity() -> Capacity:
    """One slot for the CPU and one for each visible GPU, or the numbers in ``KDTUI_SLOTS``.

    Raises:
        UsageError: ``KDTUI_SLOTS`` is not valid.
    """
    requested_counts = _parse_counts(os.environ.get(SLOTS, ""))
    cpus = tuple(str(n) for n in range(requested_counts.get("cpu", 1)))
    if "gpu" not in requested_counts:
        return Capacity(cpus, visible_gpus() or ())
    seen = visible_gpus() if requested_counts["gpu"] else ()
    # If the GPUs cannot be counted here, the user's number is used; the engine's check counts them with torch.
    gpus = tuple(str(n) for n in range(requested_counts["gpu"])) if seen is None else seen[: requested_counts["gpu"]]
    return Capacity(cpus, gpus)


@dataclass(frozen=True)
class DevicePlace:
    """The slots of this machine that a run may use.

    Attributes:
        device: ``cpu`` or ``gpu``.
        names: This machine's slots of that kind.
        needed: Number of slots that the run takes; ranks on the CPU share one.
    """

    device: str
    names: tuple[str, ...]
    needed: int

    @property
    def shortage(self) -> str:
        """Description of the missing devices; empty if the machine has enough."""
        if len(self.names) >= self.needed:
            return ""
        return f"{counted(self.needed, self.device.upper())}; this machine has {len(self.names)}"


def place(accelerator: str, devices: int) -> DevicePlace:
    """The slots that a run with these settings may use.

    Args:
        accelerator: ``training.accelerator``: ``auto``, ``cpu`` or ``gpu``.
        devices: ``training.devices``.

    Raises:
        UsageError: ``KDTUI_SLOTS`` is not valid.
    """
    here = capacity()
    device = ("gpu" if here.gpu else "cpu") if accelerator == "auto" else accelerator
    return DevicePlace(device, here.names(device), devices if device == "gpu" else 1)


def _parse_counts(text: str) -> dict[str, int]:
    requested_counts = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        device, colon, count = part.partition(":")
        fits = count.isascii() and count.isdecimal() and len(count) <= len(str(MOST)) and int(count) <= MOST
        if device not in ("cpu", "gpu") or not colon or not fits or (device == "cpu" and int(count) < 1):
            raise UsageError(
                f"{SLOTS} is not valid",
                found=one_line(part)[:80],
                allowed=f"cpu:N with N from 1 to {MOST} and gpu:N up to {MOST}, separated by a comma",
                hint=f"for example {SLOTS}=cpu:2,gpu:1",
            )
        requested_counts[device] = int(count)
    return requested_counts


def visible_gpus() -> tuple[str, ...] | None:
    """GPUs that CUDA would make visible, counted without torch; None if they cannot be counted."""
    chosen, installed = os.environ.get("CUDA_VISIBLE_DEVICES"), installed_gpus()
    if chosen is not None:
        return chosen_gpus(chosen, installed)
    return None if installed is None else numbers(installed)


@dataclass
class Slots:
    """Slots in use; held until :meth:`release` was called and every process that inherited ``descriptors`` exited."""

    names: tuple[str, ...]
    descriptors: tuple[int, ...]
    claim: Claim = field(default_factory=Claim)

    def used_by(self, processes: Sequence[Mapping[str, Any]]) -> None:
        """Write to the slots' files which processes use them now."""
        text = replace(self.claim, processes=tuple(processes)).encode()
        for descriptor in self.descriptors[: len(self.names)]:
            write_text(descriptor, text)

    def release(self) -> None:
        """Close this process's descriptors; further calls do nothing."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)


class Ticket:
    """A position in this machine's first-in, first-out queue for one kind of device.

    Args:
        root: The run store.
        device: ``cpu`` or ``gpu``.
        names: The acceptable slots, as named by :class:`DevicePlace`.
        created: Time of the launch in seconds since the epoch; orders the queue.
        run_id: The run, or another name for the use of the device.
        what: Title that other waiting processes show; default the run's id.

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

    def try_take(self, count: int) -> Slots | None:
        """Take ``count`` slots if they are free and no older ticket waits for any of them; all of them or none.

        Raises:
            LaunchError: The folder of the queue cannot be used.
        """
        self._beat()
        if self._older_waits() or self._old.older_waits():
            return None
        return self._take(count)

    def place(self) -> QueuePlace:
        """The ticket's position in the queue, and what it waits for."""
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
        requested_counts = set(self._claim.keys)
        for name in older(self._shared.names(), self._name, self._device):
            waiter = read_entry(self._shared, name)
            if waiter is None:
                self._shared.unlink(name)  # its process has exited: the lock was free
            elif requested_counts & set(waiter.claim.keys) and not waiter.passed_over:
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
    """The queue in a run store, which supervisors of older versions use.

    If this user may not write there, the slots are locked without placing a ticket.
    """

    def __init__(self, root: Path, device: str, name: str, text: bytes) -> None:
        self._root, self._device, self._name = root, device, name
        self._folder = slot_folder(root, hostname())
        self._waiting = self._folder / "waiting"
        self._fd: int | None = None
        try:
            self._waiting.mkdir(parents=True, exist_ok=True)
            # Locked before it gets its name: older versions remove a ticket that is not locked.
            aside = self._waiting / f".new-{os.getpid()}-{os.urandom(4).hex()}"
            descriptor = open_file(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            if lock_or_close(descriptor):
                self._fd = descriptor
                write_text(descriptor, text)
                aside.rename(self._waiting / name)
        except PermissionError:
            return
        except OSError as error:
            raise _unusable(self._waiting, error) from error

    def older_waits(self) -> bool:
        """Whether a supervisor of an older version, which has no ticket in the machine's folder, is ahead."""
        for path in sorted(self._waiting.glob(f"*-{self._device}-*")):
            if path.name >= self._name:
                return False
            try:
                descriptor = open_file(path)
            except OSError:  # removed since the listing
                continue
            try:
                if not is_held(descriptor):
                    path.unlink(missing_ok=True)
                # A ticket with a claim has another one in the machine's folder, which is the one that counts.
                elif read_json(descriptor) is None and not self._suspended(path.name):
                    return True
            except PermissionError:  # another user's ticket whose process has exited: harmless
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
        except StoreError:  # damaged: whether it is suspended is unknown
            return False
        return record is not None and is_suspended(record.identity)

    def lock(self, name: str) -> tuple[int, ...] | None:
        """Lock a slot's file.

        Returns:
            The descriptor; an empty tuple if this user cannot create the file; None if another process holds the lock.
        """
        path = self._folder / f"{self._device}-{name.replace('/', '_')}"
        try:
            try:
                descriptor = open_file(path, os.O_RDWR)
            except FileNotFoundError:
                descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
            except PermissionError:  # a file opened for reading can be locked too
                descriptor = open_file(path)
            return (descriptor,) if lock_or_close(descriptor) else None
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
        hint="choose another run store with --runs-dir or KDTUI_RUNS",
    )


def slot_folder(root: Path, host: str) -> Path:
    """The folder in which older versions keep the slots of ``host`` in the run store at ``root``."""
    return root / ".slots" / "".join(c if c.isalnum() or c in "-._" else "_" for c in host).lstrip(".")


_POLL = 0.1


@contextlib.contextmanager
def alone(
    root: Path,
    device: str,
    *,
    waiting: Callable[[str], None] = lambda reason: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Slots]:
    """Hold every slot of a device of this machine.

    It uses the queue of the runs: it waits for earlier runs, and later runs wait for it. Processes that inherit the
    slots' descriptors keep the device if this process is killed.

    Args:
        root: The run store.
        device: ``cpu`` or ``gpu``.
        waiting: Called with the reason for waiting if the device is not free at once, and when the reason changes.
        cancelled: Polled while waiting.

    Raises:
        UsageError: This machine has no such device.
        Interrupted: It was cancelled while waiting.
        LaunchError: The folder of the queue cannot be used.
    """
    names = _every_slot(root, device)
    if not names:
        raise UsageError("this machine has no such device", where="--device", found=device, allowed="cpu")
    with held(root, device, names, len(names), "kdtui measure", waiting=waiting, cancelled=cancelled) as slots:
        yield slots


@contextlib.contextmanager
def held(
    root: Path,
    device: str,
    names: Sequence[str],
    count: int,
    command: str,
    *,
    waiting: Callable[[str], None] = lambda reason: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Slots]:
    """Hold ``count`` slots of a device; see :func:`alone`.

    Args:
        root: The run store.
        device: ``cpu`` or ``gpu``.
        names: The acceptable slots, as named by :class:`DevicePlace`.
        count: Number of slots.
        command: Title that other waiting processes show.
        waiting: See :func:`alone`.
        cancelled: See :func:`alone`.
    """
    title = f"{command} (pid {os.getpid()})"
    ticket = Ticket(root, device, names, time.time(), f"measure-{os.getpid()}", what=title)
    reason: str | None = None
    try:
        while (slots := ticket.try_take(count)) is None:
            if cancelled():
                raise Interrupted("cancelled while waiting for the device")
            if (now := ticket.place().reason) != reason:
                reason = now
                waiting(reason)
            time.sleep(_POLL)
    finally:
        ticket.leave()
    try:
        yield slots
    finally:
        slots.release()


def _every_slot(root: Path, device: str) -> tuple[str, ...]:
    """Slots of the device that this process counts, and those that processes with another ``KDTUI_SLOTS`` created.

    For GPUs only those that this process or the run store uses: other GPUs do not disturb a measurement.
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
