"""Score against cost: the Pareto front of runs, exports and teachers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdtui.compare.comparison import classes_apart
from kdtui.compare.entries import ComparedRun, by_score
from kdtui.compare.measured import measured_apart, seconds
from kdtui.compare.named import called
from kdtui.errors import UsageError
from kdtui.store.run import Run
from kdtui.text import millions, milliseconds, number, score_title

Cost = Literal["latency", "parameters"]
COSTS: tuple[Cost, ...] = ("latency", "parameters")


@dataclass(frozen=True)
class Point:
    """A network in a runtime, with its scores and costs.

    Attributes:
        name: Name of the run, or of a run's teacher.
        called: A distinct name, from :func:`kdtui.compare.named.called`.
        run: Id of the run that it was measured in.
        role: ``student`` or ``teacher``.
        runtime: ``torch``, or ``onnxruntime`` and the precision of an export.
        latency: Median time for one image in seconds; None if it was not measured.
        score: The score by which the points are compared, see :class:`Pareto`.
        dominated_by: Label of a point that is at least as good in both and better in one; None on the front.
    """

    name: str
    called: str
    run: str
    role: str
    runtime: str
    miou: float
    parameters: int | None
    latency: float | None
    score: float = 0.0
    dominated_by: str | None = None

    @property
    def label(self) -> str:
        """Distinct name and runtime."""
        return f"{self.called}, {self.runtime}"

    def cost(self, cost: str) -> float | None:
        """The cost: latency in seconds, or parameters."""
        return self.latency if cost == "latency" else self.parameters


@dataclass(frozen=True)
class Pareto:
    """Points, cheapest first; those on the front have no ``dominated_by``.

    Attributes:
        score: Name of the score, see :func:`kdtui.compare.entries.by_score`.
    """

    cost: str
    points: tuple[Point, ...]
    notes: tuple[str, ...]
    score: str = "miou"


def pareto(entries: Sequence[ComparedRun], cost: str = "latency") -> Pareto:
    """Find the Pareto front of the runs, their measured exports and their teachers.

    Args:
        entries: The runs, with their measurements if there are any.
        cost: ``latency`` or ``parameters``.

    Raises:
        UsageError: There is no such cost.
    """
    if cost not in COSTS:
        raise UsageError("no such cost", found=cost, allowed=", ".join(COSTS))
    found: dict[tuple[str, str], Point] = {}
    entries = by_score(entries)
    score = entries[0].score if entries else "miou"
    notes = [entry.unmeasured for entry in entries if entry.unmeasured]
    # Students first: a teacher that is one of the runs is recognised by the hash of its weights and shown once.
    names = called(entry.summary for entry in entries)
    measured = _measured_as_teachers(entries)
    for entry in entries:
        _add(found, _student(entry, names, measured.get(entry.summary.id, {})))
    for entry in entries:
        _add(found, _teacher(entry, names))
    points = [point for point in found.values() if point.cost(cost) is not None]
    shown = {point.run for point in points if point.role == "student"}
    for entry in entries:
        if entry.summary.id not in shown and not (entry.unmeasured and entry.summary.best_miou is not None):
            missing = "score" if entry.summary.best_miou is None else cost
            hint = "" if missing == "score" else f": kdtui measure {entry.summary.id}"
            notes.append(f"{entry.summary.id} has no {missing}{hint}")
    if any(_of_network(file, score) for entry in entries for file in _files(entry)):
        notes.append(f"exports have the {score_title(score)} of fp32, which is verified to be that of the network")
    notes += classes_apart(entries)
    if cost == "latency":
        notes += measured_apart(entry.measurements for entry in entries)
    marked = [dataclasses.replace(point, dominated_by=_dominator(point, points, cost)) for point in points]
    ordered = sorted(marked, key=lambda point: (point.cost(cost) or 0.0, -point.score, point.label))
    return Pareto(cost, tuple(ordered), tuple(notes), score)


def _add(found: dict[tuple[str, str], Point], points: Iterable[tuple[str, Point]]) -> None:
    for weights, point in points:
        found.setdefault((weights, point.runtime), point)


def _measured_as_teachers(entries: Iterable[ComparedRun]) -> dict[str, Mapping[str, Any]]:
    """Teacher measurements taken with a student, by run id, for runs that were not measured themselves.

    Such a run has no hash that identifies the teacher, only the path of its best checkpoint. If the number of
    parameters differs, the checkpoint has been replaced.
    """
    unmeasured = {str(Run(entry.summary.path).best): entry.summary for entry in entries if entry.measurements is None}
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        side = (entry.measurements or {}).get("teacher")
        run = unmeasured.get(entry.summary.teacher_checkpoint or "")
        if side and run is not None and run.parameters in (None, side.get("parameters")):
            found.setdefault(run.id, side)
    return found


def _student(entry: ComparedRun, names: Mapping[str, str], lent: Mapping[str, Any]) -> list[tuple[str, Point]]:
    """The run and its exports; ``lent`` are measurements as a teacher, for a run without its own."""
    run = entry.summary
    if run.best_miou is None or entry.value is None:
        return []
    side = (entry.measurements or {}).get("student", lent)
    parameters = run.parameters or side.get("parameters")
    first = Point(
        run.name,
        names[run.id],
        run.id,
        "student",
        "torch",
        run.best_miou,
        parameters,
        seconds(side, "torch"),
        entry.value,
    )
    key = str(side.get("sha256") or run.id)
    return [(key, first), *((key, point) for point in _exports(side, first, entry.score))]


def _teacher(entry: ComparedRun, names: Mapping[str, str]) -> list[tuple[str, Point]]:
    side = (entry.measurements or {}).get("teacher") or {}
    run = entry.summary
    score = side.get("miou") if entry.score == "miou" else entry.teacher_value
    if not _is_score(side.get("miou")) or not _is_score(score):
        return []
    both = f"teacher of {run.name}", f"teacher of {names[run.id]}"
    costs = side.get("parameters"), seconds(side, "torch")
    first = Point(*both, run.id, "teacher", "torch", side["miou"], *costs, float(score or 0.0))
    key = str(side.get("sha256") or run.teacher_checkpoint)
    return [(key, first), *((key, point) for point in _exports(side, first, entry.score))]


def _exports(side: Mapping[str, Any], first: Point, score: str) -> list[Point]:
    """Exports with a known score, which is that of their verification.

    Measurements of earlier versions have the mIoU only; then fp32 has the score of the network.
    """
    points = []
    for precision, file in side.get("onnx", {}).items():
        runtime = f"onnxruntime {precision}"
        of_network = first.score if precision == "fp32" else None
        value = file.get("miou") if score == "miou" else file.get("metrics", {}).get(score, of_network)
        if _is_score(file.get("miou")) and _is_score(value):
            changes = {"runtime": runtime, "miou": file["miou"], "latency": seconds(side, runtime), "score": value}
            points.append(dataclasses.replace(first, **changes))
    return points


def _files(entry: ComparedRun) -> Iterable[Mapping[str, Any]]:
    sides = [(entry.measurements or {}).get(side) or {} for side in ("student", "teacher")]
    return [file for side in sides for file in side.get("onnx", {}).values()]


def _of_network(file: Mapping[str, Any], score: str) -> bool:
    """Whether the score of a file is only known as that of its network."""
    return score != "miou" and score not in file.get("metrics", {})


def _is_score(value: float | None) -> bool:
    """Whether it is a finite number; NaN cannot be ordered."""
    return value is not None and math.isfinite(value)


def _dominator(point: Point, others: Iterable[Point], cost: str) -> str | None:
    """The best of the points that dominate this one."""
    own = point.cost(cost) or 0.0
    better = [
        other
        for other in others
        if other.score >= point.score
        and (other.cost(cost) or 0.0) <= own
        and (other.score > point.score or (other.cost(cost) or 0.0) < own)
    ]
    return max(better, key=lambda other: (other.score, -(other.cost(cost) or 0.0))).label if better else None


def cells(found: Pareto) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table; points on the front are marked."""
    header = ["", "run", "runtime", "params", "latency", score_title(found.score), "dominated by"]
    body = [
        [
            "★" if point.dominated_by is None else "·",
            point.called,
            point.runtime,
            millions(point.parameters),
            milliseconds(point.latency),
            number(point.score),
            point.dominated_by or "",
        ]
        for point in found.points
    ]
    return header, body


def to_json(found: Pareto) -> dict[str, Any]:
    """The JSON object of ``compare --pareto --json``."""
    return {
        "cost": found.cost,
        "score": found.score,
        "points": [dataclasses.asdict(point) for point in found.points],
        "notes": list(found.notes),
    }
