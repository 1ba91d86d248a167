from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kdtui.engine.containers import as_tensors, open_checkpoint
from kdtui.errors import CheckpointError

State = dict[str, Tensor]
PREFIXES = (
    "",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "unet.",
    "student.",
    "pretrained_unet.model.",
    "ema_model.",
    "module._orig_mod.",
    "model.module.",
    "pretrained_unet.model.module.",
)


def network(value: float = 0.0) -> State:
    """The parts of a network, and an encoder of timm's, whose inner ``model.`` must survive."""
    keys = ("encoder.model.conv.weight", "decoder.blocks.0.conv1.0.weight", "segmentation_head.0.weight")
    return {key: torch.full((2, 3), value) for key in keys}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


CONTAINERS: dict[str, Callable[[State], dict[str, Any]]] = {
    "bare": lambda state: dict(state),
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}},
    "model": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "arch": "unet"},
    "student": lambda state: {"student": state, "model": {"encoder": "resnet18"}, "resume": {"rng": torch.zeros(9)}},
    "state_dict_ema": lambda state: {"state_dict_ema": state, "state_dict": network(9.0)},
    "model_ema": lambda state: {"model_ema": state, "model": network(9.0)},
    "net": lambda state: {"net": state, "acc": 93.1},
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_and_prefix_gives_the_same_network(tmp_path: Path, container: str, prefix: str) -> None:
    path = tmp_path / "teacher.pth"
    torch.save(CONTAINERS[container](prefixed(prefix, network(1.0))), path)
    contents = open_checkpoint(path)
    assert (contents.container, contents.prefix) == (container, prefix)
    assert contents.candidates[0] == container
    assert contents.state.keys() == network().keys()
    assert all(torch.equal(value, torch.ones(2, 3)) for value in contents.state.values())
    json.dumps(contents.metadata, allow_nan=False)


def test_what_lightning_puts_beside_the_network_is_named_and_dropped(tmp_path: Path) -> None:
    strays = {"model.mean": torch.zeros(3), "std": torch.ones(3), "loss_fn.weight": torch.ones(2)}
    head = {"model.classification_head.3.weight": torch.ones(1)}
    torch.save({"state_dict": prefixed("model.", network()) | strays | head}, tmp_path / "a.ckpt")
    contents = open_checkpoint(tmp_path / "a.ckpt")
    assert set(contents.ignored) == strays.keys() | head.keys()
    assert contents.state.keys() == network().keys()


def test_averaged_weights_go_before_the_raw_ones_in_one_state_dict(tmp_path: Path) -> None:
    both = prefixed("model.", network(1.0)) | prefixed("ema_model.module.", network(2.0))
    torch.save({"state_dict": both}, tmp_path / "a.ckpt")
    contents = open_checkpoint(tmp_path / "a.ckpt")
    assert contents.prefix == "ema_model.module."
    assert len(contents.ignored) == 3


def test_the_order_of_choice_and_the_candidates(tmp_path: Path) -> None:
    torch.save({"model": network(1.0), "state_dict": network(2.0), "model_ema": network(3.0)}, tmp_path / "a.pth")
    contents = open_checkpoint(tmp_path / "a.pth")
    assert contents.candidates == ("model_ema", "state_dict", "model")
    assert contents.state["segmentation_head.0.weight"][0, 0] == 3


def test_tensors_that_are_no_network_are_no_candidate(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"mean": torch.zeros(3)}, "model": network(), "best": torch.tensor(0.5)}, tmp_path / "a.pth"
    )
    contents = open_checkpoint(tmp_path / "a.pth")
    assert contents.candidates == ("model",)


def test_metadata_is_what_json_can_say(tmp_path: Path) -> None:
    beside = {
        "epoch": 3,
        "nan": float("nan"),
        "args": argparse.Namespace(encoder="resnet18", lr=0.1),
        "history": list(range(10_000)),
        "best": torch.tensor(0.5),
        "optimizer": {"state": torch.zeros(3)},
    }
    torch.save({"state_dict": network()} | beside, tmp_path / "a.pth")
    metadata = open_checkpoint(tmp_path / "a.pth").metadata
    assert metadata == {"epoch": 3, "args": {"encoder": "resnet18", "lr": 0.1}}


def test_a_save_pretrained_folder(tmp_path: Path) -> None:
    save_file(network(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text('{"encoder_name": "resnet18"}')
    for path in (tmp_path, tmp_path / "model.safetensors"):
        contents = open_checkpoint(path)
        assert (contents.container, contents.file.name) == ("save_pretrained", "model.safetensors")
        assert contents.metadata["config"] == {"encoder_name": "resnet18"}
    (tmp_path / "config.json").write_text('{"encoder_name": ')
    with pytest.raises(CheckpointError, match="config"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["teacher.safetensors", "teacher.pth"])
def test_bare_safetensors_under_any_name(tmp_path: Path, name: str) -> None:
    save_file(prefixed("module.", network(1.0)), tmp_path / name)
    contents = open_checkpoint(tmp_path / name)
    assert (contents.container, contents.prefix) == ("bare", "module.")
    assert contents.state.keys() == network().keys()


def test_a_run_folder_stands_for_its_best_checkpoint_then_its_last(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"student": network(1.0)}, tmp_path / "checkpoints" / "last.pth")
    assert open_checkpoint(tmp_path).file.name == "last.pth"
    torch.save({"student": network(2.0)}, tmp_path / "checkpoints" / "best_model.pth")
    assert open_checkpoint(tmp_path).file.name == "best_model.pth"


def test_halves_become_f32_and_counters_stay() -> None:
    state = as_tensors({"a": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)})
    assert (state["a"].dtype, state["n"].dtype) == (torch.float32, torch.int64)


def write_truncated(path: Path) -> None:
    torch.save(network(), path)
    path.write_bytes(path.read_bytes()[:-200])


def write_truncated_safetensors(path: Path) -> None:
    save_file(network(), path)
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: None,
        lambda path: path.touch(),
        lambda path: path.mkdir(),
        lambda path: path.write_text("these are no weights"),
        lambda path: path.write_bytes(b"\x05\0\0\0\0\0\0\0{nope"),
        lambda path: path.write_bytes(os.urandom(512)),
        lambda path: torch.save({}, path),
        lambda path: torch.save([torch.zeros(1)], path),
        lambda path: torch.save({"state_dict": {"backbone.conv": torch.zeros(1)}}, path),
        lambda path: torch.save({"encoder.conv1.weight": torch.zeros(1)}, path),
        write_truncated,
        write_truncated_safetensors,
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path, write: Callable[[Path], object]) -> None:
    path = tmp_path / "teacher.pth"
    write(path)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert str(path) in caught.value.message


class Canary:
    """Leaves a file behind when it is unpickled by a loader that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "teacher.pth"
    torch.save({"state_dict": network(), "trap": Canary(canary)}, path)
    with pytest.raises(CheckpointError, match="run code") as refused:
        open_checkpoint(path)
    assert "GLOBAL" in str(refused.value.found)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # the trap is armed
    assert canary.exists()


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "teacher.pth")
    with pytest.raises(CheckpointError, match="no file"):
        open_checkpoint(tmp_path / "teacher.pth")
