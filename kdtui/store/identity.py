"""Unique identity of a process: its pid, which is reused, with its start time and the machine's boot."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path
from typing import TypedDict

PROC = Path("/proc")


class ProcessIdentity(TypedDict):
    """Identifies one process of one boot of one machine."""

    pid: int
    start_ticks: int
    boot_id: str


@functools.cache
def hostname() -> str:
    """This machine's host name, as in launch records."""
    return socket.gethostname() or "localhost"


@functools.cache
def boot_id() -> str:
    """Identifier of the current boot of this machine."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # no /proc: macOS
        import psutil

        return f"boot-{psutil.boot_time():.0f}"


def start_ticks(pid: int) -> int | None:
    """Start time of ``pid`` in clock ticks since boot; None if it has exited or is a zombie."""
    fields = _stat(pid)
    if fields is None:
        return None if (PROC / "self").exists() else _start_without_proc(pid)
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def process_state(pid: int) -> str | None:
    """The state letter of a process, such as ``T`` for stopped; None if it has exited or is hidden."""
    fields = _stat(pid)
    if fields is not None:
        return fields[0].decode()
    return None if (PROC / "self").exists() else _state_without_proc(pid)


def _stat(pid: int) -> list[bytes] | None:
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # exited, or hidden by `hidepid`
        return None
    # The program's name is in parentheses and may contain any character; the other fields follow the last ')'.
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


def identity_of(pid: int) -> ProcessIdentity:
    """The identity of a process; one that has exited gets start time 0, which no process has."""
    return {"pid": pid, "start_ticks": start_ticks(pid) or 0, "boot_id": boot_id()}


def own_identity() -> ProcessIdentity:
    """The identity of this process."""
    return identity_of(os.getpid())
