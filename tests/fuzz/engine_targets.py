"""The parsers of the engine: data files and checkpoints of anyone's making."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import save

from kdtui.engine.data import build_dataset
from kdtui.engine.data.folder import read_classes
from kdtui.engine.data.images import ImageFormat, extent, read_values
from kdtui.engine.data.pictures import as_labels, open_picture, upright
from kdtui.engine.teacher_report import inspect
from kdtui.errors import DataError
from kdtui.profile import CocoData
from tests.engine.data.makers import CLASSES, HEIGHT, WIDTH, annotation, coco, counts, instances
from tests.engine.data.test_fuzz import pictures
from tests.fuzz.targets import Target, entering

ENGINE_TARGETS: dict[str, Target] = {}
target = entering(ENGINE_TARGETS)


def _profile(folder: Path, data: bytes) -> CocoData:
    profile = coco(folder, instances())
    (folder / "instances.json").write_bytes(data)
    return profile


_OBJECTS = instances(
    annotation(1, (10, 5, 20, 30)),
    annotation(2, (25, 5, 20, 30), segmentation=[{"size": [HEIGHT, WIDTH], "counts": counts(25, 5, 20, 30)}]),
    annotation(3, (20, 0, 30, 10), iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": "0" * 20}),
)


@target("coco", json.dumps(_OBJECTS).encode(), json.dumps(instances(annotation(1, (1, 1, 5, 5)))).encode())
def _coco(data: bytes, folder: Path) -> None:
    dataset = build_dataset(_profile(folder, data), "val")
    for index in range(min(3, len(dataset))):
        dataset.look(index)


@target("picture", *pictures())
def _picture(data: bytes, folder: Path) -> None:
    path = folder / "a.png"
    path.write_bytes(data)
    refused: list[DataError] = []
    uses: tuple[Callable[[], object], ...] = (
        lambda: ImageFormat().image(read_values(path), path),
        lambda: ImageFormat(channels=4, value_range=(0, 4095)).image(read_values(path), path),
        lambda: extent(read_values(path)),
        lambda: as_labels(upright(open_picture(path, mask=True)), path),
    )
    for use in uses:
        try:
            use()
        except DataError as error:
            refused.append(error)
    if refused:
        raise refused[0]


@target("classes.txt", CLASSES.encode(), b"sky\nroad\n", "0 ciel\n1 chauss\u00e9e\n".encode())
def _classes(data: bytes, folder: Path) -> None:
    (folder / "classes.txt").write_bytes(data)
    classes = read_classes(folder / "classes.txt")
    assert 2 <= len(classes.names) == len(classes.values) <= 255


_STATE: Mapping[str, torch.Tensor] = {
    "encoder.conv1.weight": torch.arange(8.0).reshape(2, 1, 2, 2),
    "decoder.blocks.0.conv1.0.weight": torch.ones(2, 2),
    "segmentation_head.0.weight": torch.ones(2, 2),
}


def _saved(content: Any, *, archive: bool, checksums: bool = True) -> bytes:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(checksums)
    try:
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=archive)
        return file.getvalue()
    finally:
        torch.serialization.set_crc32_options(before)


_CONTENT = {"state_dict": dict(_STATE), "epoch": 3, "hyper_parameters": {"arch": "unet", "lr": 0.1}}


@target(
    "checkpoint",
    _saved(_CONTENT, archive=False),
    _saved(_CONTENT, archive=True, checksums=False),
    _saved(dict(_STATE), archive=True),
)
def _checkpoint(data: bytes, folder: Path) -> None:
    (folder / "a.pth").write_bytes(data)
    inspect(folder / "a.pth")


@target("safetensors", save(dict(_STATE), {"format": "pt", "arch": "unet"}), save(dict(_STATE)))
def _safetensors(data: bytes, folder: Path) -> None:
    (folder / "a.safetensors").write_bytes(data)
    inspect(folder / "a.safetensors")


def _graph() -> bytes:
    """A network of one layer."""
    kind = onnx.TensorProto.FLOAT
    inputs = [onnx.helper.make_tensor_value_info("images", kind, ["n", 3, "h", "w"])]
    outputs = [onnx.helper.make_tensor_value_info("logits", kind, ["n", 2, "h", "w"])]
    weight = onnx.helper.make_tensor("weight", kind, [2, 3, 1, 1], [0.1] * 6)
    node = onnx.helper.make_node("Conv", ["images", "weight"], ["logits"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "graph", inputs, outputs, [weight]),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=8,
    )
    model.metadata_props.add(key="classes", value='["sky", "road"]')
    content: bytes = model.SerializeToString()
    return content


@target("onnx", _graph())
def _onnx(data: bytes, folder: Path) -> None:
    (folder / "a.onnx").write_bytes(data)
    inspect(folder / "a.onnx")


def _folder_of_weights(folder: Path, name: str, data: bytes) -> Path:
    weights = folder / "model"
    weights.mkdir()
    (weights / "part.safetensors").write_bytes(save(dict(_STATE)))
    (weights / name).write_bytes(data)
    return weights


@target("weights-index", json.dumps({"weight_map": dict.fromkeys(_STATE, "part.safetensors")}).encode())
def _weights_index(data: bytes, folder: Path) -> None:
    inspect(_folder_of_weights(folder, "model.safetensors.index.json", data))


@target("model-config", json.dumps({"_model_class": "Unet", "encoder_name": "resnet18", "classes": 2}).encode())
def _model_config(data: bytes, folder: Path) -> None:
    weights = _folder_of_weights(folder, "config.json", data)
    (weights / "part.safetensors").rename(weights / "model.safetensors")
    inspect(weights)
