"""Stopping a run, resuming it, and killing it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import pytest

from kdtui.errors import LaunchError, UsageError
from kdtui.events import Started, Stopped
from kdtui.launch.alive import is_running
from kdtui.launch.local import LocalLauncher
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import (
    FOREVER,
    events,
    everyone,
    heeds_sigterm,
    is_locked,
    kill,
    kinds,
    make,
    reaches,
    record_of,
    slot_is_held,
    trains,
    wait_until_exited,
)
from tests.waiting import eventually


@pytest.mark.parametrize("how", ["stop file", "SIGTERM to supervisor", "SIGTERM to rank", "launcher"])
def test_a_stop_is_handled_alike_for_every_requester(store: RunStore, launcher: LocalLauncher, how: str) -> None:
    run = make(store, FOREVER, devices=2)
    launcher.launch(run)
    record = trains(store, run)
    if how == "stop file":
        run.request_stop()
    elif how == "launcher":
        launcher.stop(run)
    else:
        who = record.identity if "supervisor" in how else record.ranks[1]
        eventually(lambda: heeds_sigterm(who), "a handler")
        os.kill(who["pid"], signal.SIGTERM)
    row = reaches(store, run, State.STOPPED)
    wait_until_exited(record)
    assert kinds(run)[-2:] == ["stopped", "exited"]
    assert json.loads(run.last.read_text())["step"] == row.step


def test_resume_continues_and_forgets_the_stop(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    launcher.launch(run)
    record = trains(store, run)
    launcher.stop(run)
    stopped = reaches(store, run, State.STOPPED)
    wait_until_exited(record)
    assert run.stop_requested()
    (run.path / "script.json").write_text(json.dumps({"*": [{"steps": 2}]}))
    assert launcher.launch(run, total_epochs=44).attempt == 2
    row = reaches(store, run, State.FINISHED)
    assert stopped.step is not None
    assert row.step == stopped.step + 2
    assert row.epochs == 44
    wait_until_exited(record_of(run))
    assert launcher.launch(run).total_epochs == 44  # a new horizon stays until another is given
    assert record_of(run).attempt == 3
    starts = [event for event in events(run) if isinstance(event, Started)]
    assert starts[1].resumed_step == stopped.step


def test_a_run_that_is_not_running_cannot_be_stopped(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store)
    for kill_it in (False, True):
        with pytest.raises(UsageError, match="is not running"):
            launcher.stop(run, kill=kill_it)
    assert not run.stop_requested()


@pytest.mark.parametrize("stage", ["waiting", "training", "without supervisor"])
@pytest.mark.parametrize("devices", [1, 2])
def test_stop_kill_ends_everything_and_is_reported(
    store: RunStore, launcher: LocalLauncher, stage: str, devices: int
) -> None:
    first = make(store, FOREVER, name="first")
    run = make(store, {"*": [{"ignore_sigterm": True}, {"child": 600}, *FOREVER["*"]]}, devices=devices)
    if stage == "waiting":
        launcher.launch(first)
        trains(store, first)
    launcher.launch(run)
    if stage == "waiting":
        record = record_of(run)
    else:
        record = trains(store, run, 2)
        if stage == "without supervisor":
            kill(record.identity)
    launcher.stop(run, kill=True)
    row = store.summary(run)
    assert (row.state, row.detail) == (State.STOPPED, "killed")
    assert not any(map(is_running, everyone(record).values()))
    assert not is_locked(run.beat_path)
    assert [event.reason for event in events(run) if isinstance(event, Stopped)] == ["killed"]
    if stage == "waiting":
        assert kinds(run) == ["queued", "stopped"]
        assert store.summary(first).state is State.RUNNING
    else:
        assert not slot_is_held(store)
        assert row.step is not None and row.step >= 2
    (run.path / "script.json").write_text("{}")
    if stage != "waiting":
        launcher.launch(run)
        reaches(store, run, State.FINISHED)


def test_a_kill_in_a_read_only_folder_is_reported_at_once(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    launcher.launch(run)
    record = trains(store, run)
    held = run.beat_path.rename(run.path / "held")
    run.beat_path.mkdir()  # it cannot be opened to be locked, as no file of a read-only disk can
    with pytest.raises(LaunchError, match="were killed, but its folder is not writable") as caught:
        launcher.stop(run, kill=True)
    assert f"kdtui resume {run.id}" in str(caught.value.hint)
    assert not any(map(is_running, everyone(record).values()))
    run.beat_path.rmdir()
    held.rename(run.beat_path)
    assert store.summary(run).state is State.LOST
    (run.path / "script.json").write_text("{}")
    launcher.launch(run)
    reaches(store, run, State.FINISHED)


def test_a_run_of_another_host_is_not_killed_from_here(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    launcher.launch(run)
    record = trains(store, run)
    run.write_launch_record(dataclasses.replace(record, host="far"))
    with pytest.raises(LaunchError, match="only on its own host"):
        launcher.stop(run, kill=True)
    with pytest.raises(LaunchError, match="is already running"):
        launcher.launch(run)
    launcher.stop(run)
    reaches(store, run, State.STOPPED)
    run.write_launch_record(record)


def test_a_run_of_another_user_can_be_stopped_but_not_killed(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(store, FOREVER)
    launcher.launch(run)
    record = trains(store, run)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(LaunchError, match="another user") as caught:
        launcher.stop(run, kill=True)
    assert caught.value.hint == f"`kdtui stop {run.id}` requests that it saves and stops"
    assert all(map(is_running, everyone(record).values()))
    launcher.stop(run)
    monkeypatch.undo()
    reaches(store, run, State.STOPPED)


def test_the_reason_in_the_stop_file_is_that_of_the_event(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    launcher.launch(run)
    trains(store, run)
    run.request_stop("pruned")
    run.request_stop()
    row = reaches(store, run, State.STOPPED)
    assert (row.detail, run.stop_reason()) == ("pruned", "pruned")
