"""Pipes, sockets and folders in place of a run's files: no reader blocks, and each is reported."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdtui.errors import StoreError
from kdtui.profile import Profile
from kdtui.store.event_log import Tail
from kdtui.store.files import NotAFile, TooLarge, appending, open_file, read_file, reading
from kdtui.store.run import EventLog, Run
from kdtui.store.state import Liveness
from kdtui.store.store import RunStore
from kdtui.store.text_tail import TextTail
from tests.store.conftest import Processes, record, training, write
from tests.waiting import in_time

ENDLESS = "/dev/zero"
"""A device that never ends."""
KINDS = ("a pipe", "a socket", "a folder", "a device")
READ = ("run.json", "profile.toml", "notes.toml", "launch.json", "events.jsonl")
"""What a row of the list is made of."""


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to put a socket in by a short name: no socket's path may be longer than 107 bytes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(kind: str, path: Path) -> Path:
    """Something that is no file, in its place."""
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(path))
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(ENDLESS)
    return path


def opened(folder: Path) -> list[str]:
    """What this process holds open in a folder; of other folders, threads of earlier tests may."""
    held = []
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):  # the one of this look, and others' that are closed meanwhile
            held.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    return [path for path in held if path.startswith(str(folder)) or path == ENDLESS]


@pytest.fixture
def descriptors(tmp_path: Path) -> Iterator[None]:
    """The test leaves no file open."""
    yield
    assert opened(tmp_path) == []


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_APPEND])
def test_what_is_no_file_is_not_opened(short: Path, kind: str, flags: int) -> None:
    path = put(kind, short / "x")
    for _ in range(2):
        with pytest.raises(NotAFile, match=f"it is {kind}, not a file"):
            in_time(lambda: open_file(path, flags))


def test_an_open_file_is_seen(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb"):
        assert opened(tmp_path) == [str(tmp_path / "x")]
    assert opened(tmp_path) == []


@pytest.mark.usefixtures("descriptors")
def test_a_file_is_opened_and_so_is_a_link_to_one(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with appending(tmp_path / "file") as file:
        file.write(data)
    assert read_file(tmp_path / "link") == data
    with reading(tmp_path / "link") as file:
        assert file.read() == data
    with appending(tmp_path / "link") as file:
        assert file.tell() == len(data)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "other")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READ)
def test_a_run_with_something_else_in_the_place_of_a_file_is_a_damaged_row(
    store: RunStore, short: Path, name: str, kind: str
) -> None:
    store = RunStore(store.root, alive=Processes(Liveness.DEAD))
    broken, whole = store.create(Profile(name="broken")), store.create(Profile(name="whole"))
    put(kind, broken.path / name)
    rows = {row.id: row for row in in_time(store.summaries)}
    assert f"{name} cannot be read: it is {kind}, not a file" in rows[broken.id].detail
    assert rows[whole.id].detail == ""
    assert in_time(lambda: store.find("latest")) in (broken, whole)
    in_time(lambda: store.remove(broken))
    assert store.runs() == [whole]


@pytest.mark.parametrize("name", ["beat", "stop", "measurements.json"])
def test_a_pipe_next_to_them_keeps_a_run_readable_and_removable(store: RunStore, name: str) -> None:
    store = RunStore(store.root, alive=Processes(Liveness.UNKNOWN))
    run = store.create(Profile(name="abc"))
    run.write_launch_record(record())
    write(run, training(3))
    put("a pipe", run.path / name)
    assert in_time(lambda: store.summary(run)).step == 3
    for call in (run.stop_requested, run.request_stop, run.touch_beat):
        in_time(call)
    run.beat_path.unlink(missing_ok=True)
    put("a pipe", run.beat_path)
    in_time(lambda: RunStore(store.root, alive=Processes(Liveness.DEAD)).remove(run))
    assert store.runs() == []


@pytest.mark.parametrize("kind", KINDS)
def test_followers_and_writers_report_a_file_that_cannot_be_used(run: Run, short: Path, kind: str) -> None:
    readers: list[tuple[Path, Callable[[], object]]] = [
        (run.events_path, Tail(run.events_path).read),
        (run.events_path, lambda: EventLog(run.events_path)),
        (run.worker_log, TextTail(run.worker_log).read),
        (run.measurements_path, run.measurements),
    ]
    for path, read in readers:
        if not path.exists():
            put(kind, path)
        with pytest.raises(StoreError) as caught:
            in_time(read)
        assert str(path) in caught.value.message and f"it is {kind}, not a file" in caught.value.message


def test_a_pipe_in_the_place_of_the_cache_costs_nothing_but_time(store: RunStore, run: Run) -> None:
    (store.root / ".cache").mkdir(exist_ok=True)
    put("a pipe", store.root / ".cache" / "summaries.json")
    assert [row.id for row in in_time(RunStore(store.root).summaries)] == [run.id]


def test_a_stop_that_cannot_be_taken_away_is_reported(run: Run) -> None:
    run.stop_path.mkdir()
    with pytest.raises(StoreError, match="could not be removed"):
        run.clear_stop()


def test_a_file_larger_than_its_bound_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 1000)
    assert len(read_file(path, most=1000)) == 1000
    os.truncate(path, 2**40)
    with pytest.raises(TooLarge, match="it has 1024 GiB; the limit is 1000 bytes"):
        read_file(path, most=1000)


def test_a_file_that_has_no_size_is_bounded_while_it_is_read() -> None:
    with pytest.raises(TooLarge, match="more than 4 bytes"):
        read_file(Path("/proc/self/maps"), most=4)
