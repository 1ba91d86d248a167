"""One queue for the devices of a machine, whatever run store or user a process belongs to."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtui.errors import LaunchError
from kdtui.launch import shared_folder
from kdtui.launch.alive import probe
from kdtui.launch.device_queue import Claim, device_keys, places
from kdtui.launch.local import LocalLauncher
from kdtui.launch.shared_folder import SharedFolder
from kdtui.launch.slots import Ticket, slot_folder
from kdtui.store.identity import boot_id, hostname
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import end_everything, eventually, make, reaches
from tests.waiting import in_time

WAITS = """
import sys, time
from pathlib import Path
from kdtui.launch.slots import alone
with alone(Path(sys.argv[1]), "cpu"):
    print("measures", flush=True)
    time.sleep(600)
"""
OLD_VERSION = """
import fcntl, os, sys, time
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2].replace("PID", str(os.getpid()))
(folder / "waiting").mkdir(parents=True, exist_ok=True)
file = (folder / name).open("ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(600)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder() -> Path:
    return Path(os.environ["KDTUI_SLOT_DIR"])


@pytest.fixture
def start() -> Iterator[Start]:
    """Python programs that are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def call(code: str, *arguments: str) -> subprocess.Popen[str]:
        started.append(subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RunStore]:
    """A second run store on the same machine."""
    store = RunStore(tmp_path / "elsewhere", alive=probe, places=places)
    yield store
    end_everything(store)


def take(root: Path, name: str = "0", created: float = 1.0, device: str = "cpu") -> Any:
    ticket = Ticket(root, device, [name], created, "r")
    slots = ticket.try_take(1)
    ticket.leave()
    return slots


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_runs_of_two_stores_share_one_queue(store: RunStore, launcher: LocalLauncher, other: RunStore) -> None:
    mine, theirs, later = (
        make(where, {"*": [{"wait_for": "go"}]}, name=name)
        for where, name in ((store, "mine"), (other, "theirs"), (store, "later"))
    )
    launcher.launch(mine)
    LocalLauncher(other).launch(theirs)
    launcher.launch(later)
    reaches(store, mine, State.RUNNING)
    eventually(lambda: store.summary(later).place == 2, "two places")
    words = f"waiting for a cpu slot, position 1; held by {mine.id} in {store.root}"
    eventually(lambda: other.summary(theirs).detail == words, words)
    assert store.summary(later).detail == f"waiting for a cpu slot, position 2; behind {theirs.id} in {other.root}"
    (mine.path / "go").touch()
    reaches(other, theirs, State.RUNNING)
    assert store.summary(later).state is State.QUEUED
    (theirs.path / "go").touch()
    reaches(store, later, State.RUNNING)


def test_a_suspended_measurement_that_waits_is_passed_over_and_named(
    store: RunStore, launcher: LocalLauncher, start: Start
) -> None:
    first, second, third = (make(store, {"*": [{"wait_for": "go"}]}, name=name) for name in ("a", "b", "c"))
    launcher.launch(first)
    reaches(store, first, State.RUNNING)
    measure = start(WAITS, str(store.root))
    eventually(lambda: len(tickets()) == 1, "its ticket")
    for run in (second, third):
        launcher.launch(run)
    eventually(lambda: store.summary(second).place == 2, "behind the measurement")
    measure.send_signal(signal.SIGSTOP)
    title = f"kdtui measure (pid {measure.pid})"
    words = f"waiting for a cpu slot, position 1; {title} is suspended and skipped"
    eventually(lambda: store.summary(second).detail == words, words)
    (first.path / "go").touch()
    reaches(store, second, State.RUNNING)
    measure.send_signal(signal.SIGCONT)
    (second.path / "go").touch()
    assert line(measure) == "measures"
    eventually(lambda: store.summary(third).detail == f"waiting for a cpu slot, position 1; held by {title}", title)


def test_a_waiter_that_gives_no_sign_is_passed_over(tmp_path: Path) -> None:
    ticket = Ticket(tmp_path, "cpu", ["0"], 1.0, "frozen")
    young = Ticket(tmp_path, "cpu", ["0"], 2.0, "young")
    assert young.try_take(1) is None
    [old] = [path for path in tickets() if path.name.startswith(f"{1.0:020.6f}")]
    os.utime(old, (0, 0))
    taken = young.try_take(1)
    assert taken is not None
    taken.release()
    for one in (ticket, young):
        one.leave()


def tickets() -> list[Path]:
    return [path for path in Path(os.environ["KDTUI_SLOT_DIR"]).glob("*") if path.name[0].isdigit()]


class TestOlderVersions:
    """Supervisors that queue in their run store only."""

    def test_a_slot_of_theirs_is_not_taken(self, tmp_path: Path, start: Start) -> None:
        old = start(OLD_VERSION, str(slot_folder(tmp_path, hostname())), "cpu-0")
        assert line(old) == "locked"
        assert take(tmp_path) is None
        old.kill()
        old.wait()
        take(tmp_path).release()

    def test_ours_is_held_against_them(self, tmp_path: Path) -> None:
        slots = take(tmp_path)
        with (slot_folder(tmp_path, hostname()) / "cpu-0").open("ab") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        slots.release()

    @pytest.mark.parametrize("suspended", [False, True])
    def test_a_ticket_of_theirs_counts_unless_it_is_suspended(
        self, tmp_path: Path, start: Start, suspended: bool
    ) -> None:
        name = f"waiting/{0.5:020.6f}-cpu-measure-PID"
        old = start(OLD_VERSION, str(slot_folder(tmp_path, hostname())), name)
        assert line(old) == "locked"
        if suspended:
            old.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, old.pid, os.WSTOPPED | os.WNOWAIT)
        slots = take(tmp_path)
        assert (slots is not None) is suspended
        if slots is not None:
            slots.release()


class TestGpus:
    @pytest.fixture(autouse=True)
    def driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(
            "#!/bin/sh\necho 'GPU 0: H200 (UUID: GPU-aaa-1)'; echo '  MIG 1g (UUID: MIG-abc)'; "
            "echo 'GPU 1: H200 (UUID: GPU-bbb-2)'\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def test_a_gpu_has_one_name_whatever_cuda_calls_it(self) -> None:
        assert device_keys("gpu", ["0", "1"]) == ("gpu-GPU-aaa-1", "gpu-GPU-bbb-2")
        assert device_keys("gpu", ["GPU-bbb", "MIG-abc"]) == ("gpu-GPU-bbb-2", "gpu-MIG-abc")
        boot = boot_id()[:8]
        assert device_keys("gpu", ["7", "GPU-", "../x"]) == (f"gpu-{boot}-7", f"gpu-{boot}-GPU-", f"gpu-{boot}-.._x")

    def test_two_shells_with_different_gpus_do_not_wait_for_each_other(self, tmp_path: Path) -> None:
        first, same, second = (take(tmp_path / n, n, device="gpu") for n in ("0", "GPU-aaa", "1"))
        assert first is not None and same is None and second is not None
        for slots in (first, second):
            slots.release()


class TestMischief:
    """Everybody may write in the folder."""

    def test_it_is_made_for_everybody(self, tmp_path: Path, folder: Path) -> None:
        former = os.umask(0o077)
        try:
            take(tmp_path).release()
        finally:
            os.umask(former)
        assert folder.stat().st_mode & 0o7777 == 0o1777
        [slot] = folder.iterdir()
        assert slot.stat().st_mode & 0o777 == 0o666

    def test_a_file_that_this_user_may_only_read_is_locked_too(self, tmp_path: Path, folder: Path) -> None:
        take(tmp_path).release()
        [slot] = folder.iterdir()
        slot.chmod(0o444)
        slots = take(tmp_path)
        assert slots is not None
        assert take(tmp_path) is None
        slots.release()

    @pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
    def test_what_is_no_file_is_refused_where_a_slot_should_be(self, tmp_path: Path, folder: Path, kind: str) -> None:
        take(tmp_path).release()
        [slot] = folder.iterdir()
        slot.unlink()
        target = tmp_path / "target"
        target.write_text("mine")
        if kind == "link":
            slot.symlink_to(target)
        elif kind == "fifo":
            os.mkfifo(slot)
        else:
            slot.mkdir()
        with pytest.raises(LaunchError, match="KDTUI_SLOT_DIR"):
            in_time(lambda: take(tmp_path))
        assert target.read_text() == "mine"

    def test_a_second_name_of_a_file_is_not_written_to(self, tmp_path: Path, folder: Path) -> None:
        take(tmp_path).release()
        [slot] = folder.iterdir()
        slot.unlink()
        target = tmp_path / "target"
        target.write_text("mine")
        os.link(target, slot)
        take(tmp_path).release()
        assert target.read_text() == "mine"

    @pytest.mark.parametrize("text", [b"", b"[" * 9999, b"\xff", b"{" + b'"keys":' * 2, b"9" * 70_000, b'{"keys":5}'])
    def test_foreign_tickets_do_not_block(self, tmp_path: Path, folder: Path, text: bytes) -> None:
        take(tmp_path).release()
        name = f"{0.5:020.6f}-cpu-1-00000000"
        (folder / name).write_bytes(text)
        os.mkfifo(folder / f"{0.25:020.6f}-cpu-1-00000000")
        (folder / f"{0.125:020.6f}-cpu-1-00000000").symlink_to("/dev/zero")
        with (folder / name).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            slots = in_time(lambda: take(tmp_path))
            assert slots is not None
            assert places(tmp_path) == {}
            slots.release()

    @settings(max_examples=40, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_a_claim_is_read_from_any_json(self, value: Any) -> None:
        for key in ("what", "store", "run", "keys", "processes", "v"):
            claim = Claim.of({"what": "w", "keys": ["k"], "processes": [value], key: value})
            assert claim.suspended is False
            assert json.loads(claim.encode())["what"].isprintable()

    def test_a_flood_of_files_is_looked_at_in_part(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared_folder, "MOST_FILES", 8)
        for number in range(10):
            (tmp_path / str(number)).touch()
        folder = SharedFolder(tmp_path)
        assert len(folder.names()) == 8
        folder.close()

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_only_a_regular_file_is_read(self, tmp_path: Path, make: Callable[[Path], None]) -> None:
        folder = SharedFolder(tmp_path)
        make(tmp_path / "other")
        (tmp_path / "file").touch()
        assert folder.open("other") is None
        descriptor = folder.open("file")
        assert descriptor is not None
        os.close(descriptor)
        folder.close()

    def test_the_default_folder_is_no_link(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        link = tmp_path / "link"
        link.symlink_to(tmp_path)
        monkeypatch.setattr(shared_folder, "DEFAULT", link)
        with pytest.raises(LaunchError, match="device queue"):
            SharedFolder(link)

    def test_a_folder_that_cannot_be_used_is_reported_before_anything_starts(
        self, store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("KDTUI_SLOT_DIR", str(tmp_path / "file"))
        run = make(store)
        with pytest.raises(LaunchError, match="Not a directory"):
            launcher.launch(run)
        assert run.launch_record() is None
