"""Every family of teachers: described, loaded, and distilled from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.models import segmentation

from kdtui.engine.check import check
from kdtui.engine.families import FAMILIES
from kdtui.engine.families.segformer import Segformer
from kdtui.engine.teacher import load_teacher
from kdtui.engine.teacher_report import inspect
from kdtui.errors import CheckpointError, ModelError, TeacherError
from kdtui.profile import Profile, Teacher
from tests.engine import foreign
from tests.engine.data.makers import label_folder
from tests.engine.foreign import CLASSES, WRITERS
from tests.engine.runs import TINY, curve, fit, make_run

FOREIGN = [name for name in WRITERS if name != "segmentation-models-pytorch"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder of labelled images with the five classes."""
    root = tmp_path_factory.mktemp("data")
    table = label_folder(root, classes="".join(f"{number} {name}\n" for number, name in enumerate(CLASSES)), count=8)
    for path in root.glob("masks/*/*.png"):
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels > 4, 3, labels).astype(np.uint8)).save(path)
    return table.model_dump(mode="json", exclude_none=True) | {"height": 32, "width": 32}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    return {name: write(folder) for name, write in WRITERS.items()}


def distilling(checkpoint: Path, data: dict[str, Any], **tables: Any) -> dict[str, Any]:
    training = {**TINY["training"], "epochs": 1, "batch_size": 4, "log_every": 1}
    chosen = {"teacher": {"checkpoint": str(checkpoint)}, "distillation": {"enabled": True}}
    return TINY | {"data": data, "training": training} | chosen | tables


@pytest.mark.parametrize("name", WRITERS)
def test_a_teacher_of_every_family_is_described_and_distilled(
    name: str, teachers: dict[str, Path], data: dict[str, Any], tmp_path: Path
) -> None:
    report = inspect(teachers[name])
    assert report.family in [family.layout.family for family in FAMILIES] + ["ONNX"]
    assert (report.classes, report.out_channels, report.in_channels, report.task) == (5, 5, 3, "semantic")
    assert report.parameters >= report.parameters_used > 0
    run = make_run(tmp_path, **distilling(teachers[name], data))
    assert fit(run) == "finished"
    steps = curve(run, "train", "loss.distill")
    assert len(steps) == 2 and all(np.isfinite(value) for _, value in steps)


@pytest.mark.parametrize("name", WRITERS)
def test_another_number_of_classes_is_refused_with_the_way_to_map_them(name: str, teachers: dict[str, Path]) -> None:
    with pytest.raises(TeacherError, match="classes of this teacher differ") as refused:
        load_teacher(teachers[name], teacher=Teacher(), task="semantic", classes=4)
    assert "5 classes" in str(refused.value.found) and "teacher.class_map" in str(refused.value.hint)


@pytest.mark.parametrize("name", ["Hugging Face", "ONNX"])
def test_the_check_before_a_run_describes_it(name: str, teachers: dict[str, Path], data: dict[str, Any]) -> None:
    profile = Profile.model_validate(distilling(teachers[name], data))
    (teacher,) = [answer for answer in check(profile)["checks"] if answer["name"] == "teacher"]
    assert teacher["ok"], teacher["message"]
    assert inspect(teachers[name]).architecture in teacher["message"]


@pytest.mark.parametrize("name", FOREIGN)
def test_settings_that_contradict_the_tensors_are_refused(name: str, teachers: dict[str, Path]) -> None:
    for settings in ({"architecture": "Unet"}, {"encoder": "resnet18"}):
        with pytest.raises(TeacherError, match="belong to another") as refused:
            inspect(teachers[name], **settings)  # type: ignore[arg-type]
        assert "leave out" in str(refused.value.hint)


@pytest.mark.parametrize("name", [name for name in FOREIGN if name != "ONNX"])
def test_a_missing_tensor_is_named(name: str, teachers: dict[str, Path], tmp_path: Path) -> None:
    state = {
        "torchvision": lambda: torch.load(teachers["torchvision"], weights_only=True)["model"],
        "Hugging Face": foreign.hugging_face,
        "mmsegmentation": foreign.mmseg,
        "SegFormer's authors": foreign.authors,
    }[name]()
    lost = list(state)[len(state) // 2]
    del state[lost]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(TeacherError) as refused:
        inspect(tmp_path / "a.pth")
    assert "missing" in str(refused.value.found) or "unknown number of attention heads" in str(refused.value.found)
    assert "torch.onnx.export" in str(refused.value.hint)


# Outputs


def logits_of_stride_4(network: nn.Module) -> torch.Tensor:
    assert isinstance(network, Segformer)
    with torch.inference_mode():
        logits: torch.Tensor = network.segmentation_head(network.decoder(network.encoder(foreign.images())[2:]))
        full = F.interpolate(logits, (64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(foreign.images()), full)
    return logits


# Sum and five values of the second image at row 7, column 11: of transformers 5.24 and mmsegmentation 1.2.2.
REFERENCES = {
    "Hugging Face": (1383.7653, [0.3294388, 0.2269956, 0.0949574, -0.0498044, -0.1887136]),
    "mmsegmentation": (-343.82085, [-0.3577892, -0.2487236, -0.1079808, 0.0459132, 0.1928433]),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_logits_agree_with_the_library(name: str, teachers: dict[str, Path]) -> None:
    network, _ = load_teacher(teachers[name], teacher=Teacher(), task="semantic", classes=5)
    logits = logits_of_stride_4(network)
    total, values = REFERENCES[name]
    assert float(logits.double().sum()) == pytest.approx(total, abs=1e-2)
    assert logits[1, :, 7, 11].tolist() == pytest.approx(values, abs=1e-5)


def test_the_form_of_the_authors_agrees_with_smp(teachers: dict[str, Path]) -> None:
    network, _ = load_teacher(teachers["SegFormer's authors"], teacher=Teacher(), task="semantic", classes=5)
    logits = logits_of_stride_4(network)
    assert isinstance(network, Segformer)
    same = smp.Segformer("mit_b0", encoder_weights=None, decoder_segmentation_channels=16, classes=5).eval()
    same.encoder.load_state_dict(network.encoder.state_dict())
    decoder = {
        f"mlp_stage.{4 - int(stage)}.linear.{name}": value.flatten(1) if value.ndim == 4 else value
        for stage, project in network.decoder.projections.items()
        for name, value in project[0].state_dict().items()  # type: ignore[index]
    }
    decoder |= {f"fuse_stage.{key}": value for key, value in network.decoder.fuse.state_dict().items()}
    same.decoder.load_state_dict(decoder)
    same.segmentation_head[0].load_state_dict(network.segmentation_head.state_dict())
    with torch.inference_mode():
        theirs = same.segmentation_head[0](same.decoder(same.encoder(foreign.images())))
    torch.testing.assert_close(logits, theirs, rtol=1e-4, atol=1e-5)


def test_a_network_of_torchvision_answers_as_there(teachers: dict[str, Path]) -> None:
    loaded, report = load_teacher(teachers["torchvision"], teacher=Teacher(), task="semantic", classes=5)
    original = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
    original.load_state_dict(torch.load(teachers["torchvision"], weights_only=True)["model"])
    images = torch.rand(1, 3, 40, 56)
    with torch.inference_mode():
        assert torch.equal(loaded(images), original.eval()(images)["out"])
    assert (report.architecture, report.encoder, report.container) == ("lraspp", "mobilenet_v3_large", "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"])
def test_other_networks_of_torchvision_are_identified(name: str, tmp_path: Path) -> None:
    original = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)
    torch.save(original.state_dict(), tmp_path / "a.pth")
    loaded, report = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=5)
    assert f"{report.architecture}_{report.encoder}" == name
    assert all(key.startswith("aux_classifier.") for key in report.ignored_keys) and report.ignored_keys
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(images), original.eval()(images)["out"])


# Features


@pytest.mark.parametrize("name", ["Hugging Face"])
def test_features_are_read_where_a_network_has_them(
    name: str, teachers: dict[str, Path], data: dict[str, Any], tmp_path: Path
) -> None:
    feature = {"enabled": True, "terms": [{"kind": "feature", "on": "encoder", "weight": 0.01}]}
    run = make_run(tmp_path, **distilling(teachers[name], data, distillation=feature))
    assert fit(run) == "finished"
    missing = {"enabled": True, "terms": [{"kind": "feature", "on": "encoder.2", "teacher_on": "decoder.7"}]}
    with pytest.raises(ModelError, match="the teacher has no output of this name") as refused:
        fit(make_run(tmp_path, **distilling(teachers[name], data, distillation=missing, name="missing")))
    assert "logits" in str(refused.value.allowed)


# Hugging Face


def test_the_normalisation_of_the_folder_is_read(tmp_path: Path) -> None:
    folder = foreign.write_hugging_face(tmp_path)
    assert inspect(folder).mean == [0.485, 0.456, 0.406]
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}')
    report = inspect(folder)
    assert (report.mean, report.std, report.bgr) == ([0.5, 0.5, 0.5], [0.25, 0.5, 0.5], False)
    assert report.class_names == list(CLASSES)


@pytest.mark.parametrize(
    "config",
    [
        {"strides": [4, 2, 2, 1]},
        {"num_attention_heads": None},
        {"num_attention_heads": [1, 2, 3]},
        {"num_attention_heads": [0, 1, 1, 1]},
        {"num_attention_heads": [1, 2, 3, 5]},
        {"hidden_act": "relu"},
        {"reshape_last_stage": False},
        {"num_attention_heads": ["a", "b", "c", "d"]},
    ],
)
def test_a_config_of_another_network_is_one_message(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="not supported"):
        inspect(foreign.write_hugging_face(tmp_path, **config))


def test_another_network_of_mmsegmentation_is_refused_with_the_way_to_onnx(tmp_path: Path) -> None:
    state = {"backbone.stem.0.weight": torch.zeros(8, 3, 3, 3), "decode_head.conv_seg.weight": torch.zeros(5, 8, 1, 1)}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(TeacherError, match="this network of mmsegmentation is not supported") as refused:
        inspect(tmp_path / "a.pth")
    assert "teacher.onnx" in str(refused.value.hint)
