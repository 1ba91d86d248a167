"""Teacher, student and ratio of one run: known sizes and measured values.

Independent of Textual; the lines have the format of :mod:`kdtui.tui.views.panels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kdtui.compare.measured import NOISY, Quantity, conditions, measurements_of, noisy, quantities
from kdtui.errors import StoreError
from kdtui.store.run import Run
from kdtui.text import giga, mebibytes, millions, number, percent, ratio
from kdtui.tui.values import TextLine

BYTES_PER_PARAMETER = 4
"""Checkpoints hold float32 numbers, whatever the training precision."""
QUARTILES = 57
"""From this width on, in terminal columns, quartiles are displayed with the medians of teacher and student."""
NOT_MEASURED = "latency is not measured: press L"
_LABEL = 10
_NARROW, _BROAD = 10, 20
_RATIO = 7


@dataclass(frozen=True)
class NetworkSize:
    """Costs of one network that are known without measuring; None if unknown.

    Attributes:
        parameters: As stored in the checkpoint.
        macs: Multiply-accumulates of a forward pass of one image, from the catalog.
        checkpoint: Size of the file in bytes.
    """

    parameters: int | None = None
    macs: int | None = None
    checkpoint: int | None = None


@dataclass(frozen=True)
class Measurements:
    """The measurements of a run.

    Attributes:
        quantities: Everything that was measured; empty without measurements.
        taught: Whether a teacher was measured, too.
        setup: Conditions of the times, in one line.
        noisy: Whether other processes used the machine during the measurement.
        trouble: Why the file cannot be used; empty if it can.
    """

    quantities: tuple[Quantity, ...] = ()
    taught: bool = False
    setup: str = ""
    noisy: bool = False
    trouble: str = ""


def read_measured(run: Run) -> Measurements:
    """Read the measurements of a run, in a thread; a damaged file is reported in ``trouble``, not raised."""
    try:
        found = measurements_of(run)
    except StoreError as error:
        return Measurements(trouble=f"{error.brief} · L measures again")
    if found is None:
        return Measurements()
    taught = found["teacher"] is not None
    return Measurements(tuple(quantities(found)), taught, conditions(found["setup"]), noisy(found))


class _Row(NamedTuple):
    """A row of the table; without a ``form`` it is the heading of the rows below."""

    label: str
    teacher: Any = None
    student: Any = None
    form: Callable[[Any], str] | None = None
    ratio: str | None = None
    """None to compute it from the two values."""


def compression(
    student: NetworkSize,
    teacher: NetworkSize | None,
    *,
    comparable: bool = True,
    measured: Measurements | None = None,
    room: int = 37,
) -> list[TextLine]:
    """Table of teacher, student and ratio.

    Args:
        student: Costs of the run's own network.
        teacher: Costs of its teacher; None for a run without one.
        comparable: Whether both checkpoints were written by kdtui, so that their sizes are comparable.
        measured: The measurements; None while they are being read.
        room: Available terminal columns; from :data:`QUARTILES` on the quartiles are displayed.
    """
    found = measured or Measurements()
    wide = room >= QUARTILES
    rows = [*_sizes(student, teacher or NetworkSize(), comparable, found), *_measured(found, wide or teacher is None)]
    known = [row for row in rows if row.form is None or row.teacher is not None or row.student is not None]
    if not any(row.form for row in known):
        return []
    broad = _BROAD if wide and found.quantities else _NARROW
    alone = teacher is None and not found.taught
    head: list[TextLine] = [((f"{'':{_LABEL}}{'teacher':>{broad}}{'student':>{broad}}{'ratio':>{_RATIO}}", "muted"),)]
    lines = ([] if alone else head) + [_alone(row) if alone else _beside(row, broad) for row in known]
    if measured is not None and not found.quantities and not found.trouble:
        lines.append(((NOT_MEASURED, "muted"),))
    return lines


def remarks(measured: Measurements | None) -> list[TextLine]:
    """Conditions and reliability of the measurements, or why they cannot be read."""
    if measured is None:
        return []
    if measured.trouble:
        return [((measured.trouble, "bad"),)]
    lines: list[TextLine] = []
    if measured.setup:
        lines.append(((measured.setup, "muted"),))
    if measured.noisy:
        lines.append(((NOISY, "warn"),))
    return lines


def _sizes(student: NetworkSize, teacher: NetworkSize, comparable: bool, measured: Measurements) -> list[_Row]:
    found = {line.label: line for line in measured.quantities}
    macs, memory = found.get("MACs"), found.get("peak memory")
    rows = [
        _Row("parameters", teacher.parameters, student.parameters, millions),
        _Row("as float32", _bytes(teacher.parameters), _bytes(student.parameters), mebibytes),
        # A measured count takes precedence over the catalog.
        _Row("MACs", (macs and macs.teacher) or teacher.macs, (macs and macs.student) or student.macs, giga),
        _Row("checkpoint", teacher.checkpoint, student.checkpoint, mebibytes, None if comparable else "-"),
    ]
    if memory is not None:
        rows.append(_Row("memory", memory.teacher, memory.student, mebibytes))
    files = [line for line in measured.quantities if line.kind == "bytes" and line.file]
    return rows + [_Row(f"ONNX {line.file}", line.teacher, line.student, mebibytes) for line in files]


def _measured(measured: Measurements, quartiles: bool) -> list[_Row]:
    """Latency by batch size, then the scores of the exports."""
    form = _with_quartiles if quartiles else _median
    rows: list[_Row] = []
    for batch in sorted({line.batch for line in measured.quantities if line.kind == "latency"}):
        words = "quartiles" if quartiles else "median"
        rows.append(_Row(f"latency of {batch} image{'s' if batch > 1 else ''}, ms ({words})"))
        rows += [
            _Row(f" {_short(line.file)}", line.teacher, line.student, form, ratio(line.ratio))
            for line in measured.quantities
            if line.kind == "latency" and line.batch == batch
        ]
    scores = [line for line in measured.quantities if line.kind == "score"]
    if any(line.file for line in scores):
        rows.append(_Row("mIoU"))
        rows += [
            _Row(
                f" ONNX {line.file}" if line.file else " torch",
                line.teacher,
                line.student,
                number,
                "" if line.file else percent(line.ratio),
            )
            for line in scores
        ]
    return rows


def _short(runtime: str) -> str:
    return runtime.replace("onnxruntime", "ONNX")


def _alone(row: _Row) -> TextLine:
    if row.form is None:
        return ((row.label, "muted"),)
    return (f"{row.label:15}", "muted"), (row.form(row.student), "")


def _beside(row: _Row, broad: int) -> TextLine:
    if row.form is None:
        return ((row.label, "muted"),)
    theirs, own = row.teacher, row.student
    times = theirs / own if row.ratio is None and theirs is not None and own else None
    text = ratio(times) if row.ratio is None else row.ratio
    better = text.endswith("x") and float(text[:-1]) > 1
    return (
        (f"{row.label:{_LABEL}}", "muted"),
        (f"{row.form(theirs):>{broad}}{row.form(own):>{broad}}", ""),
        (f"{text:>{_RATIO}}", "strong" if better else ""),
    )


def _bytes(parameters: int | None) -> int | None:
    return None if parameters is None else parameters * BYTES_PER_PARAMETER


def _median(times: Mapping[str, float] | None) -> str:
    return "-" if times is None else _three(times["median"])


def _with_quartiles(times: Mapping[str, float] | None) -> str:
    if times is None:
        return "-"
    return f"{_three(times['median'])} ({_three(times['q1'])}-{_three(times['q3'])})"


def _three(seconds: float) -> str:
    """Seconds as milliseconds, with three significant digits."""
    value = seconds * 1e3
    if not math.isfinite(value):  # not valid JSON, but accepted by Python's parser
        return "-"
    places = 2 if value <= 0 else min(3, max(0, 2 - math.floor(math.log10(value))))
    return f"{value:.{places}f}"
