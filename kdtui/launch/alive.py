"""Liveness of the local processes that a run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdtui.store.identity import boot_id, hostname, process_state, start_ticks
from kdtui.store.run import LaunchRecord
from kdtui.store.state import Liveness


def is_running(process: Mapping[str, Any]) -> bool:
    """Whether the recorded process is still running on this machine; a reused pid does not count."""
    pid, ticks = process.get("pid"), process.get("start_ticks")
    if not isinstance(pid, int) or not 0 < pid < 2**31 or not ticks or process.get("boot_id") != boot_id():
        return False
    return bool(start_ticks(pid) == ticks)


def is_suspended(process: Mapping[str, Any]) -> bool:
    """Whether the recorded process is stopped on this machine, for example by Ctrl-Z or SIGSTOP."""
    return is_running(process) and process_state(process["pid"]) == "T"


def probe(record: LaunchRecord) -> Liveness:
    """Whether supervisor or ranks are running; unknown for another host, whose processes are not visible here.

    Without a host (its record is lost) the boot ids show whether it was this machine. A run is suspended if a rank is
    stopped, or the supervisor while there are no ranks yet: ranks train on while their supervisor is stopped.
    """
    identities = (record.identity, *record.ranks)
    here = (
        record.host == hostname() if record.host else any(process.get("boot_id") == boot_id() for process in identities)
    )
    if not here:
        return Liveness.UNKNOWN
    living = [place for place, process in enumerate(identities) if is_running(process)]
    if not living:
        return Liveness.DEAD
    decisive = [place for place in living if place > 0] or living
    return Liveness.SUSPENDED if any(is_suspended(identities[place]) for place in decisive) else Liveness.ALIVE
