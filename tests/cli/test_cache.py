"""``kdtui cache``: the logits of teachers in a run store."""

from __future__ import annotations

from pathlib import Path

from kdtui.store.store import RunStore
from kdtui.store.view_logits import FOLDER, ViewLogits, describe
from tests.cli.conftest import Kdtui


def filled(root: Path, teacher: str) -> Path:
    """The file of one view with one of three samples."""
    folder = root / FOLDER / teacher
    describe(folder, {"teacher": teacher, "data": "3 crops"})
    path = folder / "view-000000.logits"
    file = ViewLogits.make(path, 3, 2**20)
    assert file is not None
    file.write(1, bytes(2**20))
    file.close()
    return path


def test_logits_are_listed_verified_and_removed(kdtui: Kdtui, store: RunStore) -> None:
    assert "no teacher logits" in kdtui("cache").err
    path = filled(store.root, "big.pth")
    listed = kdtui("cache")
    assert listed.code == 0
    assert "big.pth" in listed.out and "3.0 MiB" in listed.out
    (entry,) = kdtui("cache", "--verify", "--json").json
    assert (entry["teacher"], entry["views"], entry["whole"], entry["absent"], entry["damaged"]) == (
        "big.pth",
        1,
        1,
        2,
        0,
    )

    content = bytearray(path.read_bytes())
    content[-(2**20) - 5] ^= 1
    path.write_bytes(content)
    damaged = kdtui("cache", "--verify")
    assert damaged.code == 3
    assert "1 sample" in damaged.err and "kdtui cache --clear" in damaged.err

    assert kdtui("cache", "--verify", "--clear").code == 2
    assert path.exists()
    assert "3.0 MiB" in kdtui("cache", "--clear").err
    assert not path.exists()
