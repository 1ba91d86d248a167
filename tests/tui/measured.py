"""Measurements as ``kdtui measure`` writes them, without measuring."""

from __future__ import annotations

from typing import Any

PRECISIONS = {"fp32": (1.0, 0.0, 0.5), "fp16": (0.5, 0.001, 0.55), "int8": (0.28, 0.004, 0.25)}
"""Bytes over those of fp32, loss of mIoU, seconds over those of torch."""


def times(median: float, spread: float, batch: int) -> dict[str, float]:
    """Quartiles of a call, ``spread`` being the interquartile range over the median."""
    half = median * spread / 2
    return {"median": median, "q1": median - half, "q3": median + half, "n": 30, "images_per_second": batch / median}


def side(
    sha: str, parameters: int, seconds: float, miou: float, *, exports: bool = True, spread: float = 0.08
) -> dict[str, Any]:
    """One network."""
    chosen = PRECISIONS if exports else {}
    calls = {"torch": 1.0} | {f"onnxruntime {name}": share for name, (_, _, share) in chosen.items()}
    return {
        "checkpoint": f"{sha}.pth",
        "sha256": sha,
        "architecture": "Unet",
        "encoder": "timm-efficientnet-b0",
        "parameters": parameters,
        "parameters_used": parameters - 1000,
        "parameter_bytes": 4 * parameters,
        "state_bytes": 4 * parameters + 100,
        "checkpoint_bytes": 12 * parameters,
        "macs": 50 * parameters,
        "macs_catalog": 50 * parameters,
        "peak_memory_bytes": 4 * parameters + 2**20,
        "onnx": {
            name: {"bytes": int(4 * parameters * size), "miou": miou - loss, "output": "logits"}
            for name, (size, loss, _) in chosen.items()
        },
        "latency": {
            name: {
                "1": times(seconds * share, spread, 1),
                "8": times(6 * seconds * share, spread, 8),
            }
            for name, share in calls.items()
        },
        "miou": miou,
    }


def measurements(run_id: str, student: dict[str, Any], teacher: dict[str, Any] | None, **setup: Any) -> dict[str, Any]:
    """All of ``measurements.json``."""
    ratio = None
    if teacher is not None:
        ratio = {key: teacher[key] / student[key] for key in ("parameters", "parameter_bytes", "macs")}
        ratio["onnx_bytes"] = {
            name: teacher["onnx"][name]["bytes"] / file["bytes"] for name, file in student["onnx"].items()
        }
        ratio["latency"] = {
            name: {count: teacher["latency"][name][count]["median"] / call["median"] for count, call in calls.items()}
            for name, calls in student["latency"].items()
        }
    retention = None if teacher is None else student["miou"] / teacher["miou"]
    return {
        "version": 1,
        "run": run_id,
        "setup": {
            "device": "cpu",
            "device_name": "a processor",
            "threads": 1,
            "batch": 8,
            "repeats": 30,
            "warmup": 5,
            "torch": "2.13.0",
            "onnxruntime": "1.32.0",
            "height": 96,
            "width": 64,
        }
        | setup,
        "teacher": teacher,
        "student": student | {"retention": retention, "agreement": None if teacher is None else 0.9},
        "ratio": ratio,
    }
