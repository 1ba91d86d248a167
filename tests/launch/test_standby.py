"""A run whose engine checks its profile and then trains it: which process trains, and what if one of them is killed."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kdtui.errors import EngineError
from kdtui.launch.local import LocalLauncher
from kdtui.launch.standby import OPTION, Standby
from kdtui.launch.start import prepared, start
from kdtui.profile import Profile, Training, dump
from kdtui.store.identity import start_ticks
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import FOREVER, make, reaches, record_of, trains, wait_until_exited
from tests.waiting import eventually

PROFILE = Profile(name="held", training=Training(accelerator="cpu", epochs=1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "profile.toml"
    path.write_bytes(dump(PROFILE))
    return path


def waiting(file: Path) -> dict[str, psutil.Process]:
    """The engine that checked this file, and its supervisor, as far as they are running."""
    engines = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(file) in words and OPTION in words:
            engines.append(process)
    if not engines:
        return {}
    (engine,) = engines
    supervisor = engine.parent()
    assert supervisor is not None
    return {"engine": engine, "supervisor": supervisor}


def finish(store: RunStore, run: Run) -> None:
    (run.path / "go").touch()
    reaches(store, run, State.FINISHED)
    wait_until_exited(record_of(run))


def launched(store: RunStore, file: Path, between: Callable[[dict[str, psutil.Process]], None]) -> tuple[Run, bool]:
    """A run that was launched after ``between``, and whether the process that checked its profile trains it."""
    with prepared([PROFILE], store) as standby:
        assert standby is not None
        assert standby.ask("check", str(file))["checks"]
        who = waiting(file)
        between(who)
        run = start(store, PROFILE, origin="a test", standby=standby)
    trains(store, run)
    return run, record_of(run).ranks[0]["pid"] == who["engine"].pid


def test_the_process_that_checked_a_profile_trains_it_as_a_child_of_its_supervisor(store: RunStore, file: Path) -> None:
    run, same = launched(store, file, lambda who: None)
    assert same
    record = record_of(run)
    assert psutil.Process(record.ranks[0]["pid"]).ppid() == record.pid
    assert os.getpgid(record.ranks[0]["pid"]) == record.ranks[0]["pid"]
    assert os.getsid(record.pid) == record.pid
    finish(store, run)
    assert f"worker of {PROFILE.name}" in run.worker_log.read_text()


@pytest.mark.parametrize("victim", ["engine", "supervisor"])
def test_a_process_that_is_killed_before_the_launch_is_replaced(store: RunStore, file: Path, victim: str) -> None:
    def kill(who: dict[str, psutil.Process]) -> None:
        who[victim].kill()
        eventually(lambda: start_ticks(who["engine"].pid) is None, "without its supervisor the engine exits")

    run, same = launched(store, file, kill)
    assert not same
    finish(store, run)


def test_without_a_launch_both_processes_exit(store: RunStore, file: Path) -> None:
    with prepared([PROFILE], store) as standby:
        assert standby is not None
        standby.ask("check", str(file))
        who = waiting(file)
    for process in who.values():
        eventually(lambda pid=process.pid: start_ticks(pid) is None, "gone")  # type: ignore[misc]
    assert not store.root.exists()


def test_a_command_that_is_killed_during_the_check_leaves_nothing_behind(tmp_path: Path) -> None:
    child, pid_file = os.fork(), tmp_path / "pid"
    if not child:
        Standby(0).ask("waits", str(pid_file))
    try:
        eventually(lambda: pid_file.exists() and pid_file.read_text(), "the check begins")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    checking = int(pid_file.read_text())
    eventually(lambda: start_ticks(checking) is None, "the check ends")


def test_an_engine_without_the_option_checks_in_a_process_of_its_own(
    store: RunStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = os.environ["KDTUI_ENGINE"]
    program = f"import os, sys; words = sys.argv[1:]; sys.exit(2) if {OPTION!r} in words else os.execv(words[0], words)"
    monkeypatch.setenv("KDTUI_ENGINE", shlex.join([sys.executable, "-c", program, *shlex.split(fake)]))
    with prepared([PROFILE], store) as standby:
        assert standby is not None
        assert standby.ask("check", str(file))["checks"]
        assert not waiting(file)
        run = start(store, PROFILE, origin="a test", standby=standby)
    finish(store, run)


def test_an_error_of_the_engine_is_that_of_every_check(tmp_path: Path) -> None:
    with Standby(0) as standby, pytest.raises(EngineError) as caught:
        standby.ask("say", "no JSON", "a line of stderr", "3")
    assert "ended with code 3" in str(caught.value)
    assert "a line of stderr" in str(caught.value)


def test_a_run_that_has_to_wait_for_its_slot_keeps_no_engine(
    store: RunStore, launcher: LocalLauncher, file: Path
) -> None:
    other = make(store, FOREVER)
    launcher.launch(other)
    trains(store, other)
    with prepared([PROFILE], store) as standby:
        assert standby is not None
        standby.ask("check", str(file))
        who = waiting(file)
        run = start(store, PROFILE, origin="a test", standby=standby)
    eventually(lambda: start_ticks(who["engine"].pid) is None, "the engine ends")
    reaches(store, run, State.QUEUED)
    other.request_stop()
    finish(store, run)
    assert record_of(run).ranks[0]["pid"] != who["engine"].pid


@pytest.mark.parametrize(
    "changes",
    [{"devices": 2, "batch_size": 2}, {"accelerator": "gpu"}, {"teacher": "run:other"}],
    ids=lambda changes: ", ".join(changes),
)
def test_only_a_run_of_one_cpu_process_that_waits_for_no_other_is_prepared(
    store: RunStore, changes: dict[str, Any]
) -> None:
    teacher = changes.pop("teacher", None)
    profile = PROFILE.model_copy(update={"training": Training(**{"accelerator": "cpu"} | changes)})
    if teacher is not None:
        table = profile.teacher.model_copy(update={"checkpoint": teacher})
        enabled = profile.distillation.model_copy(update={"enabled": True})
        profile = profile.model_copy(update={"teacher": table, "distillation": enabled})
    with prepared([profile], store) as standby:
        assert standby is None
    with prepared([PROFILE, PROFILE], store) as standby:
        assert standby is None
