from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kdtui.tui.clipboard import copy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs" / ".cache" / "copied.txt"


@pytest.fixture
def asked() -> list[str]:
    """What the terminal was asked to keep."""
    return []


def tmux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
    """A session inside a tmux that does as told; what it was given comes into the file."""
    folder, got = tmp_path / "bin", tmp_path / "got"
    folder.mkdir()
    program = folder / "tmux"
    program.write_text(f"#!{sys.executable}\nimport sys\n{code.format(got=str(got))}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    return got


def test_the_text_is_sent_to_the_terminal_and_written_to_a_file(asked: list[str], file: Path) -> None:
    said = copy(asked.append, "kdtui watch b0\x1b[31m", file)
    assert asked[0] == file.read_text() == "kdtui watch b0[31m"  # nothing that a shell's terminal would obey
    assert "OSC 52" in said and str(file) in said
    copy(asked.append, "α", file)
    assert file.read_text(encoding="utf-8") == "α"


def test_inside_tmux_its_own_buffer_is_used(
    asked: list[str], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = tmux(tmp_path, monkeypatch, "open({got!r}, 'w').write(repr((sys.argv[1:], sys.stdin.read())))")
    said = copy(asked.append, "text", file)
    assert got.read_text() == repr((["load-buffer", "-w", "-"], "text"))
    assert said.startswith("copied to tmux") and asked == []
    assert file.read_text() == "text"


def test_an_old_tmux_falls_back_to_the_terminal(
    asked: list[str], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmux(tmp_path, monkeypatch, "sys.exit('unknown option -- w')")
    assert "OSC 52" in copy(asked.append, "text", file)
    assert asked == ["text"]


def test_a_tmux_that_has_exited(asked: list[str], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", "x")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "OSC 52" in copy(asked.append, "text", file)


def test_an_unwritable_file_is_reported(asked: list[str], file: Path) -> None:
    file.parent.parent.mkdir()
    file.parent.write_text("no folder")
    said = copy(asked.append, "text", file)
    assert asked == ["text"]
    assert "not in" in said and "also in" not in said
