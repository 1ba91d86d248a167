from __future__ import annotations

import argparse
import os
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdtui.engine import checkpoint
from kdtui.engine.ranks import make_fabric
from kdtui.errors import CheckpointError
from tests.engine.preloaded import Process
from tests.waiting import finished


def payload(size: int = 8) -> dict[str, Any]:
    return {"format": checkpoint.FORMAT, "student": {"weight": torch.arange(float(size))}, "step": 3}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.pth"
    checkpoint.save(path, payload())
    loaded = checkpoint.load(path)
    assert loaded["step"] == 3
    assert torch.equal(loaded["student"]["weight"], torch.arange(8.0))
    assert [file.name for file in path.parent.iterdir()] == ["last.pth"]


def test_a_second_name_survives_the_first(tmp_path: Path) -> None:
    first, second = tmp_path / "epoch.pth", tmp_path / "last.pth"
    checkpoint.save(first, payload())
    checkpoint.save(second, payload(2))
    checkpoint.same_as(first, second)
    checkpoint.same_as(first, second)  # again: two names of one file already
    first.unlink()
    assert len(checkpoint.load(second)["student"]["weight"]) == 8
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def bad_files(folder: Path) -> dict[str, bytes | None]:
    torch.save(payload(4096), folder / "whole.pth")
    whole = (folder / "whole.pth").read_bytes()
    return {
        "empty": b"",
        "text": b"hello, this is no checkpoint\n",
        "truncated": whole[: len(whole) // 2],
        "overwritten": whole[:600] + b"\0" * 600 + whole[1200:],
        "half a pickle": pickle.dumps({"a": list(range(99))})[:40],
        "missing": None,
    }


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "half a pickle", "missing"])
def test_a_bad_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    content = bad_files(tmp_path)[kind]
    path = tmp_path / "bad.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert caught.value.where == str(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="folder"):
        checkpoint.load(tmp_path)


def test_the_nearest_file_is_offered(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "best_model.pth", payload())
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "best_modl.pth")
    assert "best_model.pth" in (caught.value.hint or "")


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, legacy: bool) -> None:
    path, canary = tmp_path / "evil.pth", tmp_path / "executed"
    torch.save({"state_dict": Canary(canary)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="refused"):
        checkpoint.load(path)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # the canary does sing
    assert canary.exists()


def test_a_namespace_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "timm.pth"
    torch.save({"args": argparse.Namespace(lr=0.1), "state_dict": {"weight": torch.ones(2)}}, path)
    assert checkpoint.load(path)["args"].lr == 0.1


def test_a_list_is_no_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([torch.ones(2)], path)
    with pytest.raises(CheckpointError, match="no state dict"):
        checkpoint.load(path)


def test_a_strict_load_names_every_sort_of_mismatch() -> None:
    network = nn.Linear(2, 3)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_student(network, {"weight": torch.ones(3, 9), "extra": torch.ones(1)}, where="here")
    for words in ("1 missing: bias", "1 unexpected: extra", "weight (3, 9) instead of (3, 2)"):
        assert words in caught.value.message


SAVE_ON_A_FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from kdtui.engine import checkpoint
from kdtui.errors import CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    checkpoint.save(Path(sys.argv[1]), {"student": {"weight": torch.ones(1_000_000)}})
except CheckpointError as error:
    print(error.message)
    sys.exit(7)
"""


def test_a_disk_that_fills_keeps_the_former_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    checkpoint.save(path, payload())
    before = path.read_bytes()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    process = Process("-c", SAVE_ON_A_FULL_DISK, str(path))
    out, error = finished(process)
    assert process.returncode == 7, error
    assert "the existing one is unchanged" in out
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]


@pytest.mark.parametrize(
    "damage",
    [
        {"terms": None},
        {"terms": {"weight": "x"}},
        {"terms": {}, "optimizer": {"state": {}, "param_groups": []}},
        {"optimizer": {"state": {}, "param_groups": []}},
        {"optimizer": None},
        {"rng": 3},
        {"history": None},
    ],
    ids=str,
)
def test_a_damaged_training_state_is_one_message(tmp_path: Path, damage: dict[str, Any]) -> None:
    fabric = make_fabric(accelerator="cpu", world_size=1, precision="32-true")
    terms = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": [*nn.Linear(2, 2).parameters()]}, {"params": [*terms.parameters()]}])
    state = checkpoint.capture(fabric, checkpoint.Progress(), optimizer, terms, total_epochs=1, steps_per_epoch=1)
    checkpoint.restore(fabric, state, optimizer, terms)
    with pytest.raises(CheckpointError, match="the training state of this checkpoint is damaged") as caught:
        checkpoint.restore(fabric, state | damage, optimizer, terms, where=tmp_path / "last.pth")
    assert caught.value.where == str(tmp_path / "last.pth")
