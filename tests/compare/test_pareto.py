"""mIoU against cost: what nothing else beats in both."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.compare import COSTS, ComparedRun, cells, compare, pareto
from kdtui.compare.pareto import cells as pareto_cells
from kdtui.compare.pareto import to_json
from kdtui.errors import UsageError
from kdtui.store.run import Run
from kdtui.store.state import RunSummary, State


def side(sha: str, ms: float, miou: float | None = None, **exports: tuple[float, float]) -> dict[str, Any]:
    """One network of measurements; ``exports`` are precision=(milliseconds, mIoU)."""

    def times(value: float) -> dict[str, Any]:
        return {"1": {"median": value / 1e3}}

    return {
        "sha256": sha,
        "parameters": 9_000_000,
        "macs": 2_000_000_000,
        "miou": miou,
        "latency": {"torch": times(ms)} | {f"onnxruntime {name}": times(value) for name, (value, _) in exports.items()},
        "onnx": {name: {"bytes": 1, "miou": score} for name, (_, score) in exports.items()},
    }


def entry(
    run: str,
    miou: float | None,
    parameters: int = 5_000_000,
    student: dict[str, Any] | None = None,
    teacher: dict[str, Any] | None = None,
    **setup: Any,
) -> ComparedRun:
    measurements = None
    if student is not None:
        speed = {"latency": {"torch": {"1": 2.0}}} if teacher else None
        measurements = {"student": student, "teacher": teacher, "ratio": speed, "setup": {"threads": 1} | setup}
    summary = RunSummary(
        id=f"id-{run}", name=run, path=Path(run), state=State.FINISHED, best_miou=miou, parameters=parameters
    )
    return ComparedRun(summary, {"name": run}, measurements)


def labels(entries: list[ComparedRun], cost: str) -> dict[str, str | None]:
    return {point.label: point.dominated_by for point in pareto(entries, cost).points}


def test_a_run_that_is_slower_and_worse_is_dominated_and_by_whom_is_said() -> None:
    entries = [
        entry("quick", 0.6, student=side("q", 10.0)),
        entry("good", 0.7, student=side("g", 20.0)),
        entry("neither", 0.55, student=side("n", 30.0)),
    ]
    assert labels(entries, "latency") == {"quick, torch": None, "good, torch": None, "neither, torch": "good, torch"}


def test_exports_and_teachers_are_points_too() -> None:
    teacher = side("t", 50.0, 0.8)
    student = side("s", 20.0, int8=(5.0, 0.69), fp32=(12.0, 0.7))
    found = labels([entry("student", 0.7, student=student, teacher=teacher)], "latency")
    assert found == {
        "student, onnxruntime int8": None,
        "student, onnxruntime fp32": None,
        "student, torch": "student, onnxruntime fp32",
        "teacher of student, torch": None,
    }


def test_a_teacher_among_the_runs_is_shown_once() -> None:
    teacher = side("t", 50.0, 0.8)
    entries = [entry("student", 0.7, student=side("s", 20.0), teacher=teacher), entry("big", 0.8, student=teacher)]
    assert set(labels(entries, "latency")) == {"student, torch", "big, torch"}


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("order", [1, -1])
def test_a_teacher_that_was_measured_with_its_student_only_is_one_network(cost: str, order: int) -> None:
    teacher = side("t", 50.0, 0.8, int8=(9.0, 0.79))
    big = entry("big", 0.8, 9_000_000)
    taught = entry("student", 0.7, student=side("s", 20.0), teacher=teacher)
    best = str(Run(big.summary.path).best)
    taught = dataclasses.replace(taught, summary=dataclasses.replace(taught.summary, teacher_checkpoint=best))
    found = pareto([big, taught][::order], cost)
    assert {point.label for point in found.points} == {"student, torch", "big, torch", "big, onnxruntime int8"}
    assert {point.latency for point in found.points if point.name == "big"} == {0.05, 0.009}
    assert found.notes == ()
    other = dataclasses.replace(big, summary=dataclasses.replace(big.summary, parameters=1))  # trained anew since
    assert "teacher of student, torch" in {point.label for point in pareto([other, taught][::order], cost).points}


def test_parameters_need_no_measurement_and_latency_names_the_command_it_needs() -> None:
    entries = [entry("a", 0.6, 1), entry("b", 0.6, 2), entry("c", None, 3)]
    assert labels(entries, "parameters") == {"a, torch": None, "b, torch": "a, torch"}
    notes = pareto(entries, "latency").notes
    assert any("kdtui measure id-a" in note for note in notes)
    assert any("id-c has no score" in note for note in notes)


def test_other_conditions_are_said() -> None:
    entries = [entry("a", 0.6, student=side("a", 1.0)), entry("b", 0.6, student=side("b", 2.0), threads=2)]
    assert any("threads" in note for note in pareto(entries, "latency").notes)
    assert any("threads" in note for note in compare(entries).notes)


def test_another_cost() -> None:
    with pytest.raises(UsageError) as caught:
        pareto([], "beauty")
    assert caught.value.allowed == ", ".join(COSTS)


def test_text_and_json() -> None:
    entries = [entry("a", 0.6, student=side("a", 1.0)), entry("b", 0.5, student=side("b", 2.0))]
    found = pareto(entries, "latency")
    header, body = pareto_cells(found)
    assert [len(row) for row in body] == [len(header)] * 2
    assert [row[0] for row in body] == ["★", "·"]
    assert body[1][-1] == "a, torch"
    assert [point["name"] for point in to_json(found)["points"]] == ["a", "b"]


def test_measurements_are_columns_of_a_comparison_and_only_then() -> None:
    measured = entry("a", 0.6, student=side("a", 12.5), teacher=side("t", 25.0, 0.8))
    comparison = compare([measured, entry("b", 0.5)])
    row = next(row for row in comparison.rows if row.name == "a")
    assert (row.macs, row.latency, row.speedup) == (2_000_000_000, 0.0125, 2.0)
    header, body = cells(comparison)
    assert {"MACs", "latency", "faster"} <= set(header)
    assert "12.50 ms" in body[0]
    assert "latency" not in cells(compare([entry("b", 0.5)]))[0]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_front_is_never_empty_and_contains_every_dominating_run(values: list[tuple[int, int]]) -> None:
    entries = [entry(f"r{n}", miou / 10, size) for n, (miou, size) in enumerate(values)]
    points = pareto(entries, "parameters").points
    front = {point.label for point in points if point.dominated_by is None}
    assert front
    assert {point.dominated_by for point in points if point.dominated_by is not None} <= front
    for point in points:
        if point.dominated_by is None:
            beaten = [
                other
                for other in points
                if other.miou >= point.miou
                and (other.parameters or 0) <= (point.parameters or 0)
                and (other.miou, other.parameters) != (point.miou, point.parameters)
            ]
            assert beaten == []


def of_instances(made: ComparedRun, target_iou: float) -> ComparedRun:
    own = {"target_iou": target_iou}
    last = own | {"best_target_iou": target_iou}
    changes: dict[str, Any] = {"metrics": last, "best_metrics": own, "teacher_metrics": {"target_iou": 0.9}}
    return dataclasses.replace(made, summary=dataclasses.replace(made.summary, **changes))


def test_runs_of_a_kind_with_another_score_are_compared_by_it() -> None:
    """The mIoU would dominate in the other direction; without metrics of a file only that of fp32 is known."""
    student = side("s", 20.0, fp32=(12.0, 0.7), int8=(5.0, 0.69))
    worse = of_instances(entry("worse", 0.7, student=student, teacher=side("t", 50.0, 0.8)), 0.5)
    better = of_instances(entry("better", 0.6, student=side("b", 10.0)), 0.6)
    found = pareto([worse, better], "latency")
    assert {point.label: (point.score, point.dominated_by) for point in found.points} == {
        "better, torch": (0.6, None),
        "worse, onnxruntime fp32": (0.5, "better, torch"),
        "worse, torch": (0.5, "better, torch"),
        "teacher of worse, torch": (0.9, None),
    }
    assert pareto_cells(found)[0][-2] == "target IoU"
    assert any("fp32" in note for note in found.notes)
    assert to_json(found)["score"] == "target_iou"
    student["onnx"]["int8"]["metrics"] = {"target_iou": 0.48}
    scores = {point.label: point.score for point in pareto([worse, better], "latency").points}
    assert scores["worse, onnxruntime int8"] == 0.48
    mixed = pareto([worse, entry("other", 0.65, student=side("o", 30.0))], "latency")
    assert mixed.score == "miou"
