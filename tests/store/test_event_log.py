from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kdtui.errors import StoreError
from kdtui.events import Noted, decode
from kdtui.store.run import EventLog, write_atomically

FILL = """
import resource, signal, sys
from pathlib import Path
from kdtui.errors import StoreError
from kdtui.events import Noted
from kdtui.store.run import EventLog

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
written = 0
with EventLog(Path(sys.argv[1])) as log:
    try:
        for _ in range(100):
            log.append(Noted("x" * 60))
            written += 1
    except StoreError as error:
        assert "could not be written" in error.what
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if sys.argv[2] == "same":
            log.append(Noted("after"))
        print(written)
"""


def whole(path: Path) -> list[Noted]:
    events = [decode(line) for line in path.read_bytes().split(b"\n")]
    return [event for event in events if isinstance(event, Noted)]


def test_each_line_is_one_event(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e") as log:
        log.append(Noted("a\nb"))
        log.append(Noted("c"))
    assert [event.message for event in whole(tmp_path / "e")] == ["a\nb", "c"]
    assert (tmp_path / "e").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("half", [b'{"v":1,"kind":"noted","ti', b"x"])
def test_a_half_written_line_swallows_nothing(tmp_path: Path, half: bytes) -> None:
    path = tmp_path / "e"
    with EventLog(path) as log:
        log.append(Noted("first"))
    with path.open("ab") as file:
        file.write(half)
    with EventLog(path) as log:
        log.append(Noted("second"))
        log.append(Noted("third"))
    assert [event.message for event in whole(path)] == ["first", "second", "third"]
    assert path.read_bytes().count(b"\n") == 4  # the half line keeps a line of its own


def test_opening_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(b"half")
    EventLog(path).close()
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("writer", ["same", "next"])
def test_a_full_disk_is_reported_and_the_next_line_is_whole(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "e"
    done = subprocess.run([sys.executable, "-c", FILL, str(path), writer], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = int(done.stdout)
    assert 0 < written < 100
    if writer == "next":
        assert path.stat().st_size == 1000  # the limit cut a line in two
        with EventLog(path) as log:
            log.append(Noted("after"))
    messages = [event.message for event in whole(path)]
    assert messages == ["x" * 60] * written + ["after"]


def test_a_log_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not be written"):
        EventLog(tmp_path)


def test_replacing_a_file_on_a_full_disk_keeps_the_former(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"old", fsync=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StoreError):
            write_atomically(path, b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("line", ['"step":%d,"scalars":{}', '"step":1,"scalars":{"loss":%d}'])
def test_numbers_that_nothing_can_hold_make_a_line_no_event(line: str) -> None:
    head = '{"v":1,"kind":"measured","time":1.0,"split":"train","epoch":1,"images":4,'
    assert decode(head + line % 3 + "}") is not None
    assert decode(head + line % 10**400 + "}") is None
