"""Exports and measurements of networks of kind ``roi``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from kdtui.engine.export import export
from kdtui.engine.export.source import of_run
from kdtui.engine.export.verify import session
from kdtui.engine.measure import measure
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions, lines_of
from kdtui.measure_options import MeasureOptions
from kdtui.store.run import Run
from tests.engine.roi.networks import ROIS


@pytest.mark.parametrize("opset", [17, 18], ids=["torchscript", "dynamo"])
def test_the_graph_has_stage_1_once_and_no_head_of_a_loss_term(trained: Run, opset: int, tmp_path: Path) -> None:
    source = of_run(trained, trained.best)
    report = export(source, tmp_path / "model.onnx", ExportOptions(opset=opset, dynamic="batch"))
    assert report["exporter"] == ("torchscript" if opset < 18 else "dynamo")
    assert {name: entry["shape"] for name, entry in report["inputs"].items()} == {
        "images": ["batch", 3, 32, 32],
        "rois": ["rois", 5],
    }
    assert {name: entry["shape"][:2] for name, entry in report["outputs"].items()} == {
        "masks": ["rois", 3],
        "foreground": ["batch", 1],
    }
    assert report["verified"]["outputs"]["masks"]["agreement"] > 0.999
    assert report["verified"]["outputs"]["foreground"]["relative"] < 1e-3
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert [node.op_type for node in nodes].count("RoiAlign") == 1
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in source.network.modules())
    assert [node.op_type for node in nodes].count("Conv") == convolutions
    file = session(tmp_path / "model.onnx")
    for images, boxes in ((1, 0), (2, 3), (3, 10)):
        rois = ROIS[torch.arange(boxes) % 3].numpy() * [images > 1, 1, 1, 1, 1]
        masks, foreground = file.run(
            None, {"images": np.zeros((images, 3, 32, 32), np.float32), "rois": rois.astype(np.float32)}
        )
        assert (masks.shape, foreground.shape) == ((boxes, 3, 16, 16), (images, 1, 32, 32))


def test_fp16_keeps_the_coordinates_of_boxes(trained: Run, tmp_path: Path) -> None:
    options = ExportOptions(dynamic="all", precision="fp16", limit=100)
    report = export(of_run(trained, trained.best), tmp_path / "model.onnx", options)
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


def test_int8_with_any_size(trained: Run, tmp_path: Path) -> None:
    options = ExportOptions(dynamic="all", precision="int8", calibration=4, limit=100, output="argmax")
    report = export(of_run(trained, trained.best), tmp_path / "model.onnx", options)
    assert report["outputs"]["masks"]["shape"] == ["rois", 16, 16]
    validation = report["verified"]["validation"]
    assert validation["images"] == 4
    assert report["score"] == "target_iou" and 0 <= validation["metrics"]["target_iou"] <= 1
    text = f"target IoU {validation['metrics']['target_iou']:.4f}"
    assert any(text in line for line in lines_of(report, tmp_path / "model.onnx"))


def test_latency_is_measured_for_one_box_three_and_ten_and_for_the_parts(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / trained.id)
    run = Run(tmp_path / trained.id)
    export(of_run(run, run.best), run.best.with_suffix(".onnx"), ExportOptions(dynamic="batch"))
    measure([run], MeasureOptions(repeats=1, warmup=0, threads=1, batch=2))
    student = json.loads(run.measurements_path.read_bytes())["student"]
    boxes = ["1 box", "3 boxes", "10 boxes"]
    expected = {"torch", "onnxruntime fp32", "torch, stage 1"}
    assert "target_iou" in student["onnx"]["fp32"]["metrics"]
    expected |= {f"{runtime}, {text}" for runtime in ("torch", "onnxruntime fp32") for text in boxes}
    assert student["latency"].keys() == expected | {f"torch, heads of {text}" for text in boxes}
