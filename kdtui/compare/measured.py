"""What measurements add to a comparison, and when they can't stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# What two measurements must share for their seconds to mean the same.
_SETUP = ("device_name", "threads", "height", "width", "torch", "onnxruntime")


def measured_columns(measurements: Mapping[str, Any] | None) -> dict[str, Any]:
    """``macs``, ``latency`` and ``speedup`` of a run; None where it was not measured."""
    if measurements is None:
        return {"macs": None, "latency": None, "speedup": None}
    student, ratios = measurements["student"], measurements.get("ratio") or {}
    return {
        "macs": student.get("macs"),
        "latency": seconds(student, "torch"),
        "speedup": ratios.get("latency", {}).get("torch", {}).get("1"),
    }


def seconds(side: Mapping[str, Any], runtime: str) -> float | None:
    """Median seconds of one image in a runtime; None where it was not timed."""
    times = side.get("latency", {}).get(runtime, {}).get("1")
    return None if times is None else float(times["median"])


def measured_apart(measurements: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """A sentence when latencies were not measured alike."""
    setups = [found.get("setup", {}) for found in measurements if found is not None]
    differing = [key for key in _SETUP if len({str(setup.get(key)) for setup in setups}) > 1]
    if not differing:
        return []
    named = ", ".join(key.replace("_", " ") for key in differing)
    return [f"latency was measured under other conditions ({named}): `kdtui measure RUN RUN` measures runs together"]
