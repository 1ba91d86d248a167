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
    "network.",
    "backbone.",
    "seg_model.",
    "_forward_module.",
    "module.model.",
    "a.b.c.",
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
    "ema": lambda state: {"ema": state, "model": network(9.0)},
    "model_state": lambda state: {"model_state": state, "optimizer_state": {"state": {0: {"step": torch.ones(1)}}}},
    "module": lambda state: {"module": state, "global_step": 3},
    "params_ema": lambda state: {"params": network(9.0), "params_ema": state},
    "ema.state_dict": lambda state: {"ema": {"state_dict": state, "decay": 0.9}},
    "trainer.best.weights": lambda state: {"trainer": {"best": {"weights": state, "miou": 0.5}}},
    "0": lambda state: [state, {"epoch": 3}],  # type: ignore[dict-item, return-value]
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


def test_what_no_list_names_comes_last_in_the_order_of_the_file(tmp_path: Path) -> None:
    several = {"teacher": network(1.0), "deep": {"er": network(2.0)}, "net": network(3.0), "other": network(4.0)}
    torch.save(several, tmp_path / "a.pth")
    contents = open_checkpoint(tmp_path / "a.pth")
    assert contents.candidates == ("net", "teacher", "other", "deep.er")
    assert contents.places == dict.fromkeys(contents.candidates, 3)


def test_a_student_beside_its_teacher_in_one_dict_is_the_one_that_is_read(tmp_path: Path) -> None:
    both = prefixed("teacher.", network(1.0)) | prefixed("student.", network(2.0))
    torch.save({"state_dict": both}, tmp_path / "a.pth")
    contents = open_checkpoint(tmp_path / "a.pth")
    assert contents.prefix == "student."
    assert contents.candidates == ("state_dict: student.", "state_dict: teacher.")


def test_every_dict_of_tensors_is_counted_where_none_is_a_network(tmp_path: Path) -> None:
    torch.save(
        {"generator": {"up.weight": torch.ones(1), "up.bias": torch.ones(1)}, "meta": {"epoch": 1}}, tmp_path / "a"
    )
    with pytest.raises(CheckpointError, match="no network") as refused:
        open_checkpoint(tmp_path / "a")
    assert "generator: 2 tensors (up.weight, up.bias)" in str(refused.value.found)


def test_counters_that_old_versions_of_torch_did_not_write_are_filled_in(tmp_path: Path) -> None:
    norm = {"encoder.bn.running_var": torch.ones(2), "encoder.bn.weight": torch.ones(2)}
    torch.save(network() | norm, tmp_path / "old.pth")
    assert open_checkpoint(tmp_path / "old.pth").state["encoder.bn.num_batches_tracked"] == 0
    torch.save(network() | norm | {"encoder.a.num_batches_tracked": torch.tensor(3)}, tmp_path / "new.pth")
    assert "encoder.bn.num_batches_tracked" not in open_checkpoint(tmp_path / "new.pth").state


# Folders


def parts(state: State) -> list[State]:
    return [dict([item]) for item in state.items()]


def write_shards(folder: Path, ending: str) -> dict[str, Any]:
    """The network in one file per tensor, and what the index says of it."""
    stem = "model" if ending == "safetensors" else "pytorch_model"
    table: dict[str, str] = {}
    for number, part in enumerate(parts(network(1.0)), 1):
        name = f"{stem}-{number:05}-of-00003.{ending}"
        (save_file if ending == "safetensors" else torch.save)(part, folder / name)
        table |= dict.fromkeys(part, name)
    return {"metadata": {"total_size": 72}, "weight_map": table}


def index_of(folder: Path, ending: str) -> Path:
    return folder / ("model.safetensors.index.json" if ending == "safetensors" else "pytorch_model.bin.index.json")


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_weights_in_several_files_are_read_through_their_index(tmp_path: Path, ending: str) -> None:
    index = index_of(tmp_path, ending)
    index.write_text(json.dumps(write_shards(tmp_path, ending)))
    for path in (tmp_path, index):
        contents = open_checkpoint(path)
        assert contents.state.keys() == network().keys()
        assert len(contents.parts) == 4


def test_a_folder_with_pytorch_model_bin(tmp_path: Path) -> None:
    torch.save(network(1.0), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"encoder_name": "resnet18"}')
    contents = open_checkpoint(tmp_path)
    assert contents.file.name == "pytorch_model.bin"
    assert contents.metadata["config"] == {"encoder_name": "resnet18"}


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ({"weight_map": {"a": "../secret.safetensors"}}, "outside its folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "outside its folder"),
        ({"weight_map": {"a": ".."}}, "outside its folder"),
        ({"weight_map": {"a": "missing.safetensors"}}, "missing"),
        ({"weight_map": {}}, "invalid index"),
        ({"weight_map": {"a": 3}}, "invalid index"),
        ({"weight_map": {str(number): str(number) for number in range(2000)}}, "invalid index"),
        ([], "invalid index"),
        ("nope", "cannot read the index"),
        ("[" * 100_000, "cannot read the index"),
    ],
    ids=range(10),
)
def test_an_index_is_not_trusted(tmp_path: Path, index: Any, named: str) -> None:
    save_file(network(), tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(index if isinstance(index, str) else json.dumps(index))
    with pytest.raises(CheckpointError, match=named):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("files", "kind", "step"),
    [
        ([".metadata", "__0_0.distcp"], "DCP", "dcp_to_torch"),
        (["latest", "zero_to_fp32.py"], "DeepSpeed", "deepspeed.utils.zero_to_fp32"),
        (["saved_model.pb"], "TensorFlow", "PyTorch"),
    ],
)
def test_folders_of_other_programs_are_named_with_the_conversion(
    tmp_path: Path, files: list[str], kind: str, step: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(tmp_path)
    assert kind in str(refused.value.found) and step in str(refused.value.hint)
    # A script that lies in the folder came with it.
    assert f"{tmp_path}/zero_to_fp32.py" not in str(refused.value.hint)


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


def test_a_run_folder_means_its_best_checkpoint_or_else_its_last(tmp_path: Path) -> None:
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
    with pytest.raises(CheckpointError, match="execute code") as refused:
        open_checkpoint(path)
    assert "GLOBAL" in str(refused.value.found)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # the trap is armed
    assert canary.exists()


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "teacher.pth")
    with pytest.raises(CheckpointError, match="not a file"):
        open_checkpoint(tmp_path / "teacher.pth")
