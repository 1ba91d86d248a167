"""Networks of kind ``roi`` that cannot be made, and their initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from kdtui.engine.models import create
from kdtui.engine.network import network_kind
from kdtui.engine.roi import memory
from kdtui.engine.roi.network import RoiNetwork
from kdtui.errors import CheckpointError, ModelError, UsageError
from kdtui.profile import Model, RoiModel
from kdtui.store.run import Run
from tests.engine.roi.networks import DATA, STUDENT, build
from tests.engine.runs import tiny_profile

TABLES: dict[str, Any] = {"student": STUDENT, **{f"data__{key}": value for key, value in DATA.items()}}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mask": [17, 16]}, "found mask = [17, 16] with roi = [8, 8]; allowed: mask = [8, 8] or [16, 16] or [32, 32]"),
        ({"mask": [24, 24]}, "allowed: mask = [8, 8] or [16, 16] or [32, 32]"),
        ({"head_depth": 3}, "allowed: sides of at least 16, or a smaller head_depth"),
    ],
)
def test_sizes_that_the_head_does_not_have_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RoiModel.model_validate(STUDENT | changes)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"data__mask_size": [32, 32]}, "[32, 32], [16, 16]"),
        ({"data__sample": None, "data__mask_size": None}, 'sample = "crop" of synthetic'),
        ({"student": {"encoder": "resnet18"}}, 'sample = "image" of synthetic'),
    ],
)
def test_data_of_another_form_are_refused(changes: dict[str, Any], found: str) -> None:
    tables = {key: value for key, value in (TABLES | changes).items() if value is not None}
    profile = tiny_profile(**tables)
    with pytest.raises(UsageError) as refused:
        profile.student.check_data(profile.data)
    assert refused.value.found == found
    assert refused.value.hint is not None


def test_more_boxes_than_fit_into_memory_are_refused_with_a_number_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    network, profile = build(), tiny_profile(**TABLES, data__max_instances=16, training__batch_size=4)
    assert isinstance(profile.student, RoiModel)
    each = memory.bytes_per_box(network, profile.student)
    wide = memory.bytes_per_box(build(head_channels=32), RoiModel.model_validate(STUDENT | {"head_channels": 32}))
    assert 2 * each < wide < 5 * each
    assert network.head.training
    monkeypatch.setattr(memory, "device_memory", lambda profile: 4 * 16 * each)
    memory.check_memory(network, profile.student, profile)
    monkeypatch.setattr(memory, "device_memory", lambda profile: 4 * 16 * each - 1)
    with pytest.raises(ModelError, match="do not fit into memory") as refused:
        memory.check_memory(network, profile.student, profile)
    assert refused.value.hint == "--set data.max_instances=15"


def stage1_file(folder: Path, classes: int) -> Path:
    """A checkpoint of another program with a network for stage 1 of this many output channels."""
    keys = Model.model_fields.keys() & STUDENT.keys() - {"kind"}
    network = create(Model.model_validate({key: STUDENT[key] for key in keys}), channels=classes)
    path = folder / f"stage1-{classes}.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    return path


def loaded(path: Path, **changes: Any) -> tuple[RoiNetwork, str]:
    table = RoiModel.model_validate(STUDENT | {"weights": str(path)} | changes)
    network = build(**changes)
    return network, network_kind(table).load_weights(network, ("background", "target", "other"))


def test_stage_1_starts_with_a_checkpoint_for_two_classes(tmp_path: Path) -> None:
    for classes, form in ((1, "sigmoid"), (2, "softmax")):
        path = stage1_file(tmp_path, classes)
        network, words = loaded(path, binary=form)
        assert words.startswith(f"stage 1: all weights of {path}")
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.equal(network.stage1.state_dict()[name], value) for name, value in state.items())


def test_a_checkpoint_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="another number of output channels") as refused:
        loaded(stage1_file(tmp_path, 3))
    assert refused.value.found == "3 output channels"


def test_a_checkpoint_of_a_network_with_boxes_is_loaded_as_a_whole(trained: Run) -> None:
    network, words = loaded(trained.best)
    assert words.startswith(f"all weights of {trained.best}")
    state = torch.load(trained.best, weights_only=False)["student"]
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
