"""Who is alive: a process is named by pid, start time and boot, so that a reused pid is never taken for it."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtui.store.state import Liveness

PROC = Path("/proc")


@functools.cache
def hostname() -> str:
    """This machine's name, as launch records hold it."""
    return socket.gethostname() or "localhost"


@functools.cache
def boot_id() -> str:
    """Differs after every boot."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # no /proc: macOS
        import psutil  # type: ignore[import-untyped]

        return f"boot-{psutil.boot_time():.0f}"


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if it is gone or only waits to be reaped."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None if PROC.joinpath("self").exists() else _start_without_proc(pid)
    # The second field is the program's name in parentheses and may hold anything; the rest follows the last ')'.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _start_without_proc(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None


def identity(pid: int | None = None) -> dict[str, Any]:
    """``{"pid", "start_ticks", "boot_id"}`` of a process, by default this one."""
    pid = os.getpid() if pid is None else pid
    return {"pid": pid, "start_ticks": start_ticks(pid) or 0, "boot_id": boot_id()}


def lives(who: Mapping[str, Any]) -> bool:
    """Whether this very process of this machine still runs."""
    pid, ticks = who.get("pid"), who.get("start_ticks")
    if not isinstance(pid, int) or pid <= 0 or not ticks or who.get("boot_id") != boot_id():
        return False
    return bool(start_ticks(pid) == ticks)


def probe(host: str, identities: Sequence[Mapping[str, Any]]) -> Liveness:
    """Whether any of ``identities`` lives; unknown for another host, whose processes cannot be seen from here.

    Without a host (its record is lost) the boot tells whether it was this machine.
    """
    here = host == hostname() if host else any(who.get("boot_id") == boot_id() for who in identities)
    if not here:
        return Liveness.UNKNOWN
    return Liveness.ALIVE if any(lives(who) for who in identities) else Liveness.DEAD
