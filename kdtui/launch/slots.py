"""Device slots: the queue without a daemon. A slot is an ``flock``; the kernel frees it when its last holder is gone.

Below ``runs/.slots/<host>/``: ``queue`` is held while someone looks, ``<device>-<n>`` while a run uses a device,
``waiting/<time>-<device>-<id>`` by a supervisor that waits. Descriptors of slots are handed to the ranks, those of
tickets are not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdtui import processes
from kdtui.errors import LaunchError, UsageError
from kdtui.store.names import printable

SLOTS = "KDTUI_SLOTS"
"""``cpu:2,gpu:1``: how many runs share the CPU, and how many GPUs may be used."""


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
    # Where nothing can count the GPUs (no nvidia-smi) the user's word does.
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
        if device not in ("cpu", "gpu") or not colon or not count.isdecimal() or (device == "cpu" and int(count) < 1):
            raise UsageError(
                f"{SLOTS} cannot be read",
                found=printable(part),
                allowed="cpu:N with N >= 1 and gpu:N, separated by a comma",
                hint=f"for example {SLOTS}=cpu:2,gpu:1",
            )
        wanted[device] = int(count)
    return wanted


def visible_gpus() -> tuple[str, ...] | None:
    """GPUs that CUDA would show, counted without torch; None when neither nvidia-smi nor the environment tells."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        usable = []
        for name in names:  # CUDA stops at the first name that is none, as "-1"
            if not name or name.startswith("-"):
                break
            usable.append(name)
        return tuple(usable)
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
    except (OSError, subprocess.TimeoutExpired):
        return None
    if listed.returncode != 0:
        return ()
    return tuple(str(n) for n, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU ")))


@dataclass(frozen=True)
class Slots:
    """Taken slots; held until :meth:`release` and every process that inherited ``descriptors`` is gone."""

    names: tuple[str, ...]
    descriptors: tuple[int, ...]

    def release(self) -> None:
        """Close this process's descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class Ticket:
    """A place in the line of one host and kind of device; first come, first served.

    Args:
        folder: ``runs/.slots/<host>``.
        device: ``cpu`` or ``gpu``.
        created: Time of the launch: the order of the line.
        run_id: Tells launches of the same moment apart.
    """

    def __init__(self, folder: Path, device: str, created: float, run_id: str) -> None:
        self._folder = folder
        self._device = device
        self._waiting = folder / "waiting"
        self._path = self._waiting / f"{created:020.6f}-{device}-{run_id}"
        self._waiting.mkdir(parents=True, exist_ok=True)
        # The ticket must be locked before anyone can see it free: a free ticket is a dead waiter's.
        with _queue(folder, wait=True):
            self._fd: int | None = _lock(self._path)

    def look(self, names: tuple[str, ...], count: int) -> Slots | None:
        """Take ``count`` of ``names`` if they are free and nobody older waits; all of them in one look, or none."""
        with _queue(self._folder, wait=False) as mine:
            if not mine or self._older_waits():
                return None
            return _take(self._folder, self._device, names, count)

    def leave(self) -> None:
        """Give the place up."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def _older_waits(self) -> bool:
        for path in sorted(self._waiting.glob(f"*-{self._device}-*")):
            if path.name >= self._path.name:
                return False
            descriptor = _lock(path)
            if descriptor is None:
                return True
            path.unlink(missing_ok=True)  # its supervisor died: the lock was free
            os.close(descriptor)
        return False


def slot_folder(root: Path, host: str) -> Path:
    """Where the slots of ``host`` lie in the store at ``root``."""
    return root / ".slots" / "".join(c if c.isalnum() or c in "-._" else "_" for c in host).lstrip(".")


def _take(folder: Path, device: str, names: tuple[str, ...], count: int) -> Slots | None:
    taken: list[tuple[str, int]] = []
    for name in names:
        if len(taken) == count:
            break
        descriptor = _lock(folder / f"{device}-{name.replace('/', '_')}")
        if descriptor is not None:
            taken.append((name, descriptor))
    slots = Slots(tuple(name for name, _ in taken), tuple(descriptor for _, descriptor in taken))
    if len(taken) == count:
        return slots
    slots.release()
    return None


def _lock(path: Path) -> int | None:
    """A locked descriptor of ``path``, or None when someone else holds it.

    Raises:
        LaunchError: The file cannot be opened or locked.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise LaunchError("A slot cannot be opened", where=path, found=error.strerror) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise LaunchError(
            "This file system has no locks, which the queue needs",
            where=path,
            found=error.strerror,
            hint="choose another place with --runs-dir or KDTUI_RUNS",
        ) from error
    return descriptor


@contextlib.contextmanager
def _queue(folder: Path, *, wait: bool) -> Iterator[bool]:
    """The right to look; False when someone else has it and ``wait`` is False."""
    descriptor = os.open(folder / "queue", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
