"""Measurements in comparisons, and whether they are comparable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kdtui.errors import StoreError
from kdtui.text import clean, giga, mebibytes, millions, milliseconds, number, percent, ratio

if TYPE_CHECKING:
    from kdtui.store.run import Run

# Conditions that must be equal for comparable latencies.
_SETUP = ("device_name", "threads", "height", "width", "torch", "onnxruntime")
_NOISY = 0.15  # interquartile range over median
NOISY = "the quartiles are far apart: other processes used this machine. Ratios are more reliable; measure again"
"""The remark on measurements for which :func:`noisy` is true."""
_SIZES = (
    ("parameters", "parameters", "count"),
    ("  used", "parameters_used", "count"),
    ("parameter bytes", "parameter_bytes", "bytes"),
    ("MACs", "macs", "macs"),
    ("peak memory", "peak_memory_bytes", "bytes"),
    ("checkpoint", "checkpoint_bytes", "bytes"),
)


class Quantity(NamedTuple):
    """A quantity of teacher and student; None if it was not measured.

    Attributes:
        label: Label for tables.
        kind: ``count``, ``bytes``, ``macs``, ``latency`` (quartiles in seconds), ``speed`` (images per second),
            ``score`` or ``share``.
        ratio: How many times smaller or faster the student is; for mIoU the student's share of the teacher's.
        file: Precision of an export, or runtime of a latency; empty for the network itself.
        batch: Batch size of a latency or speed; otherwise 0.
    """

    label: str
    kind: str
    teacher: Any
    student: Any
    ratio: float | None = None
    file: str = ""
    batch: int = 0


def quantities(answer: Mapping[str, Any]) -> list[Quantity]:
    """All values of teacher and student in ``measurements.json``, in the order of the table."""
    sides = answer["teacher"] or {}, answer["student"]
    ratios = answer["ratio"] or {}
    teacher, student = sides
    found = [Quantity(words, kind, teacher.get(key), student.get(key), ratios.get(key)) for words, key, kind in _SIZES]
    files = [side.get("onnx", {}) for side in sides]
    precisions = dict.fromkeys([*files[0], *files[1]])
    for precision in precisions:
        theirs, own = (table.get(precision, {}).get("bytes") for table in files)
        smaller = ratios.get("onnx_bytes", {}).get(precision)
        found.append(Quantity(f"ONNX {precision}", "bytes", theirs, own, smaller, precision))
    times = [side.get("latency", {}) for side in sides]
    for runtime in dict.fromkeys([*times[0], *times[1]]):
        theirs, own = (table.get(runtime, {}) for table in times)
        for count in dict.fromkeys([*theirs, *own]):
            both, faster = (theirs.get(count), own.get(count)), ratios.get("latency", {}).get(runtime, {}).get(count)
            found.append(Quantity(f"{runtime}, batch {count}", "latency", *both, faster, runtime, int(count)))
            if count != "1":
                slow, quick = (None if side is None else side["images_per_second"] for side in both)
                found.append(Quantity("  images per second", "speed", slow, quick, None, runtime, int(count)))
    found.append(Quantity("mIoU", "score", teacher.get("miou"), student.get("miou"), student.get("retention")))
    for precision in precisions:
        theirs, own = (table.get(precision, {}).get("miou") for table in files)
        found.append(Quantity(f"  ONNX {precision}", "score", theirs, own, None, precision))
    found.append(Quantity("agreement", "share", None, student.get("agreement")))
    return found


def rows(answer: Mapping[str, Any]) -> list[list[str]]:
    """Label, teacher, student and ratio of each row of the table."""
    return [
        [
            line.label,
            "" if line.kind == "share" else _text(line.kind, line.teacher),
            _text(line.kind, line.student),
            _ratio_text(line),
        ]
        for line in quantities(answer)
    ]


def _text(kind: str, value: Any) -> str:
    if kind == "latency":
        return _quartiles(value)
    write = {"count": millions, "bytes": mebibytes, "macs": giga, "score": number, "share": number}
    return ("-" if value is None else f"{value:.1f}") if kind == "speed" else write[kind](value)


def _ratio_text(line: Quantity) -> str:
    if line.kind in ("speed", "share") or (line.kind == "score" and line.file):
        return ""
    return percent(line.ratio) if line.kind == "score" else ratio(line.ratio)


def _quartiles(times: Mapping[str, float] | None) -> str:
    if times is None:
        return "-"
    return f"{milliseconds(times['median'])} ({times['q1'] * 1e3:.2f} to {times['q3'] * 1e3:.2f})"


def conditions(setup: Mapping[str, Any]) -> str:
    """The conditions of the measurement as one line."""
    threads = "1 thread" if setup["threads"] == 1 else f"{setup['threads']} threads"
    return (
        f"{setup['height']} x {setup['width']}, {setup['device_name']}, {threads}, median of {setup['repeats']} "
        f"interleaved repeats; torch {setup['torch']}, onnxruntime {setup['onnxruntime']}"
    )


def noisy(answer: Mapping[str, Any]) -> bool:
    """Whether the widest interquartile range is more than 15 % of its median."""
    spreads = [
        (times["q3"] - times["q1"]) / times["median"]
        for side in (answer["teacher"], answer["student"])
        if side is not None
        for batches in side["latency"].values()
        for times in batches.values()
    ]
    return max(spreads, default=0.0) > _NOISY


def measurements_of(run: Run) -> dict[str, Any] | None:
    """A run's valid measurements; None for a run that was never measured.

    Raises:
        StoreError: ``measurements.json`` is damaged, or of another version.
    """
    found = run.measurements()
    if found is None:
        return None
    try:
        rows(found)
        conditions(found["setup"])
        noisy(found)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        missing = isinstance(error, KeyError)
        raise StoreError(
            "The run's measurements cannot be used",
            where=run.measurements_path,
            found=clean(f"missing {error}" if missing else f"a value of the wrong type ({error})"),
            hint=f"`kdtui measure {run.id}` replaces them",
        ) from error
    return found


def usable_measurements(run: Run) -> tuple[dict[str, Any] | None, str]:
    """A run's measurements, or None and the reason why they cannot be used; a damaged file raises no error."""
    try:
        return measurements_of(run), ""
    except StoreError as error:
        return None, clean(f"{run.id}: {error.what}, {error.found}; {error.hint}")


def measured_columns(measurements: Mapping[str, Any] | None) -> dict[str, Any]:
    """``macs``, ``latency`` and ``speedup`` of a run; None if it was not measured."""
    if measurements is None:
        return {"macs": None, "latency": None, "speedup": None}
    student, ratios = measurements["student"], measurements.get("ratio") or {}
    return {
        "macs": student.get("macs"),
        "latency": seconds(student, "torch"),
        "speedup": ratios.get("latency", {}).get("torch", {}).get("1"),
    }


def seconds(side: Mapping[str, Any], runtime: str) -> float | None:
    """Median time for one image in a runtime, in seconds; None if it was not measured."""
    times = side.get("latency", {}).get(runtime, {}).get("1")
    found = None if times is None else float(times["median"])
    return found if found is not None and math.isfinite(found) else None


def measured_apart(measurements: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """A note if latencies were measured under different conditions; otherwise empty."""
    setups = [found.get("setup", {}) for found in measurements if found is not None]
    differing = [key for key in _SETUP if len({str(setup.get(key)) for setup in setups}) > 1]
    if not differing:
        return []
    named = ", ".join(key.replace("_", " ") for key in differing)
    return [f"latencies were measured under different conditions ({named}): measure together, `kdtui measure RUN RUN`"]
