"""Exports and measurements of networks of kind ``roi``."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch

from kdtui.engine.export import export
from kdtui.engine.export.make import Shared
from kdtui.engine.export.source import ExportNetwork, of_run
from kdtui.engine.export.verify import session
from kdtui.engine.measure import measure
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions, lines_of
from kdtui.measure_options import MeasureOptions
from kdtui.store.run import Run
from tests.engine.roi.networks import ROIS

ANY_SIZE = ExportOptions(dynamic="all", limit=100, calibration=4)
"""One graph, whatever its precision."""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """What the exports of one graph share: dynamo takes seconds for it."""
    return Shared(tmp_path_factory.mktemp("traced"))


def assert_stage_1_once(source: ExportNetwork, report: dict[str, Any], path: Path) -> None:
    """The graph has all convolutions of the network, one alignment, and answers for any numbers of images and boxes."""
    assert report["inputs"]["rois"]["shape"] == ["rois", 5]
    assert {name: entry["shape"][:2] for name, entry in report["outputs"].items()} == {
        "masks": ["rois", 3],
        "foreground": ["batch", 1],
    }
    assert report["verified"]["outputs"]["masks"]["agreement"] > 0.999
    assert report["verified"]["outputs"]["foreground"]["relative"] < 1e-3
    nodes = onnx.load(path).graph.node
    assert [node.op_type for node in nodes].count("RoiAlign") == 1
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in source.network.modules())
    assert [node.op_type for node in nodes].count("Conv") == convolutions
    file = session(path)
    for images, boxes in ((1, 0), (2, 3), (3, 10)):
        rois = ROIS[torch.arange(boxes) % 3].numpy() * [images > 1, 1, 1, 1, 1]
        masks, foreground = file.run(
            None, {"images": np.zeros((images, 3, 32, 32), np.float32), "rois": rois.astype(np.float32)}
        )
        assert (masks.shape, foreground.shape) == ((boxes, 3, 16, 16), (images, 1, 32, 32))


def test_the_graph_has_stage_1_once_and_no_head_of_a_loss_term(trained: Run, traced: Shared, tmp_path: Path) -> None:
    source, path = of_run(trained, trained.best), tmp_path / "model.onnx"
    report = export(source, path, ANY_SIZE, shared=traced)
    assert report["exporter"] == "dynamo"
    assert report["inputs"]["images"]["shape"] == ["batch", 3, "height", "width"]
    assert_stage_1_once(source, report, path)


def test_so_has_that_of_the_older_exporter(trained: Run, tmp_path: Path) -> None:
    source, path = of_run(trained, trained.best), tmp_path / "model.onnx"
    report = export(source, path, ExportOptions(opset=17, dynamic="batch"))
    assert report["exporter"] == "torchscript"
    assert report["inputs"]["images"]["shape"] == ["batch", 3, 32, 32]
    assert_stage_1_once(source, report, path)


def test_fp16_keeps_the_coordinates_of_boxes(trained: Run, traced: Shared, tmp_path: Path) -> None:
    options = replace(ANY_SIZE, precision="fp16")
    report = export(of_run(trained, trained.best), tmp_path / "model.onnx", options, shared=traced)
    assert {entry["type"] for entry in report["inputs"].values()} == {"tensor(float)"}
    types = [entry.data_type for entry in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert onnx.TensorProto.FLOAT16 in types
    images = np.random.default_rng(0).random((1, 3, 32, 1088), np.float32)
    boxes = np.array([[0, 1030, 4, 1040, 30], [0, 1030.4, 4, 1040.4, 30]], np.float32)  # equal in fp16
    masks, _ = session(tmp_path / "model.onnx").run(None, {"images": images, "rois": boxes})
    assert not np.array_equal(masks[0], masks[1])


def test_fp16_of_the_older_exporter_is_refused_with_a_hint(trained: Run, tmp_path: Path) -> None:
    options = ExportOptions(dynamic="batch", precision="fp16", opset=17, limit=100)
    with pytest.raises(ExportError, match="cannot be converted to fp16") as refused:
        export(of_run(trained, trained.best), tmp_path / "model.onnx", options)
    assert "--opset 18" in str(refused.value.hint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", ["logits", pytest.param("argmax", marks=pytest.mark.slow)])  # another graph
def test_int8_with_any_size(trained: Run, traced: Shared, tmp_path: Path, output: Literal["logits", "argmax"]) -> None:
    options = replace(ANY_SIZE, precision="int8", output=output)
    report = export(of_run(trained, trained.best), tmp_path / "model.onnx", options, shared=traced)
    assert report["outputs"]["masks"]["shape"] == ["rois", *([3] if output == "logits" else []), 16, 16]
    validation = report["verified"]["validation"]
    assert validation["images"] == 4
    assert report["score"] == "target_iou" and 0 <= validation["metrics"]["target_iou"] <= 1
    text = f"target IoU {validation['metrics']['target_iou']:.4f}"
    assert any(text in line for line in lines_of(report, tmp_path / "model.onnx"))


def test_latency_is_measured_for_one_box_three_and_ten_and_for_the_parts(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / trained.id)
    run = Run(tmp_path / trained.id)
    export(of_run(run, run.best), run.best.with_suffix(".onnx"), ExportOptions(opset=17, dynamic="batch"))
    measure([run], MeasureOptions(repeats=1, warmup=0, threads=1, batch=2))
    student = json.loads(run.measurements_path.read_bytes())["student"]
    boxes = ["1 box", "3 boxes", "10 boxes"]
    expected = {"torch", "onnxruntime fp32", "torch, stage 1"}
    assert "target_iou" in student["onnx"]["fp32"]["metrics"]
    expected |= {f"{runtime}, {text}" for runtime in ("torch", "onnxruntime fp32") for text in boxes}
    assert student["latency"].keys() == expected | {f"torch, heads of {text}" for text in boxes}
