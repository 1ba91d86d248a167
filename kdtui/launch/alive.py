"""Who is alive: the look at processes that the store is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdtui.store.identity import boot_id, hostname, start_ticks
from kdtui.store.state import Liveness


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
