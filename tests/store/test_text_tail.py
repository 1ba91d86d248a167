from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.errors import StoreError
from kdtui.store.text_tail import FIRST, MOST, TextTail

TEXT = "é one\ntwo → ☃\r\nthree\rfour\n\nhalf".encode()


@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_however_it_is_cut_the_whole_text_comes_once(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        tail = TextTail(path)
        got = tail.read()
        for begin, end in itertools.pairwise(edges):
            with path.open("ab") as file:
                file.write(TEXT[begin:end])
            got += tail.read()
    assert got == "é one\ntwo → ☃\nthree\nfour\n\nhalf"
    assert (tail.generation, tail.skipped) == (0, 0)


def test_of_a_long_file_the_end_comes_first_from_a_whole_line_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [f"line {n:06d} ☃" for n in range(20_000)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tail = TextTail(path)
    text = tail.read()
    shown = text.splitlines()
    assert shown == lines[-len(shown) :]
    assert FIRST - 100 < len(text.encode()) <= FIRST
    assert tail.skipped + len(text.encode()) == path.stat().st_size
    with path.open("a") as file:
        file.write("more\n")
    assert tail.read() == "more\n"
    assert tail.read() == ""


@pytest.mark.parametrize("size", [FIRST - 1, FIRST, FIRST + 1])
def test_a_file_as_long_as_the_first_look(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    path.write_bytes((b"0123456\n" * (FIRST // 8 + 1))[-size:])
    tail = TextTail(path)
    text = tail.read()
    assert len(text) == size - tail.skipped
    assert tail.skipped in (0, 1) and len(text) <= FIRST


def test_one_endless_line_is_still_shown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("☃" * FIRST, encoding="utf-8")
    assert set(TextTail(path).read().lstrip("�")) == {"☃"}


def test_control_characters_and_colours_are_out_and_bad_bytes_marked(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[31;1mred\x1b[0m\x07 \x1b]0;title\x07[b]bold[/b]\x00\tx \xff\xfe\n\x1b[2J\x9b31m\n")
    assert TextTail(path).read() == "red [b]bold[/b]\tx ��\n�31m\n"


@pytest.mark.parametrize("change", ["truncate", "replace"])
def test_another_or_shorter_file_begins_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\nhal")
    tail = TextTail(path)
    assert tail.read() == "one\ntwo\nhal"
    if change == "truncate":
        path.write_text("new\n")
    else:
        (tmp_path / "n").write_text("another, longer than before\n")
        (tmp_path / "n").replace(path)
    assert tail.read().startswith("new" if change == "truncate" else "another")
    assert tail.generation == 1


def test_a_file_that_goes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = TextTail(path)
    assert tail.read() == ""
    path.write_text("one\n")
    assert tail.read() == "one\n"
    path.unlink()
    assert tail.read() == ""
    assert tail.generation == 0
    path.write_text("two\nthree\n")
    assert tail.read() == "two\nthree\n"
    assert tail.generation == 1


def test_a_file_that_gained_too_much_begins_again_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    tail = TextTail(path)
    tail.read()
    with path.open("a") as file:
        file.write("x" * 79 + "\n")
        file.write(("y" * 79 + "\n") * (MOST // 80 + 1))
    text = tail.read()
    assert tail.generation == 1
    assert len(text) <= FIRST and set(text) == {"y", "\n"}


def test_a_folder_in_its_place_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        TextTail(tmp_path).read()
