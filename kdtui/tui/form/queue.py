"""Whether a launch starts at once: the slots of this machine and the runs that live in the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdtui.errors import StoreError
from kdtui.launch.slots import SLOTS, Capacity
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary

if TYPE_CHECKING:
    from kdtui.profile import Profile


@dataclass(frozen=True)
class Place:
    """Where new runs would stand in the line.

    Attributes:
        device: ``cpu`` or ``gpu``.
        at_once: How many of them start at once.
        behind: How many live runs the next one waits for.
        trouble: Why this machine can never start them; empty when it can.
    """

    device: str
    at_once: int
    behind: int
    trouble: str = ""

    def words(self, runs: int) -> str:
        """The place as a sentence, for so many new runs."""
        if self.trouble:
            return self.trouble
        waits = f"behind {self.behind} run{'s' if self.behind != 1 else ''}"
        if not self.at_once:
            return f"waits for the {self.device.upper()} {waits}"
        if self.at_once >= runs:
            return "starts now"
        return f"{self.at_once} of {runs} start{'s' if self.at_once == 1 else ''} now, the others wait"


def place(profile: Profile, runs: int, rows: Iterable[RunSummary], here: Capacity) -> Place:
    """Where ``runs`` new runs of a profile would stand.

    It is the supervisors who decide, when they look; this is what they would find now.

    Args:
        profile: Any of them.
        runs: How many there are.
        rows: The store's runs.
        here: The slots of this machine.
    """
    wanted = profile.training.accelerator
    device = ("gpu" if here.gpu else "cpu") if wanted == "auto" else wanted
    # Ranks on the CPU share one slot; each GPU is one.
    each = profile.training.devices if device == "gpu" else 1
    slots = len(here.names(device))
    if slots < each:
        has = f"this machine has {slots}" if slots else "this machine has none"
        return Place(device, 0, 0, f"{each} {device.upper()}{'s' if each > 1 else ''} wanted, {has}; look at {SLOTS}")
    live = [row for row in rows if row.state in LIVE and row.host == hostname() and row.device == device]
    if any(row.waiting_since is not None for row in live):  # nobody passes an older one
        return Place(device, 0, len(live))
    free = slots - sum(_slots_of(row, device) for row in live)
    return Place(device, min(runs, max(0, free) // each), len(live))


def _slots_of(row: RunSummary, device: str) -> int:
    if device == "cpu":
        return 1
    try:
        record = Run(row.path).launch_record()
    except StoreError:  # damaged under a live run: it has at least one
        return 1
    return record.devices if record is not None else 1
