"""Load of this machine: processor, memory and GPUs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kdtui import processes
from kdtui.tui.watch import MachineRead

if TYPE_CHECKING:
    from textual.message import Message

GPU_PERIOD = 2.0
_QUERY = ("--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


class MachineSource:
    """A source of the watch for the machine load in the header.

    Args:
        period: Seconds between two measurements.
        moving: Whether a run is live; otherwise the terminal is not updated, as no one is waiting.
    """

    def __init__(self, period: float, moving: Callable[[], bool]) -> None:
        self.period = max(period, GPU_PERIOD)
        self._moving = moving
        self._smi = processes.program("nvidia-smi")
        self._said: list[str] = []
        self._again = 0.0

    def poll(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.Source`."""
        if self._said and not self._moving():
            return
        words = [*_processor(None if self._said else 0.1), *self._gpus()]
        if words != self._said:
            self._said = words
            yield MachineRead(words)

    def _gpus(self) -> list[str]:
        if self._smi is None:
            return []
        if time.monotonic() < self._again:
            return ["GPU ?"]
        try:
            output = subprocess.run(
                [self._smi, *_QUERY],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=GPU_PERIOD,
                check=True,
                env=processes.environment(),
            )
        except (OSError, subprocess.SubprocessError):
            # The driver is broken or hangs: retry after a minute, as each call may take the whole timeout.
            self._again = time.monotonic() + 60.0
            return ["GPU ?"]
        return [word for line in output.stdout.splitlines() if (word := gpu_word(line))]


def gpu_word(line: str) -> str:
    """Describe a line of ``nvidia-smi`` (per cent, MiB, MiB); empty if it cannot be parsed."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3 or not fields[1].isdigit() or not fields[2].isdigit():
        return ""
    busy = f"{fields[0]}%" if fields[0].isdigit() else "?"
    return f"GPU {busy} {int(fields[1]) / 1024:.0f}/{int(fields[2]) / 1024:.0f}G"


def _processor(interval: float | None) -> list[str]:
    import psutil  # takes 15 ms, which would delay the first screen

    memory = psutil.virtual_memory()
    used = (memory.total - memory.available) / 2**30
    return [f"CPU {psutil.cpu_percent(interval):.0f}%", f"mem {used:.1f}/{memory.total / 2**30:.0f}G"]
