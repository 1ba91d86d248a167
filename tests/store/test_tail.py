from __future__ import annotations

import itertools
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.errors import StoreError
from kdtui.events import Noted, encode
from kdtui.store.event_log import LONGEST, PIECE, Tail

LINES = [encode(Noted(f"é {n}", time=float(n))) for n in range(6)]


@given(st.lists(st.integers(0, sum(map(len, LINES))), max_size=8))
def test_however_it_is_cut_every_event_comes_once_and_in_order(cuts: list[int]) -> None:
    body = b"".join(LINES)
    edges = [0, *sorted(cuts), len(body)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e"
        tail = Tail(path)
        got = list(tail.read())
        for begin, end in itertools.pairwise(edges):
            with path.open("ab") as file:
                file.write(body[begin:end])
            got += tail.read()
        assert [event.time for event in got] == [float(n) for n in range(6)]
        assert tail.generation == 0


def test_a_line_without_its_newline_waits(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(LINES[0] + LINES[1][:-1])
    tail = Tail(path)
    assert len(tail.read()) == 1
    assert tail.read() == []
    with path.open("ab") as file:
        file.write(b"\n")
    assert [event.time for event in tail.read()] == [1.0]


def test_lines_that_are_no_events_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(b'\n[]\nnot json\n{"kind":"later","time":1}\n\xff\xfe\n{"kind":"noted"}\n' + LINES[0])
    assert [event.time for event in Tail(path).read()] == [0.0]


@pytest.mark.parametrize("change", ["truncate", "replace"])
def test_another_or_shorter_file_is_read_from_its_start(tmp_path: Path, change: str) -> None:
    path = tmp_path / "e"
    path.write_bytes(b"".join(LINES[:3]))
    tail = Tail(path)
    assert len(tail.read()) == 3
    if change == "truncate":
        path.write_bytes(LINES[4])
    else:
        (tmp_path / "n").write_bytes(b"".join(LINES))
        (tmp_path / "n").replace(path)
    assert tail.read()[-1].time == (4.0 if change == "truncate" else 5.0)
    assert tail.generation == 1


def test_a_file_that_goes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "e"
    tail = Tail(path)
    assert tail.read() == []
    path.write_bytes(LINES[0])
    assert len(tail.read()) == 1
    path.unlink()
    assert tail.read() == []
    path.write_bytes(LINES[1])
    assert [event.time for event in tail.read()] == [1.0]
    assert tail.generation == 1


def test_a_folder_in_its_place_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        Tail(tmp_path).read()


@given(st.integers(1, sum(map(len, LINES)) + 10))
def test_the_end_of_a_file_is_its_last_whole_lines(last: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e"
        path.write_bytes(b"".join(LINES))
        tail = Tail(path, last=last)
        whole = [n for n in range(6) if sum(map(len, LINES[n:])) <= last]
        assert [event.time for event in tail.read()] == [float(n) for n in whole]
        with path.open("ab") as file:
            file.write(LINES[0])
        assert len(tail.read()) == 1


@given(st.integers(1, 80))
def test_reading_in_pieces_is_reading(limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e"
        path.write_bytes(b"".join(LINES))
        tail, got = Tail(path), []
        while tail.position < path.stat().st_size:
            before = tail.position
            got += tail.read(limit)
            assert 0 < tail.position - before <= limit
        assert [event.time for event in got] == [float(n) for n in range(6)]


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
def test_a_stream_is_all_that_is_new_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr("kdtui.store.event_log.PIECE", piece)
    path = tmp_path / "e"
    path.write_bytes(b"".join(LINES[:4]))
    tail = Tail(path)
    assert [event.time for event in tail.stream()] == [0.0, 1.0, 2.0, 3.0]
    with path.open("ab") as file:
        file.write(LINES[4])
    assert [event.time for event in tail.stream()] == [4.0]
    assert list(Tail(tmp_path / "nothing").stream()) == []


def test_a_stream_holds_one_piece_of_a_long_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "e"
    line = encode(Noted(100_000 * "x"))
    path.write_bytes(200 * line)
    tracemalloc.start()
    try:
        assert sum(1 for _ in Tail(path).stream()) == 200
        assert tracemalloc.get_traced_memory()[1] < 8 * PIECE
    finally:
        tracemalloc.stop()


def test_a_line_that_never_ends_takes_no_memory_and_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "e"
    with path.open("wb") as file:
        file.write(LINES[0] + b'{"v":1,"kind":"noted","time":1.0,"message":"')
        for _ in range(5):
            file.write(LONGEST * b"x")
        file.write(b'"}\n' + LINES[1])
    tracemalloc.start()
    try:
        assert [event.time for event in Tail(path).stream()] == [0.0, 1.0]
        assert tracemalloc.get_traced_memory()[1] < 4 * LONGEST
    finally:
        tracemalloc.stop()
