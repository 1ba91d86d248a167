"""The options of a measurement of latency; apart from the events, which `kdtui --help` does not need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureOptions:
    """Options of the latency measurement.

    Attributes:
        batch: Batch size that is measured besides 1.
        repeats: Timed rounds.
        warmup: Untimed rounds before them.
        threads: Threads of torch and onnxruntime; one gives the most reproducible times.
        device: ``cpu`` or ``gpu``.
    """

    batch: int = 8
    repeats: int = 30
    warmup: int = 5
    threads: int = 1
    device: str = "cpu"
