"""fp16 and int8 from one fp32 file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from kdtui.engine.export.deployed import fed
from kdtui.engine.export.onnx import INPUT, excluded, to_fp16, to_int8
from kdtui.engine.export.source import ExportNetwork
from tests.engine.export.asking import ask, floats, pictures
from tests.engine.export.conftest import Made
from tests.engine.export.test_verify import verdict_of


def weight_bytes(path: Path, kind: int) -> int:
    return sum(int(np.prod(entry.dims)) for entry in onnx.load(path).graph.initializer if entry.data_type == kind)


def test_fp16_halves_the_file_and_keeps_its_interface(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    path = tmp_path / "a.fp16.onnx"
    to_fp16(exported.path, path)
    assert path.stat().st_size < 0.6 * exported.path.stat().st_size
    (answer,) = ask(path, floats(pictures()))
    assert answer.dtype == np.float32
    verdict = verdict_of(path, source, replace(exported.options, precision="fp16"))
    assert verdict.drop is not None
    assert verdict.drop < 1


def test_int8_quarters_the_file_and_keeps_its_miou(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    fp32, path = tmp_path / "fp32.onnx", tmp_path / "a.int8.onnx"
    fp32.write_bytes(exported.path.read_bytes())
    seen: list[int] = []
    options = replace(exported.options, precision="int8")
    feeds = ({INPUT: fed(batch.images, options).numpy()} for batch in source.calibration(12))
    to_int8(fp32, path, feeds, options, progress=seen.append)
    assert seen == list(range(1, 13))
    assert path.stat().st_size < 0.35 * exported.path.stat().st_size
    verdict = verdict_of(path, source, replace(options, limit=100.0))
    assert verdict.outputs["logits"].agreement > 0.95
    inputs = {entry.name: entry for entry in onnx.load(path).graph.initializer}
    scales = [
        inputs[node.input[1]]
        for node in onnx.load(path).graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in inputs and inputs[node.input[0]].data_type == 3
    ]
    assert any(len(scale.dims) == 1 and scale.dims[0] > 1 for scale in scales), "per channel"


def test_calibration_images_are_spread_over_the_split_and_never_more_than_it_has(source: ExportNetwork) -> None:
    few, all_of_them = list(source.calibration(3)), list(source.calibration(1000))
    assert len(few) == 3
    assert len(all_of_them) == 24
    assert {tuple(batch.images.shape) for batch in few} == {(1, 3, 32, 32)}


@pytest.mark.parametrize(
    ("keep_float", "left"),
    [("none", ["a", "b", "c"]), ("first", ["b", "c"]), ("last", ["a", "b"]), ("both", ["b"])],
)
def test_nodes_around_the_layers_stay_in_float(keep_float: str, left: list[str]) -> None:
    names = [("scale", "Mul"), ("a", "Conv"), ("b", "Conv"), ("c", "Conv"), ("classes", "LogSoftmax")]
    nodes = [helper.make_node(kind, ["x"], [f"{name}_out"], name=name) for name, kind in names]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph(nodes, "g", [value], [value]))
    assert [name for name, _ in names if name not in excluded(model, keep_float)] == left
