from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdtui.errors import LaunchError, StoreError
from kdtui.events import Exited, Failed, Measured, Queued, Started
from kdtui.launch.alive import is_running
from kdtui.launch.local import LocalLauncher
from kdtui.processes import cores
from kdtui.store.files import try_lock
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import (
    FOREVER,
    events,
    is_locked,
    kill,
    kinds,
    make,
    reaches,
    record_of,
    slot_is_held,
    trains,
    wait_until_exited,
    with_gpus,
)
from tests.waiting import eventually, in_time


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_from_launch_to_its_final_event(store: RunStore, launcher: LocalLauncher, devices: int) -> None:
    run = make(store, devices=devices)
    record = launcher.launch(run)
    assert record.attempt == 1
    row = reaches(store, run, State.FINISHED)
    wait_until_exited(record_of(run))
    assert row.step == 3
    said = kinds(run)
    assert said[0] == "queued"
    assert said[1] == "started"
    assert said[-2:] == ["finished", "exited"]
    last = events(run)[-1]
    assert isinstance(last, Exited)
    assert (last.attempt, last.code, last.signal) == (1, 0, None)
    assert len(record_of(run).ranks) == devices
    assert not slot_is_held(store)
    assert not is_locked(run.beat_path)


def test_the_launcher_returns_once_the_supervisor_is_in_the_record(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    record = launcher.launch(run)
    assert is_running(record.identity)
    assert os.getsid(record.pid) == record.pid != os.getsid(0)
    assert events(run)[0].kind == "queued"
    assert Path(f"/proc/{record.pid}/fd/0").readlink() == Path("/dev/null")
    for number in (1, 2):
        assert Path(f"/proc/{record.pid}/fd/{number}").readlink() == run.worker_log


def test_what_a_rank_finds_in_its_environment(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER, devices=2, threads=0)
    launcher.launch(run)
    record = trains(store, run)
    found = []
    for who in record.ranks:
        lines = Path(f"/proc/{who['pid']}/environ").read_bytes().split(b"\0")
        found.append(dict(line.decode().split("=", 1) for line in lines if line))
    assert [(env["RANK"], env["LOCAL_RANK"], env["WORLD_SIZE"]) for env in found] == [("0", "0", "2"), ("1", "1", "2")]
    assert {env["MASTER_ADDR"] for env in found} == {"127.0.0.1"}
    assert len({env["MASTER_PORT"] for env in found}) == 1
    assert {env["OMP_NUM_THREADS"] for env in found} == {str(max(1, cores() // 2))}
    assert {env["CUDA_VISIBLE_DEVICES"] for env in found} == {""}


def test_threads_of_the_profile_reach_the_ranks(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, threads=3)
    launcher.launch(run)
    reaches(store, run, State.FINISHED)
    assert [event.threads for event in events(run) if isinstance(event, Started)] == [3]


def test_a_failed_rank_is_reported_with_its_message(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, {"*": [{"steps": 2}, {"fail": "no such mask"}]})
    launcher.launch(run)
    row = reaches(store, run, State.FAILED)
    assert (row.error, row.detail, row.hint) == ("EngineError", "no such mask", "try again")
    eventually(lambda: kinds(run)[-1] == "exited")
    assert [event.code for event in events(run) if isinstance(event, Exited)] == [4]


def test_a_failed_rank_without_message_is_reported_with_its_exit_code(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, {"*": [{"no_start": True}, {"print": "import failed"}, {"exit": 3}]})
    launcher.launch(run)
    row = reaches(store, run, State.FAILED)
    assert row.detail == "rank 0 ended with exit code 3"
    assert "import failed" in run.worker_log.read_text()


@pytest.mark.parametrize("bad", [0, 1])
def test_the_first_rank_that_ends_badly_is_reported_and_the_other_is_ended(
    store: RunStore, launcher: LocalLauncher, bad: int
) -> None:
    hangs: list[dict[str, Any]] = [{"ignore_sigterm": True}, {"sleep": 600}]
    run = make(store, {str(bad): [{"exit": 7}], str(1 - bad): hangs}, devices=2)
    launcher.launch(run)
    row = reaches(store, run, State.FAILED)
    assert row.detail == f"rank {bad} ended with exit code 7"
    assert not any(is_running(who) for who in record_of(run).ranks)
    assert not run.stop_requested()  # the others were not requested to stop, they were ended


def test_what_a_dead_rank_left_behind_does_not_hold_the_slot(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, {"*": [{"child": 600}, {"steps": 3000}]})
    launcher.launch(run)
    record = trains(store, run)
    kill(record.ranks[0])
    reaches(store, run, State.FAILED)
    wait_until_exited(record)
    eventually(lambda: not slot_is_held(store), "slot free")


def test_an_engine_that_cannot_be_started_is_reported(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = make(store)
    monkeypatch.setenv("KDTUI_ENGINE", "/no/such/engine")
    with pytest.raises(LaunchError, match="/no/such/engine"):
        launcher.launch(run)
    assert store.summary(run).state is State.NEVER_LAUNCHED
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KDTUI_ENGINE", str(broken))
    launcher.launch(run)
    row = reaches(store, run, State.FAILED)
    assert "could not be started" in row.detail


def test_a_supervisor_that_does_not_come_up_is_reported_with_what_it_printed(
    store: RunStore, launcher: LocalLauncher
) -> None:
    run = make(store)
    run.worker_log.write_text("of an earlier attempt\n")
    run.launch_path.mkdir()  # so that the supervisor cannot record itself
    with pytest.raises(LaunchError, match="did not start") as caught:
        launcher.launch(run)
    assert "a file could not be written" in str(caught.value).lower()
    assert "earlier attempt" not in str(caught.value)
    assert not is_locked(run.beat_path)
    run.launch_path.rmdir()


def test_events_that_cannot_be_written_are_reported_before_anything_starts(
    store: RunStore, launcher: LocalLauncher
) -> None:
    run = make(store)
    run.events_path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        launcher.launch(run)
    run.events_path.rmdir()
    run.events_path.write_bytes(b"\n" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a disk that takes nothing more
    try:
        with pytest.raises(LaunchError, match="File too large"):
            launcher.launch(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert record_of(run).ranks == ()


@pytest.mark.parametrize("name", ["events.jsonl", "beat", "logs/worker.txt"])
def test_a_pipe_in_the_place_of_a_file_is_reported_and_nothing_starts(
    store: RunStore, launcher: LocalLauncher, name: str
) -> None:
    run = make(store)
    os.mkfifo(run.path / name)
    with pytest.raises((LaunchError, StoreError)) as caught:
        in_time(lambda: launcher.launch(run))
    assert name in caught.value.message and "it is a pipe, not a file" in caught.value.message
    assert run.launch_record() is None


def test_a_living_run_is_not_launched_twice(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    launcher.launch(run)
    with pytest.raises(LaunchError, match="is already running"):
        launcher.launch(run)
    record = trains(store, run)
    kill(record.identity)
    with pytest.raises(LaunchError, match="is already running"):
        launcher.launch(run)
    assert record_of(run).attempt == 1


def test_of_many_launches_at_once_one_wins(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    code = (
        "import sys; from kdtui.launch.local import LocalLauncher; from kdtui.store.store import RunStore;"
        "from kdtui.launch.alive import probe; s = RunStore(sys.argv[1], alive=probe);"
        "LocalLauncher(s).launch(s.find('latest'))"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", code, str(store.root)], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    complaints = [racer.communicate()[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 1, 1, 1]
    assert sum("is already running" in complaint for complaint in complaints) == 3
    trains(store, run)
    assert kinds(run).count("queued") == kinds(run).count("started") == 1


def test_a_partial_line_of_a_killed_rank_is_repaired_by_the_next_writer(
    store: RunStore, launcher: LocalLauncher
) -> None:
    run = make(store, {"*": [{"steps": 2}, {"raw": '{"v":1,"kind":"meas'}, {"sleep": 600}]})
    launcher.launch(run)
    record = trains(store, run, 2)
    eventually(lambda: not run.events_path.read_bytes().endswith(b"\n"), "half a line")
    kill(record.ranks[0])
    row = reaches(store, run, State.FAILED)
    assert row.detail == "rank 0 killed by SIGKILL"
    assert kinds(run) == ["queued", "started", "measured", "saved", "measured", "saved", "exited"]


def test_a_launch_on_devices_that_are_not_here(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kdtui.profile import Profile, Training

    with_gpus(monkeypatch, tmp_path, 8)

    run = store.create(Profile(name="g", training=Training(devices=2, accelerator="gpu")))
    with pytest.raises(LaunchError, match="2 GPUs; this machine has 0"):
        launcher.launch(run)
    monkeypatch.setenv("KDTUI_SLOTS", "gpu:3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6,7")
    (run.path / "script.json").write_text(json.dumps(FOREVER))
    record = launcher.launch(run)
    assert (record.device, record.devices) == ("gpu", 2)
    record = trains(store, run)
    seen = Path(f"/proc/{record.ranks[1]['pid']}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=5,6" in seen
    assert slot_is_held(store, "gpu-5") and slot_is_held(store, "gpu-6") and not slot_is_held(store, "gpu-7")


def test_the_supervisor_beats(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    run.touch_beat()
    os.utime(run.beat_path, (1, 1))
    launcher.launch(run)
    eventually(lambda: run.beat_path.stat().st_mtime > 1)


def test_events_of_an_attempt_carry_it(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, {"*": [{"steps": 1}]})
    for _ in range(2):
        launcher.launch(run)
        reaches(store, run, State.FINISHED)
        wait_until_exited(record_of(run))
    said = events(run)
    assert [event.attempt for event in said if isinstance(event, Queued | Started | Exited)] == [1, 1, 1, 2, 2, 2]
    assert [event.step for event in said if isinstance(event, Measured)] == [1, 2]
    assert not any(isinstance(event, Failed) for event in said)


@pytest.mark.parametrize("seconds", ["x", "nan", "inf", "-1", "1e9", ""])
def test_a_grace_that_is_no_number_of_seconds_is_refused_at_the_launch(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv("KDTUI_GRACE", seconds)
    with pytest.raises(LaunchError, match="KDTUI_GRACE is not a number of seconds"):
        LocalLauncher(store).launch(make(store, {}))


def test_a_lock_held_by_a_process_that_is_exiting_is_reported(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store)
    with run.beat_path.open("w") as beat:
        assert try_lock(beat.fileno())
        with pytest.raises(LaunchError, match="already running") as caught:
            launcher.launch(run)
    assert "still exiting" in str(caught.value.hint)
    assert run.launch_record() is None
