"""Initial weights of a student: from every kind of file, all or the encoder, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.engine.network import build_student, network_kind
from kdtui.engine.student_weights import record_published
from kdtui.errors import CheckpointError, KdtuiError
from kdtui.events import Noted
from kdtui.profile import Model
from kdtui.store.event_log import Tail
from kdtui.store.files import sha256_of
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from tests.engine.runs import StoppedAt, fit, make_run, tiny_profile
from tests.engine.test_pretrained import cached

State = dict[str, Tensor]
ENCODER = "tu-test_resnet"
CLASSES = ("a", "b", "c")


def student(weights: Path | None = None, part: str | None = None, **changes: Any) -> Model:
    table = {"encoder": ENCODER, "encoder_depth": 3, "decoder_channels": (8, 8, 8), "weights_part": part}
    return Model.model_validate(table | {"weights": None if weights is None else str(weights)} | changes)


def fresh(table: Model, *, classes: int = len(CLASSES), seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_student(table, task="semantic", classes=classes)


def loaded(table: Model) -> tuple[nn.Module, str]:
    """The student with its weights, and the words for them."""
    network = fresh(table)
    return network, network_kind(table).load_weights(network, CLASSES)


def refused(table: Model) -> CheckpointError:
    network = fresh(table)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        network_kind(table).load_weights(network, CLASSES)
    assert equal(network.state_dict(), before)
    return error.value


def equal(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[key]) for key, value in left.items())


def of_kdtui(path: Path, state: State) -> None:
    content = {
        "format": checkpoint.FORMAT,
        "student": state,
        "classes": list(CLASSES),
        "resume": {"rng": torch.zeros(4)},
    }
    torch.save(content, path)


def of_lightning(path: Path, state: State) -> None:
    torch.save({"state_dict": {f"model.module.{key}": value for key, value in state.items()}, "epoch": 3}, path)


def of_safetensors(path: Path, state: State) -> None:
    save_file({key: value.contiguous() for key, value in state.items()}, path)


def in_half_precision(path: Path, state: State) -> None:
    torch.save({key: value.bfloat16().float().bfloat16() for key, value in state.items()}, path)


WRITERS: list[Callable[[Path, State], None]] = [of_kdtui, of_lightning, of_safetensors, in_half_precision]
each_writer = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)


@each_writer
def test_all_weights_come_from_any_container(tmp_path: Path, write: Callable[[Path, State], None]) -> None:
    source = fresh(student(), seed=1).state_dict()
    if write is in_half_precision:
        source = {key: value.bfloat16().to(value.dtype) for key, value in source.items()}
    write(tmp_path / "file", source)
    network, words = loaded(student(tmp_path / "file"))
    assert equal(network.state_dict(), source)
    assert words == f"all weights of {tmp_path / 'file'}: {len(source)} tensors"


@each_writer
def test_the_encoder_comes_from_any_container_and_the_rest_is_random(
    tmp_path: Path, write: Callable[[Path, State], None]
) -> None:
    source = fresh(student(), classes=5, seed=1)
    state = {key: value.bfloat16().to(value.dtype) for key, value in source.state_dict().items()}
    write(tmp_path / "file", state)
    network, words = loaded(student(tmp_path / "file", "encoder"))
    own, random = network.state_dict(), fresh(student()).state_dict()
    for key, value in own.items():
        assert torch.equal(value, state[key] if key.startswith("encoder.") else random[key]), key
    count = sum(key.startswith("encoder.") for key in own)
    assert words == f"encoder of {tmp_path / 'file'}: {count} tensors"


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])  # the second has other names for feature extraction
def test_a_checkpoint_of_timm_is_an_encoder(tmp_path: Path, name: str) -> None:
    source = timm.create_model(name, pretrained=False)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in source.state_dict().items()}}, tmp_path / "file"
    )
    network, words = loaded(student(tmp_path / "file", "encoder", encoder=f"tu-{name}"))
    weights = {key.replace(".", "_"): value for key, value in source.state_dict().items()}
    assert isinstance(network.encoder, nn.Module)
    for key, value in network.encoder.state_dict().items():
        assert torch.equal(value, weights[key.removeprefix("model.").replace(".", "_")])
    assert str(len(network.encoder.state_dict())) in words


def test_a_checkpoint_of_torchvision_is_an_encoder_but_a_larger_one_is_not(tmp_path: Path) -> None:
    own = fresh(student(encoder="resnet18")).encoder
    assert isinstance(own, nn.Module)
    state = {key: torch.ones_like(value) for key, value in own.state_dict().items()}
    torch.save(state | {"fc.weight": torch.ones(2, 2), "fc.bias": torch.ones(2)}, tmp_path / "file")
    network, _ = loaded(student(tmp_path / "file", "encoder", encoder="resnet18"))
    assert isinstance(network.encoder, nn.Module)
    assert equal(network.encoder.state_dict(), state)
    torch.save(state | {"layer1.2.conv1.weight": torch.ones(2, 2)}, tmp_path / "larger")
    error = refused(student(tmp_path / "larger", "encoder", encoder="resnet18"))
    assert error.found == "1 unexpected: layer1.2.conv1.weight"


def test_what_does_not_match_is_named_with_the_way_to_load_the_encoder(tmp_path: Path) -> None:
    state = fresh(student(), seed=1).state_dict()
    torch.save(fresh(student(), classes=5).state_dict(), tmp_path / "classes")
    torch.save({key: value for key, value in state.items() if "segmentation_head.0.bias" not in key}, tmp_path / "less")
    torch.save(fresh(student(decoder_channels=(16, 8, 8))).state_dict(), tmp_path / "wider")
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "encoder")
    texts = {
        "classes": ("5 output channels", "3 output channels, for 3 classes"),
        "less": ("1 missing: segmentation_head.0.bias", "Unet tu-test_resnet"),
        "wider": ("of another shape: decoder.blocks.0.conv1.0.weight (16,", "Unet tu-test_resnet"),
        "encoder": ("missing: encoder.model.conv1.0.weight", "Unet tu-test_resnet"),
    }
    for name, (found, allowed) in texts.items():
        error = refused(student(tmp_path / name))
        assert found in str(error.found)
        assert allowed in str(error.allowed)
        assert error.hint == "--set student.weights_part=encoder loads its encoder alone"
    error = refused(student(tmp_path / "encoder", encoder="tu-lcnet_050"))
    assert error.hint == "`kdtui inspect FILE` describes the file"
    for part in (None, "encoder"):
        torch.save(
            state | {"encoder.model.conv1.0.weight": state["encoder.model.conv1.0.weight"] / 0}, tmp_path / "nan"
        )
        assert "not finite" in refused(student(tmp_path / "nan", part)).what
        torch.save({"epoch": 3}, tmp_path / "empty")
        assert "no tensors" in refused(student(tmp_path / "empty", part)).what
        assert "no such checkpoint" in refused(student(tmp_path / "nothing", part)).what


def test_other_names_of_the_classes_are_reported(tmp_path: Path) -> None:
    content = {"state_dict": fresh(student()).state_dict(), "classes": ["a", "c", "b"]}
    torch.save(content, tmp_path / "file")
    assert loaded(student(tmp_path / "file"))[1].endswith("its classes are a, c, b, those of the data a, b, c")


# In a run.


def run_with(root: Path, weights: Path, **changes: Any) -> Run:
    profile = tiny_profile(student__weights=str(weights), **changes)
    record = {"checkpoint": str(weights), "sha256": sha256_of(weights), "run": None}
    return RunStore(root).create(profile, weights=record)


def test_a_run_starts_from_them_and_needs_the_file_no_more(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", training__epochs=1)
    fit(first)
    run = run_with(tmp_path / "second", first.best, training__epochs=2)
    assert run.manifest().weights == {"checkpoint": str(first.best), "sha256": sha256_of(first.best), "run": None}
    assert fit(StoppedAt(run.path, lambda events: len(events) > 3)) == "stopped"
    assert equal(checkpoint.load(run.untrained)["student"], checkpoint.load(first.best)["student"])
    notes = [event.message for event in Tail(run.events_path).stream() if isinstance(event, Noted)]
    assert any(note.startswith(f"initial weights: all weights of {first.best}") for note in notes)
    first.best.unlink()
    resumed = check(run.profile(), run=run)["checks"]
    assert all(one["ok"] for one in resumed), resumed
    assert fit(run, attempt=2) == "finished"


@pytest.mark.parametrize(("mean", "warned"), [(0.5, True), (0.25, False)])
def test_weights_trained_with_another_normalisation_have_a_warning(tmp_path: Path, mean: float, warned: bool) -> None:
    record = {"mean": [0.25] * 3, "std": [0.5] * 3, "bgr": False}
    network = build_student(tiny_profile().student, task="hierarchical", classes=3)
    torch.save({"state_dict": network.state_dict(), "pixels": record}, tmp_path / "weights.pth")
    own = {"data__mean": (mean,) * 3, "data__std": (0.5,) * 3}
    found = check(tiny_profile(student__weights=str(tmp_path / "weights.pth"), **own))["warnings"]
    messages = [warning["message"] for warning in found if warning["code"] == "weights-of-other-images"]
    expected = (
        "the initial weights were trained with mean 0.25, 0.25, 0.25, std 0.5, 0.5, 0.5; "
        "the images of this run have mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5"
    )
    assert messages == [expected] * warned


def test_a_checkpoint_that_changed_since_the_run_was_created_is_refused(tmp_path: Path) -> None:
    network = build_student(tiny_profile().student, task="hierarchical", classes=3)
    weights = tmp_path / "weights.pth"
    torch.save(network.state_dict(), weights)
    run = run_with(tmp_path / "runs", weights)
    torch.save({key: value + 0 for key, value in network.state_dict().items()} | {"more": torch.ones(1)}, weights)
    [failed] = [one for one in check(run.profile(), run=run)["checks"] if not one["ok"]]
    assert "was changed after the run was created" in failed["message"]
    with pytest.raises(KdtuiError, match="was changed after the run was created"):
        fit(run)


def test_the_check_before_a_run_states_what_was_loaded(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "timm.pth")
    changes = {"student__weights": str(tmp_path / "timm.pth"), "student__weights_part": "encoder"}
    [message] = [one["message"] for one in check(tiny_profile(**changes))["checks"] if one["name"] == "student"]
    assert f"initial weights: encoder of {tmp_path / 'timm.pth'}: " in message
    assert "initial weights" not in json.dumps(check(tiny_profile()))


def test_published_weights_are_recorded_with_their_file_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    published: dict[str, Any] = {"student__encoder": ENCODER, "student__weights": "imagenet", "training__epochs": 1}
    run = make_run(tmp_path / "runs", **published)
    record_published(run)
    assert run.manifest().weights is None  # not in the cache yet
    cached(tmp_path, ENCODER)
    assert fit(StoppedAt(run.path, lambda events: len(events) > 1)) == "stopped"
    [file] = (tmp_path / "hub").rglob("model.safetensors")
    assert run.manifest().weights == {"checkpoint": str(file), "sha256": sha256_of(file), "run": None}
