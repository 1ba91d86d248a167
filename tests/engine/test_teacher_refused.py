from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdtui.engine import checkpoint
from kdtui.engine.teacher import load_teacher
from kdtui.engine.teacher_report import inspect
from kdtui.errors import CheckpointError, TeacherError
from kdtui.profile import Teacher
from tests.engine.networks import ENCODER, build, own_payload, unet


def refusal(path: Path, **arguments: Any) -> TeacherError:
    wanted: dict[str, Any] = {"teacher": Teacher(), "task": "semantic", "classes": 4}
    with pytest.raises(TeacherError) as caught:
        load_teacher(path, **(wanted | arguments))
    assert str(path) in caught.value.message
    return caught.value


def test_other_classes_than_the_run_are_refused(bare: Path) -> None:
    error = refusal(bare, classes=11)
    assert "4 classes" in str(error.found) and "11 classes" in str(error.allowed)


def test_four_channels_are_four_classes_unless_the_user_chooses_the_task(bare: Path) -> None:
    error = refusal(bare, task="hierarchical", classes=3)
    assert "teacher.task=hierarchical" in str(error.hint)
    _, report = load_teacher(bare, teacher=Teacher(task="hierarchical"), task="hierarchical", classes=3)
    assert (report.task, report.classes) == ("hierarchical", 3)


def test_a_hierarchical_teacher_does_not_teach_four_classes(own: Path) -> None:
    assert "hierarchical" in str(refusal(own).found)
    load_teacher(own, teacher=Teacher(task="semantic"), task="semantic", classes=4)


def test_hierarchical_needs_four_channels(tmp_path: Path) -> None:
    torch.save(unet(classes=5).state_dict(), tmp_path / "a.pth")
    with pytest.raises(TeacherError, match="does not match the task"):
        inspect(tmp_path / "a.pth", task="hierarchical")


def test_other_input_channels_are_reported_by_inspect_and_refused_as_a_teacher(tmp_path: Path) -> None:
    original = unet(in_channels=4)
    torch.save(original.state_dict(), tmp_path / "a.pth")
    report = inspect(tmp_path / "a.pth")
    assert (report.in_channels, report.encoder) == (4, ENCODER)
    assert report.parameters == sum(parameter.numel() for parameter in original.parameters())
    assert report.parameters_used < report.parameters
    assert "4 input channels" in str(refusal(tmp_path / "a.pth").found)


def test_missing_unexpected_and_mismatched_keys_are_named(tmp_path: Path, network: nn.Module) -> None:
    state = network.state_dict()
    missing = {key: value for key, value in state.items() if key != "decoder.blocks.1.conv2.0.weight"}
    torch.save(missing, tmp_path / "missing.pth")
    assert "1 missing: decoder.blocks.1.conv2.0.weight" in str(refusal(tmp_path / "missing.pth").found)
    torch.save(state | {"decoder.extra.weight": torch.zeros(1)}, tmp_path / "extra.pth")
    assert "1 unexpected: decoder.extra.weight" in str(refusal(tmp_path / "extra.pth").found)
    torch.save(state | {"decoder.blocks.1.conv2.0.weight": torch.zeros(8, 9, 3, 3)}, tmp_path / "shape.pth")
    assert "(8, 9, 3, 3) instead of (8, 8, 3, 3)" in str(refusal(tmp_path / "shape.pth").found)
    headless = {key: value for key, value in state.items() if not key.startswith("segmentation_head")}
    torch.save(headless, tmp_path / "head.pth")
    assert "segmentation_head.0.weight is missing" in str(refusal(tmp_path / "head.pth").found)
    no_stem = {key: value for key, value in state.items() if key != "encoder.model.bn1.weight"}
    torch.save(no_stem, tmp_path / "encoder.pth")
    error = refusal(tmp_path / "encoder.pth")
    assert "not in the table" in error.what and f"--encoder {ENCODER}" in str(error.hint)
    error = refusal(tmp_path / "encoder.pth", teacher=Teacher(encoder=ENCODER))
    assert "1 missing: encoder.model.bn1.weight" in str(error.found)


def test_tensors_of_the_wrong_rank_are_no_crash(tmp_path: Path) -> None:
    state = build("FPN", ENCODER).state_dict()
    for key in (
        "decoder.p5.weight",
        "decoder.p3.skip_conv.weight",
        "segmentation_head.0.weight",
        "encoder.model.conv_stem.weight",
    ):
        torch.save(state | {key: torch.tensor(1.0)}, tmp_path / "flat.pth")
        refusal(tmp_path / "flat.pth")
        torch.save({name: value for name, value in state.items() if name != key}, tmp_path / "gone.pth")
        refusal(tmp_path / "gone.pth")


def test_our_own_incomplete_file_names_what_is_missing(tmp_path: Path, network: nn.Module) -> None:
    payload = own_payload(network)
    del payload["student"]["encoder.model.bn1.weight"]
    checkpoint.save(tmp_path / "a.pth", payload)
    assert "1 missing: encoder.model.bn1.weight" in str(refusal(tmp_path / "a.pth").found)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"encoder": "resnet34"}, ENCODER),
        ({"encoder": "resnet81"}, "resnet18"),
        ({"architecture": "FPN"}, "Unet"),
        ({"architecture": "Unett"}, "Unet"),
        ({"encoder": "tu-no_such_model"}, ENCODER),
    ],
)
def test_overrides_of_the_user_must_match_the_file(bare: Path, words: dict[str, Any], named: str) -> None:
    with pytest.raises(TeacherError) as caught:
        inspect(bare, **words)
    assert named in str(caught.value.hint)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, network: nn.Module) -> None:
    state = network.state_dict() | {"decoder.blocks.0.conv1.1.bias": torch.full((8,), float("nan"))}
    torch.save(state, tmp_path / "a.pth")
    assert "decoder.blocks.0.conv1.1.bias" in str(refusal(tmp_path / "a.pth").found)


def test_a_missing_checkpoint_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        inspect(tmp_path / "nothing.pth")
