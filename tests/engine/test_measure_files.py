"""Size and latency of single ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from kdtui.engine.measure_files import measure_files
from kdtui.errors import CheckpointError, KdtuiError, UsageError
from kdtui.measure_options import MeasureOptions
from kdtui.store.export_files import report_of

QUICK = MeasureOptions(batch=2, repeats=3, warmup=1)


def written(path: Path, *shape: int | str, second: tuple[int | str, ...] | None = None) -> Path:
    """A file with one convolution of 3 to 2 channels, or with a second input that is added to its output.

    Without four dimensions it returns its input.
    """
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [2, 3, 1, 1], [0.5] * 6)
    nodes = [helper.make_node("Conv", ["images", "weight"], ["logits" if second is None else "maps"])]
    if len(shape) != 4:
        nodes = [helper.make_node("Identity", ["images"], ["logits"])]
    inputs = [images]
    if second is not None:
        nodes.append(helper.make_node("Add", ["maps", "more"], ["logits"]))
        inputs.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, second))
    graph = helper.make_graph(nodes, "graph", inputs, [logits], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_files_are_measured_in_one_series_with_what_is_known(tmp_path: Path) -> None:
    fixed = written(tmp_path / "fixed.onnx", 1, 3, 8, 16)
    open_size = written(tmp_path / "open.onnx", "batch", 3, "height", "width")
    last = written(tmp_path / "two.onnx", "batch", 3, 8, 16, second=("batch", 2, 8, 16))
    answers = measure_files([fixed, open_size, last], QUICK, (8, 16))["runs"]
    assert list(answers) == [str(fixed), str(open_size), str(last)]
    for path, batches in ((fixed, {"1"}), (open_size, {"1", "2"}), (last, {"1", "2"})):
        answer, side = answers[str(path)], answers[str(path)]["student"]
        assert (answer["setup"]["height"], answer["setup"]["width"]) == (8, 16)
        assert side["parameters"] == 6 and side["macs"] is None and side["peak_memory_bytes"] is None
        assert side["onnx"] == {"file": {"bytes": path.stat().st_size, "miou": None}}
        assert side["latency"].keys() == {"onnxruntime file"}
        assert side["latency"]["onnxruntime file"].keys() == batches
        assert all(times["n"] == 3 and times["median"] > 0 for times in side["latency"]["onnxruntime file"].values())


def test_the_report_of_an_export_has_size_precision_and_miou(tmp_path: Path) -> None:
    path = written(tmp_path / "best_model.onnx", "batch", 3, "height", "width")
    report = {"bytes": path.stat().st_size, "size": [8, 24], "precision": "fp32"}
    report_of(path).write_text(json.dumps(report | {"verified": {"validation": {"miou": 0.5}}}))
    answer = measure_files([path], QUICK, None)["runs"][str(path)]
    assert (answer["setup"]["height"], answer["setup"]["width"]) == (8, 24)
    assert answer["student"]["onnx"] == {"fp32": {"bytes": path.stat().st_size, "miou": 0.5}}
    assert "onnxruntime fp32" in answer["student"]["latency"]
    report_of(path).write_text(json.dumps(report | {"bytes": 1}))  # of another file
    with pytest.raises(UsageError, match="any size"):
        measure_files([path], QUICK, None)


@pytest.mark.parametrize(
    ("shape", "second", "size", "error", "message"),
    [
        (("batch", 3, "height", "width"), None, None, UsageError, "any size"),
        ((1, 3, 8, 16), None, (16, 16), UsageError, "one size"),
        ((1, 3, 8), None, (8, 8), CheckpointError, "does not take images"),
        (("batch", 3, 8, 16), ("batch", 2, "rows", 16), None, CheckpointError, "the shape of an input is open"),
        (("batch", 3, "height", "width"), (1, 2, 8, 16), (8, 24), CheckpointError, "cannot run this file"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path,
    shape: tuple[int | str, ...],
    second: tuple[int | str, ...] | None,
    size: tuple[int, int] | None,
    error: type[KdtuiError],
    message: str,
) -> None:
    path = written(tmp_path / "a.onnx", *shape, second=second)
    with pytest.raises(error, match=message):
        measure_files([path], QUICK, size)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x08nonsense")
    with pytest.raises(CheckpointError, match="cannot"):
        measure_files([path], QUICK, None)
