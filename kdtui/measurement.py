"""What can be asked of a measurement of latency: the command line, the launch and the engine mean the same by it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureOptions:
    """How latency is measured.

    Attributes:
        batch: Images of the larger call; the other one has 1.
        repeats: Timed rounds.
        warmup: Rounds before them.
        threads: Of torch and onnxruntime; one is what repeats best, and what two machines share.
        device: ``cpu`` or ``gpu``.
    """

    batch: int = 8
    repeats: int = 30
    warmup: int = 5
    threads: int = 1
    device: str = "cpu"
