"""Ctrl-C as an event that a command reads, for as long as it starts or follows runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts(collect: bool = True) -> Iterator[list[int]]:
    """Collect Ctrl-C in a list instead of raising an exception, which could interrupt the stopping of a run."""
    pressed: list[int] = []
    if not collect:
        yield pressed
        return
    former = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, former)
