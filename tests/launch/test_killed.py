"""Kill -9 of a rank, the supervisor and the launching program in every order: the state stays true."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtui.events import Exited, Measured, Started
from kdtui.launch.alive import is_running
from kdtui.launch.local import LocalLauncher
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import (
    FOREVER,
    events,
    everyone,
    is_locked,
    kill,
    make,
    reaches,
    record_of,
    slot_is_held,
    trains,
)
from tests.waiting import eventually

PROGRAM = """
import sys, time
from kdtui.launch.alive import probe
from kdtui.launch.local import LocalLauncher
from kdtui.store.store import RunStore
store = RunStore(sys.argv[1], alive=probe)
LocalLauncher(store).launch(store.find("latest"))
print("launched", flush=True)
time.sleep(600)
"""


@pytest.fixture
def program(store: RunStore) -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that launched a run and stay, as a CLI that watches does."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def launch_by_program(store: RunStore, programs: list[subprocess.Popen[str]]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(store.root)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    programs.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "launched\n"


def no_event_is_lost(run: Run) -> None:
    """Every step that was saved was measured, in order, once."""
    steps = [event.step for event in events(run) if isinstance(event, Measured)]
    assert steps == list(range(1, len(steps) + 1))
    assert run.events_path.read_bytes().count(b"\n") == len(events(run))


ONE = list(itertools.permutations(["program", "supervisor", "rank 0"]))
TWO = list(itertools.permutations(["program", "supervisor", "rank 0", "rank 1"]))


def is_sample(order: tuple[str, ...]) -> bool:
    """Whether an order is one of eight in which each process is twice the first and the last, and dies before each
    other in half of them: turns of one order, and of its reverse."""
    first = TWO[0]
    return any(order in (first[turn:] + first[:turn], (first[turn:] + first[:turn])[::-1]) for turn in range(4))


@pytest.mark.parametrize(
    ("devices", "order"),
    [(1, order) for order in ONE]
    + [pytest.param(2, order, marks=[] if is_sample(order) else pytest.mark.slow) for order in TWO],
    ids=lambda value: str(value) if isinstance(value, int) else ", ".join(value),
)
def test_the_state_is_true_after_each_kill(
    store: RunStore,
    launcher: LocalLauncher,
    program: list[subprocess.Popen[str]],
    devices: int,
    order: tuple[str, ...],
) -> None:
    run = make(store, FOREVER, devices=devices)
    launch_by_program(store, program)
    record = trains(store, run)
    who = everyone(record)
    told_failed = False
    for victim in order:
        supervised = is_running(who["supervisor"])
        if victim == "program":
            program[0].kill()
            program[0].wait()
        else:
            kill(who[victim])
        # The first rank that dies is told: the supervisor, which may live a moment longer, ends the others itself.
        if victim.startswith("rank") and supervised and not told_failed:
            told_failed = True
            row = reaches(store, run, State.FAILED)
            assert f"{victim} killed by SIGKILL" in row.detail
            assert not any(map(is_running, record.ranks))
            eventually(lambda: not slot_is_held(store), "slot free")
        row = store.summary(run)  # the very next look
        living = [name for name, process in who.items() if is_running(process)]
        if told_failed:
            assert row.state is State.FAILED
        elif living:
            assert row.state is State.RUNNING
            assert slot_is_held(store)
        else:
            assert row.state is State.LOST
            assert "exited without reporting" in row.detail
    assert not slot_is_held(store)
    assert not is_locked(run.beat_path)
    no_event_is_lost(run)
    if devices == 1 or order[0] == "supervisor":
        (run.path / "script.json").write_text('{"*": [{"steps": 1}]}')
        before = store.summary(run).step or 0
        assert launcher.launch(run).attempt == 2
        end = reaches(store, run, State.FINISHED).step
        resumed = [event.resumed_step for event in events(run) if isinstance(event, Started)][-1]
        assert resumed in (before, before - 1)  # the kill may have come between a measurement and its checkpoint
        assert end == resumed + 1


def test_ranks_without_supervisor_finish_by_themselves(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, {"*": [{"steps": 2}, {"wait_for": "go"}, {"steps": 2}]}, devices=2)
    launcher.launch(run)
    record = trains(store, run, 2)
    kill(record.identity)
    row = store.summary(run)
    assert row.state is State.RUNNING
    assert slot_is_held(store)
    (run.path / "go").touch()
    row = reaches(store, run, State.FINISHED)
    assert row.step == 4
    eventually(lambda: not any(map(is_running, record.ranks)))
    assert not slot_is_held(store)
    assert not any(isinstance(event, Exited) for event in events(run))


def test_ranks_without_supervisor_still_obey_a_stop(store: RunStore, launcher: LocalLauncher) -> None:
    run = make(store, FOREVER)
    launcher.launch(run)
    kill(trains(store, run).identity)
    launcher.stop(run)
    reaches(store, run, State.STOPPED)


def test_a_supervisor_killed_before_training_began_leaves_a_known_rank(
    store: RunStore, launcher: LocalLauncher
) -> None:
    """The record names the ranks before any of them can speak for itself."""
    run = make(store, {"*": [{"no_start": True}, {"wait_for": "go"}]})
    launcher.launch(run)
    eventually(lambda: record_of(run).ranks, "rank recorded")
    record = record_of(run)
    kill(record.identity)
    row = store.summary(run)
    assert (row.state, row.detail) == (State.QUEUED, "starting")
    assert slot_is_held(store)
    launcher.stop(run, kill=True)
    assert store.summary(run).state is State.STOPPED
    assert not slot_is_held(store)


def test_a_waiting_supervisor_that_is_killed_leaves_the_line(store: RunStore, launcher: LocalLauncher) -> None:
    first, second, third = (make(store, FOREVER, name=name) for name in ("a", "b", "c"))
    for run in (first, second, third):
        launcher.launch(run)
    trains(store, first)
    kill(record_of(second).identity)
    assert store.summary(second).state is State.LOST
    launcher.stop(first)
    trains(store, third)
    assert store.summary(second).state is State.LOST


def test_a_reused_pid_is_not_the_run(store: RunStore, launcher: LocalLauncher) -> None:
    """Our own pid in the record, with another start time: alive, but not that process."""
    import dataclasses
    import os

    run = make(store, FOREVER)
    launcher.launch(run)
    record = trains(store, run)
    for process in everyone(record).values():
        kill(process)
    eventually(lambda: store.summary(run).state in (State.FAILED, State.LOST))
    run.events_path.write_bytes(run.events_path.read_bytes().split(b"\n")[0] + b"\n")
    run.write_launch_record(dataclasses.replace(record, pid=os.getpid(), ranks=()))
    assert store.summary(run).state is State.LOST
