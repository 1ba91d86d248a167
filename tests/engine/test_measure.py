"""Sizes, work, memory and interleaved times of a student and its teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdtui import catalog
from kdtui.engine.export import export
from kdtui.engine.export.source import of_run
from kdtui.engine.measure import _exports, interleaved, measure, peak_memory, quartiles, ratios
from kdtui.errors import EngineError, Interrupted
from kdtui.events import Started
from kdtui.export_options import ExportOptions
from kdtui.measure_options import MeasureOptions
from kdtui.store.export_files import export_path, report_of
from kdtui.store.run import Run
from tests.engine.runs import events_of, fit, make_run

ENCODER = "tu-regnety_002"  # small, and in the catalog
QUICK = MeasureOptions(batch=2, repeats=3, warmup=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A wider teacher and its student, each trained for an epoch."""
    root = tmp_path_factory.mktemp("runs")
    wide = {"encoder": ENCODER, "encoder_depth": 5, "decoder_channels": [64, 32, 16, 16, 8]}
    teacher = make_run(root, name="teacher", student=wide, training__epochs=1)
    fit(teacher)
    taught: dict[str, Any] = {
        "student__encoder": ENCODER,
        "teacher__checkpoint": str(teacher.best),
        "distillation__enabled": True,
        "training__epochs": 1,
    }
    student = make_run(root, name="student", **taught)
    fit(student)
    return teacher, student


def test_one_run_beside_its_teacher(pair: tuple[Run, Run]) -> None:
    teacher, student = pair
    export(of_run(student, student.best), export_path(student.best, "fp32"), ExportOptions(opset=17))
    answer = measure([student], QUICK)["runs"][student.id]
    assert json.loads(student.measurements_path.read_bytes()) == answer == student.measurements()
    sides = answer["teacher"], answer["student"]
    for side, run in zip(sides, pair, strict=True):
        network = run.profile().student.catalog_arguments()
        assert network is not None
        told = catalog.cost(
            **network,
            height=32,
            width=32,
        )
        assert told is not None
        assert (side["parameters"], side["parameters_used"]) == (told.parameters, told.parameters_used)
        assert side["parameter_bytes"] == 4 * told.parameters
        assert side["macs"] == side["macs_catalog"]
        assert side["peak_memory_bytes"] > side["state_bytes"]
        assert set(side["latency"]["torch"]) == {"1", "2"}
    assert set(sides[1]["latency"]) == {"torch", "onnxruntime fp32"}
    assert sides[0]["onnx"] == {}
    times = sides[1]["latency"]["onnxruntime fp32"]["2"]
    assert 0 < times["q1"] <= times["median"] <= times["q3"]
    assert times["images_per_second"] == pytest.approx(2 / times["median"])
    assert answer["ratio"]["parameters"] == sides[0]["parameters"] / sides[1]["parameters"] > 1
    assert answer["ratio"]["latency"]["torch"]["1"] > 0
    assert answer["setup"]["threads"] == 1
    started = events_of(student)[0]
    assert isinstance(started, Started)
    assert started.teacher is not None
    assert (started.teacher["macs"], started.student["macs"]) == (sides[0]["macs"], sides[1]["macs"])
    assert answer["student"]["retention"] == pytest.approx(answer["student"]["miou"] / answer["teacher"]["miou"])
    assert not [path for path in teacher.path.iterdir() if path.name == "measurements.json"]


def test_a_run_without_teacher_and_a_damaged_report(pair: tuple[Run, Run]) -> None:
    teacher, _ = pair
    path = export_path(teacher.best, "fp32")
    path.write_bytes(b"x")
    report_of(path).write_text("{")
    answer = measure([teacher], replace(QUICK, repeats=1))["runs"][teacher.id]
    assert (answer["teacher"], answer["ratio"]) == (None, None)
    assert answer["student"]["onnx"] == {}
    path.unlink()
    report_of(path).unlink()


@pytest.mark.parametrize(
    "changes",
    [
        {"options": []},
        {"options": {"dynamic": "none"}},
        {"verified": {}},
        {"verified": {"validation": {"miou": "high"}}},
        {"size": [8, "8"]},
        {"size": None},
        "[" * 5000,
    ],
    ids=range(7),
)
def test_a_report_that_export_did_not_write_is_not_used(tmp_path: Path, changes: dict[str, Any] | str) -> None:
    path = export_path(tmp_path / "best_model.pth", "fp32")
    path.write_bytes(b"onnx")
    options = ExportOptions(dynamic="none").to_json()
    report = {"bytes": 4, "size": [8, 8], "options": options, "verified": {"validation": {"miou": 0.5}}}
    report_of(path).write_text(json.dumps(report))
    assert _exports(tmp_path / "best_model.pth").keys() == {"fp32"}
    report_of(path).write_text(changes if isinstance(changes, str) else json.dumps(report | changes))
    assert _exports(tmp_path / "best_model.pth") == {}


def test_several_runs_share_one_series(pair: tuple[Run, Run]) -> None:
    teacher, student = pair
    answers = measure([student, teacher], replace(QUICK, repeats=1))["runs"]
    assert answers[student.id]["teacher"]["latency"] == answers[teacher.id]["student"]["latency"]


def test_a_cancelled_export_writes_nothing(pair: tuple[Run, Run]) -> None:
    _, student = pair
    student.measurements_path.unlink(missing_ok=True)

    def progress(words: str, done: int, total: int) -> None:
        if words == "timing":
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        measure([student], QUICK, progress=progress)
    assert not student.measurements_path.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu(pair: tuple[Run, Run]) -> None:
    with pytest.raises(EngineError, match="GPU"):
        measure([pair[1]], replace(QUICK, device="gpu"))


def test_rounds_are_interleaved_and_warm_up_counts_nowhere() -> None:
    order: list[str] = []

    def named(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    def clock(call: Callable[[], object]) -> float:
        call()
        return float(len(order))

    told: list[int] = []
    timed = interleaved({name: named(name) for name in "abc"}, repeats=3, warmup=1, clock=clock, seen=told.append)
    assert [sorted(order[at : at + 3]) for at in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert len({order[at] for at in range(0, 12, 3)}) == 3  # another one begins each round
    assert told == [1, 2, 3]
    assert {times.n for times in timed.values()} == {3}
    assert min(times.q1 for times in timed.values()) > 3


def test_quartiles() -> None:
    assert quartiles([1.0]).median == 1.0
    found = quartiles([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.q1, found.median, found.q3, found.n) == (2.0, 3.0, 4.0, 5)


def test_ratios_are_larger_where_the_student_is_smaller() -> None:
    def side(factor: int) -> dict[str, object]:
        times = {"1": {"median": 0.1 * factor}}
        return {
            "parameters": 10 * factor,
            "macs": 7 * factor,
            "onnx": {"fp32": {"bytes": 5 * factor}} | ({"int8": {"bytes": 1}} if factor == 1 else {}),
            "latency": {"torch": times} | ({"onnxruntime int8": times} if factor == 1 else {}),
        }

    found = ratios(side(3), side(1))
    assert found is not None
    assert (found["parameters"], found["macs"], found["onnx_bytes"]) == (3, 3, {"fp32": 3})
    assert found["latency"] == {"torch": {"1": pytest.approx(3)}, "onnxruntime int8": {}}
    assert ratios(None, side(1)) is None


def test_peak_memory_is_the_maximum_of_simultaneous_tensors() -> None:
    # 100 and 200 numbers live at once, then 200 and 50: never all three.
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.MaxPool2d(2)).eval()
    images = torch.zeros(1, 1, 10, 10)
    weights, given, wide, pooled = 8, 400, 800, 200 + 400  # pooling's indices are i64
    assert peak_memory(network, images) == weights + given + wide + pooled
    deeper = nn.Sequential(network, *(nn.ReLU() for _ in range(9))).eval()
    assert peak_memory(deeper, images) == peak_memory(network, images)


def test_the_slim_student_has_less_than_half_the_work_of_its_teacher() -> None:
    from kdtui.profile import load

    teacher, student = load("hierarchical-b3"), load("distill-b0-slim-from-b3")
    sizes = [
        catalog.cost(
            **(profile.student.catalog_arguments() or {}),
            height=profile.data.height,
            width=profile.data.width,
        )
        for profile in (teacher, student)
    ]
    assert sizes[0] is not None
    assert sizes[1] is not None
    assert sizes[0].macs > 2 * sizes[1].macs
    assert sizes[0].parameters > 2 * sizes[1].parameters
