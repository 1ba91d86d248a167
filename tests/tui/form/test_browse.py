"""A path that is being typed, and what it could go on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import UsageError
from kdtui.tui.form.browse import entries, is_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("models/b3.pth", "models/b0.safetensors", "models/readme.txt", "models/.hidden.pth"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"12345")
    saved = tmp_path / "models" / "saved"
    saved.mkdir()
    (saved / "model.safetensors").write_bytes(b"1")
    (tmp_path / "models" / "more").mkdir()
    (tmp_path / "models" / "dangling.pth").symlink_to(tmp_path / "nowhere")
    return tmp_path


def paths(text: str) -> list[str]:
    return [entry.path for entry in entries(text)]


def test_listed_folders_and_checkpoints_start_with_the_typed_text(folder: Path) -> None:
    assert paths("models/") == ["models/more/", "models/saved", "models/b0.safetensors", "models/b3.pth"]
    assert paths("models/b") == ["models/b0.safetensors", "models/b3.pth"]
    assert paths("models/B3") == ["models/b3.pth"]
    assert paths("models/.") == ["models/.hidden.pth"]
    assert paths("models/x") == []
    assert paths("./mod") == ["./models/"]
    assert paths("~/mod") == ["~/models/"]
    assert paths("~") == ["~/models/"]
    assert paths(str(folder / "models" / "b3")) == [str(folder / "models" / "b3.pth")]


def test_saved_networks_and_runs_are_picked_and_folders_are_opened(folder: Path) -> None:
    by_name = {entry.name: entry for entry in entries("models/")}

    assert by_name["saved/"].teaches
    assert not by_name["more/"].teaches
    assert by_name["b3.pth"].bytes == 5


def test_the_root_and_unreadable_folders(folder: Path) -> None:
    assert "/proc/" in paths("/pro")
    with pytest.raises(UsageError, match="cannot be read"):
        entries("nowhere/x")
    with pytest.raises(UsageError):
        entries("models/b3.pth/")


def test_the_id_of_a_run_is_not_a_path() -> None:
    assert is_path("./a") and is_path("~/a") and is_path("a/b") and is_path("/")
    assert not is_path("20261125-022140-demo-teacher")
    assert not is_path("latest")
