from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from kdtui.store.checkpoint_files import damage, disk_usage
from kdtui.store.run import Run


def archive(path: Path, *, compressed: bool = False) -> bytes:
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("a/data.pkl", b"x" * 100)
        file.writestr("a/data/0", bytes(range(256)) * 100)
    return path.read_bytes()


def test_a_whole_archive_is_whole_and_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    whole = archive(path)
    assert damage(path) is None
    for length in (1, 2, 3, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert length < 2 or damage(path) == "truncated"
    path.write_bytes(b"")
    assert damage(path) == "empty"
    path.unlink()
    assert damage(path) == "missing"


def test_a_byte_that_changed_is_found_wherever_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    whole = archive(path)
    for place in (60, 130, 300, len(whole) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert damage(path) == "damaged"


def test_what_torch_did_not_write_is_left_to_torch(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    archive(path, compressed=True)
    assert damage(path) is None
    path.write_bytes(b"\x80\x02}q\x00.")
    assert damage(path) is None


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "last.pth"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert kind in (damage(path) or "")


def test_a_file_with_several_names_takes_its_bytes_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert disk_usage(run) == 0
    run.checkpoints.mkdir()
    run.last.write_bytes(b"x" * 1000)
    os.link(run.last, run.epoch_checkpoint(3))
    run.best.write_bytes(b"x" * 300)
    (run.checkpoints / "best_model.onnx").write_bytes(b"x" * 70)
    # Neither the size of a folder nor that of what a link leads to is a checkpoint's.
    (run.checkpoints / "folder.pth").mkdir()
    (run.checkpoints / "link.pth").symlink_to(run.best)
    assert disk_usage(run) == 1300


def test_epochs_are_numbers_and_other_files_are_none(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.checkpoints.mkdir()
    for epoch in (9999, 10000, 2):
        run.epoch_checkpoint(epoch).touch()
    for name in ("checkpoint_epoch_old.pth", "checkpoint_epoch_².pth", "checkpoint_epoch_3.pth"):
        (run.checkpoints / name).touch()
    assert run.epochs_on_disk() == [2, 9999, 10000]
