"""Who a process is: a pid alone is reused, a pid with its start time and the machine's boot is not."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path
from typing import TypedDict

PROC = Path("/proc")


class Identity(TypedDict):
    """One process of one boot of one machine."""

    pid: int
    start_ticks: int
    boot_id: str


@functools.cache
def hostname() -> str:
    """This machine's name, as launch records hold it."""
    return socket.gethostname() or "localhost"


@functools.cache
def boot_id() -> str:
    """Differs after every boot of this machine."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # no /proc: macOS
        import psutil

        return f"boot-{psutil.boot_time():.0f}"


def start_ticks(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; None when it is gone or only waits to be reaped."""
    fields = _stat(pid)
    if fields is None:
        return None if (PROC / "self").exists() else _start_without_proc(pid)
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def process_state(pid: int) -> str | None:
    """The letter of a process's state, ``T`` for one that is stopped; None when it is gone or cannot be seen."""
    fields = _stat(pid)
    if fields is not None:
        return fields[0].decode()
    return None if (PROC / "self").exists() else _state_without_proc(pid)


def _stat(pid: int) -> list[bytes] | None:
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or hidden by `hidepid`
        return None
    # The program's name is in parentheses and may hold any character; the rest follows the last ')'.
    return stat[stat.rindex(b")") + 2 :].split()


def _start_without_proc(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None


def _state_without_proc(pid: int) -> str | None:
    import psutil

    try:
        return "T" if psutil.Process(pid).status() == psutil.STATUS_STOPPED else "R"
    except psutil.Error:
        return None


def identity_of(pid: int) -> Identity:
    """The identity of a process; one that is gone gets a start time that no process has."""
    return {"pid": pid, "start_ticks": start_ticks(pid) or 0, "boot_id": boot_id()}


def own_identity() -> Identity:
    """The identity of this process."""
    return identity_of(os.getpid())
