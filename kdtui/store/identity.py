"""Who a process is: a pid alone is reused, a pid with its start time and the machine's boot is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict


class Identity(TypedDict):
    """One process of one boot of one machine."""

    pid: int
    start_ticks: int
    boot_id: str


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of ``pid``; None when there is no such process, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may hold spaces and parentheses; the last one closes it.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def own_identity() -> Identity:
    """The identity of this process."""
    ticks = start_ticks(os.getpid())
    return {"pid": os.getpid(), "start_ticks": ticks or 0, "boot_id": boot_id()}
