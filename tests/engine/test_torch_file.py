"""Bytes that torch's reader may meet: one message each, nothing executed, no more memory than the file."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pickle
import random
import resource
import shutil
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdtui.engine import checkpoint, containers
from kdtui.errors import CheckpointError

Write = Callable[[Path], object]


def small() -> dict[str, Any]:
    return {"state_dict": {"encoder.weight": torch.arange(6.0), "decoder.weight": torch.ones(2, 2)}, "epoch": 3}


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        containers.open_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    # Nothing of unknown origin is ever to be executed, and a message is read on one screen.
    assert "weights_only=False" not in message and "torch.load" not in message
    assert len(message) < 3000 and "Traceback" not in message
    return caught.value


def flipped(path: Path, whole: bytes, place: int, bits: int) -> None:
    path.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])


@pytest.mark.parametrize("archive", [True, False])
def test_one_changed_byte_is_damage_or_has_no_effect(tmp_path: Path, archive: bool) -> None:
    path = tmp_path / "teacher.pth"
    torch.save(small(), path, _use_new_zipfile_serialization=archive)
    whole = path.read_bytes()
    draw = random.Random(5)
    for place in range(0, len(whole), 7 if archive else 3):
        flipped(path, whole, place, 1 << draw.randrange(8))
        try:
            checkpoint.load(path)
        except CheckpointError as error:
            told = str(error)
            assert "weights_only=False" not in told
            # A global may become another well-formed name in a file without checksums: then it is refused as one.
            assert (
                "damaged" in told
                or "not a PyTorch checkpoint" in told
                or "not a checkpoint file" in told
                or not archive
            )
            assert "execute code" not in told or not archive


def test_a_changed_weight_is_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pth"
    torch.save({"weight": torch.zeros(4096)}, path)
    whole = path.read_bytes()
    flipped(path, whole, whole.index(bytes(4096)) + 2048, 64)
    assert "checksum" in str(refusal(path).found)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(small(), tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert checkpoint.load(tmp_path / "a.pth")["epoch"] == 3


@pytest.mark.parametrize("cut", [5, 100, 300])
@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_ends_too_early_is_damage(tmp_path: Path, cut: int, archive: bool) -> None:
    path = tmp_path / "teacher.pth"
    torch.save(small(), path, _use_new_zipfile_serialization=archive)
    path.write_bytes(path.read_bytes()[:-cut])
    assert "damaged" in refusal(path).what


# Beside the weights


BESIDE: dict[str, tuple[Any, Any]] = {
    "numpy number": (np.float64(0.5), 0.5),
    "numpy integer": (np.int64(3), 3),
    "numpy bool": (np.bool_(True), True),
    "numpy array": (np.arange(3), [0, 1, 2]),
    "path": (Path("/a/b"), "/a/b"),
    "datetime": (datetime.datetime(2024, 5, 6, 7, 8, 9), "2024-05-06T07:08:09"),
    "time zone": (datetime.datetime(2024, 5, 6, tzinfo=datetime.UTC), "2024-05-06T00:00:00+00:00"),
    "timedelta": (datetime.timedelta(hours=1), "1:00:00"),
    "defaultdict": (collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
    "defaultdict of dicts": (collections.defaultdict(dict, {"a": {"b": 1}}), {"a": {"b": 1}}),
    "OrderedDict": (collections.OrderedDict(a=1), {"a": 1}),
    "Counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "set": ({"x"}, ["x"]),
    "frozenset": (frozenset({"x"}), ["x"]),
    "deque": (collections.deque([1, 2]), [1, 2]),
    "Namespace": (argparse.Namespace(lr=0.1, out=Path("runs")), {"lr": 0.1, "out": "runs"}),
    "SimpleNamespace": (types.SimpleNamespace(lr=0.1), {"lr": 0.1}),
    "version": (torch.__version__, str(torch.__version__)),
    "nested": ({"best": {"miou": np.float32(0.5), "when": datetime.date(2024, 1, 2)}},) * 2,
}


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("kind", BESIDE)
def test_plain_data_beside_the_weights_is_read(tmp_path: Path, kind: str, archive: bool) -> None:
    value, shown = BESIDE[kind]
    path = tmp_path / "a.pth"
    torch.save(small() | {"beside": value}, path, _use_new_zipfile_serialization=archive)
    contents = containers.open_checkpoint(path)
    assert contents.container == "state_dict"
    if kind == "nested":
        shown = {"best": {"miou": 0.5, "when": "2024-01-02"}}
    assert contents.metadata["beside"] == shown


def test_reading_allows_nothing_beyond_its_own_call(tmp_path: Path) -> None:
    torch.save(small() | {"beside": Path("a")}, tmp_path / "a.pth")
    before = set(map(str, torch.serialization.get_safe_globals()))
    checkpoint.load(tmp_path / "a.pth")
    assert set(map(str, torch.serialization.get_safe_globals())) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)


def test_a_list_that_doubles_at_each_level_is_not_written_out(tmp_path: Path) -> None:
    value: list[Any] = ["x"]
    for _ in range(64):
        value = [value, value]
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    circular: list[Any] = []
    circular.append(circular)
    torch.save(small() | {"wide": value, "round": circular, "epoch": 7}, tmp_path / "a.pth")
    assert containers.open_checkpoint(tmp_path / "a.pth").metadata == {"epoch": 7}


# Code


class Trap:
    """Leaves a folder behind when it is unpickled by a loader that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("archive", [True, False])
def test_code_is_refused_by_name_and_not_executed(tmp_path: Path, archive: bool) -> None:
    torch.save(
        small() | {"trap": Trap(tmp_path / "executed")},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=archive,
    )
    error = refusal(tmp_path / "a.pth")
    assert "execute code" in error.what and "mkdir" in str(error.found)
    assert "model.state_dict()" in str(error.hint)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("inside", [False, True])
def test_a_whole_pickled_model_is_named_and_not_loaded(tmp_path: Path, archive: bool, inside: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    torch.save({"model": model} if inside else model, tmp_path / "a.pth", _use_new_zipfile_serialization=archive)
    error = refusal(tmp_path / "a.pth")
    assert "a pickled model" in error.what
    assert "in the program that made the file: torch.save(model.state_dict(), FILE)" in str(error.hint)


# Tensors that are no plain weights

UNUSUAL: dict[str, Callable[[], torch.Tensor]] = {
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(2, 3, device="meta"),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "stored": lambda: torch.ones(1).expand(1 << 40),
}


@pytest.mark.filterwarnings("ignore:.*(Sparse|quantize|TypedStorage).*")
@pytest.mark.parametrize("kind", UNUSUAL)
def test_tensors_that_are_no_plain_weights_are_named(tmp_path: Path, kind: str) -> None:
    content = small()
    content["state_dict"]["encoder.weight"] = UNUSUAL[kind]()
    torch.save(content, tmp_path / "a.pth")
    error = refusal(tmp_path / "a.pth")
    assert "not plain tensors" in error.what
    assert kind in str(error.found) and "encoder.weight" in str(error.found)


@pytest.mark.filterwarnings("ignore:.*nested tensors.*")
def test_nested_tensors_are_named(tmp_path: Path) -> None:
    content = small()
    content["state_dict"]["encoder.weight"] = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save(content, tmp_path / "a.pth")
    error = refusal(tmp_path / "a.pth")
    assert "tensors" in error.what and "nested" in str(error.found)


# Bounds


def test_what_unpacks_to_far_more_than_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save(small(), tmp_path / "small.pth")
    with zipfile.ZipFile(tmp_path / "small.pth") as whole, zipfile.ZipFile(path, "w") as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
        with packed.open(zipfile.ZipInfo("small/data/2"), "w", force_zip64=True) as wide:
            del wide
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("small/data/3", bytes(128 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = refusal(path)
    assert "128" in str(error.found) and "at most" in str(error.allowed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_checkpoint_that_was_packed_again_is_read(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "small.pth")
    with (
        zipfile.ZipFile(tmp_path / "small.pth") as whole,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    assert containers.open_checkpoint(tmp_path / "packed.pth").container == "state_dict"


@pytest.mark.parametrize("length", [2**63, 2**40, 90_000_000, 1 << 20])
def test_a_safetensors_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a": ' + b" " * 100)
    error = refusal(path)
    assert f"{length:,}" in str(error.found) and "at most" in str(error.allowed)


def test_a_key_of_megabytes_is_cut_in_the_message(tmp_path: Path) -> None:
    key = "x" * 10_000_000
    torch.save({"state_dict": {key: torch.ones(1)}}, tmp_path / "a.pth")
    refusal(tmp_path / "a.pth")
    torch.save({key: 1}, tmp_path / "b.pth")
    refusal(tmp_path / "b.pth")
    save_file({key[:1_000_000]: torch.ones(1)}, tmp_path / "c.safetensors")
    refusal(tmp_path / "c.safetensors")
    torch.save(small() | {key: 1, "k": {key: 1}}, tmp_path / "d.pth")
    contents = containers.open_checkpoint(tmp_path / "d.pth")
    assert len(str(contents.metadata)) < 3000 and len(str(contents.places)) < 3000


# Files of another kind


def write_zip(names: list[str]) -> Write:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("teacher.pth")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))


def write_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, weight=np.ones(2))


def write_script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)


def write_program(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path)


class MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_program_of_torch_export_that_executes_code_when_loaded_is_refused_unread(tmp_path: Path) -> None:
    write_program(tmp_path / "good.pt2")
    pickled = io.BytesIO()
    torch.save(MakesFolder(tmp_path / "executed"), pickled)
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in good.namelist():
            inputs = "sample_inputs" in name and name.endswith(".pt")
            bad.writestr(name, pickled.getvalue() if inputs else good.read(name))
    shutil.copy(tmp_path / "bad.pt2", tmp_path / "renamed.pth")
    for name in ("bad.pt2", "renamed.pth"):
        error = refusal(tmp_path / name)
        assert "torch.export" in str(error.found) and "execute code" in str(error.found)
        assert "torch.onnx.export" in str(error.hint)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(AssertionError):
        torch.export.load(tmp_path / "bad.pt2")
    assert (tmp_path / "executed").exists(), "the file is as hostile as it should be"


KINDS: dict[str, tuple[Write, str]] = {
    "TorchScript": (write_script, "torch.onnx.export"),
    "torch.export": (write_program, "torch.onnx.export"),
    ".npz": (write_npz, "numpy.load"),
    "numpy array": (lambda path: path.write_bytes(b"\x93NUMPY\x01" + bytes(60)), "state_dict"),
    "zip archive that contains teacher.pth": (write_zip(["teacher.pth", "README"]), "unzip"),
    "zip archive of 2 other files": (write_zip(["a.txt", "b.txt"]), "state_dict"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(60)), "gunzip"),
    "tar archive": (write_tar, "tar -xf"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(60)), "PyTorch"),
    "TensorFlow": (lambda path: path.write_bytes(bytes(60) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"), "PyTorch"),
    "ONNX": (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(60)), "checkpoint"),
    "Git LFS": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "lfs pull"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html>\n<html>sign in</html>"), "download"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_is_named_with_the_next_step(tmp_path: Path, kind: str) -> None:
    write, step = KINDS[kind]
    path = tmp_path / "teacher.pth"
    write(path)
    error = refusal(path)
    assert kind in str(error.found)
    assert step in str(error.hint)


def test_a_pickle_that_torch_did_not_write_is_named(tmp_path: Path) -> None:
    for protocol in (2, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"weight": np.ones(3)}, protocol=protocol))
        assert "pickle" in refusal(tmp_path / "a.pkl").what
