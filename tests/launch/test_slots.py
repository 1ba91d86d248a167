from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from kdtui.errors import UsageError
from kdtui.events import Started
from kdtui.launch.local import LocalLauncher
from kdtui.launch.slots import Capacity, Ticket, capacity, slot_folder
from kdtui.launch.supervise import LOOK
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import (
    events,
    eventually,
    gone,
    is_locked,
    kill,
    kinds,
    make,
    reaches,
    record_of,
    slot_is_held,
    trains,
)


class TestCapacity:
    @pytest.mark.parametrize(
        ("slots", "visible", "found"),
        [
            ("", "", Capacity(("0",), ())),
            ("cpu:2", "", Capacity(("0", "1"), ())),
            ("cpu:2,gpu:1", "3,4", Capacity(("0", "1"), ("3",))),
            (" gpu:9 ", "3,4", Capacity(("0",), ("3", "4"))),
            ("gpu:0", "3,4", Capacity(("0",), ())),
            ("", "3, 4", Capacity(("0",), ("3", "4"))),
            ("", "-1", Capacity(("0",), ())),
            ("", "2,-1,3", Capacity(("0",), ("2",))),
            ("", "GPU-8932f937-d72c", Capacity(("0",), ("GPU-8932f937-d72c",))),
        ],
    )
    def test_what_is_offered(self, monkeypatch: pytest.MonkeyPatch, slots: str, visible: str, found: Capacity) -> None:
        monkeypatch.setenv("KDTUI_SLOTS", slots)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert capacity() == found

    @pytest.mark.parametrize(
        "slots", ["2", "cpu", "cpu:", "cpu:x", "cpu:-1", "cpu:0", "tpu:1", "cpu:2;gpu:1", "cpu:1.5"]
    )
    def test_what_cannot_be_read_is_told(self, monkeypatch: pytest.MonkeyPatch, slots: str) -> None:
        monkeypatch.setenv("KDTUI_SLOTS", slots)
        with pytest.raises(UsageError, match="KDTUI_SLOTS"):
            capacity()

    @pytest.mark.parametrize(
        ("script", "found"),
        [
            (
                "echo 'GPU 0: H200 (UUID: GPU-1)'; echo 'GPU 1: H200 (UUID: GPU-2)'; echo '  MIG 1g (UUID: MIG-3)'",
                ("0", "1"),
            ),
            ("echo 'No devices were found'", ()),
            ("echo failed; exit 9", ()),
        ],
    )
    def test_gpus_are_counted_without_torch(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, found: tuple[str, ...]
    ) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("KDTUI_SLOTS", "")
        assert capacity().gpu == found

    def test_without_anything_to_count_them_the_users_word_does(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("KDTUI_SLOTS", "")
        assert capacity().gpu == ()
        monkeypatch.setenv("KDTUI_SLOTS", "gpu:2")
        assert capacity().gpu == ("0", "1")


class TestTicket:
    def test_the_older_goes_first_and_others_wait(self, tmp_path: Path) -> None:
        young = Ticket(tmp_path, "cpu", 2.0, "young")
        old = Ticket(tmp_path, "cpu", 1.0, "old")
        other = Ticket(tmp_path, "gpu", 3.0, "other")
        assert young.look(("0",), 1) is None
        elsewhere = other.look(("0",), 1)
        assert elsewhere is not None
        slots = old.look(("0",), 1)
        assert slots is not None
        old.leave()
        assert young.look(("0",), 1) is None
        slots.release()
        again = young.look(("0",), 1)
        assert again is not None
        for taken in (again, elsewhere):
            taken.release()
        for ticket in (young, other):
            ticket.leave()
        assert list((tmp_path / "waiting").iterdir()) == []

    def test_several_slots_are_taken_in_one_look_or_not_at_all(self, tmp_path: Path) -> None:
        one = Ticket(tmp_path, "gpu", 1.0, "one")
        taken = one.look(("0", "1", "2"), 1)
        one.leave()
        assert taken is not None
        three = Ticket(tmp_path, "gpu", 2.0, "three")
        assert three.look(("0", "1", "2"), 3) is None
        assert [is_locked(tmp_path / f"gpu-{n}") for n in range(3)] == [True, False, False]
        taken.release()
        all_three = three.look(("0", "1", "2"), 3)
        assert all_three is not None
        assert all_three.names == ("0", "1", "2")
        all_three.release()
        three.leave()

    def test_nobody_looks_while_another_does(self, tmp_path: Path) -> None:
        import fcntl

        ticket = Ticket(tmp_path, "cpu", 1.0, "r")
        with (tmp_path / "queue").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert ticket.look(("0",), 1) is None
        slots = ticket.look(("0",), 1)
        assert slots is not None
        slots.release()
        ticket.leave()

    def test_a_dead_waiters_ticket_is_thrown_away(self, tmp_path: Path) -> None:
        (tmp_path / "waiting").mkdir()
        dead = tmp_path / "waiting" / f"{0.5:020.6f}-cpu-dead"
        dead.touch()
        ticket = Ticket(tmp_path, "cpu", 1.0, "r")
        slots = ticket.look(("0",), 1)
        assert slots is not None
        assert not dead.exists()
        slots.release()
        ticket.leave()

    def test_a_hosts_name_is_no_way_out(self, tmp_path: Path) -> None:
        assert slot_folder(tmp_path, "../../x y").parent == tmp_path / ".slots"
        assert slot_folder(tmp_path, "host-1.net").name == "host-1.net"


def test_six_runs_on_two_slots_start_in_order_with_one_killed_while_it_waits(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    runs = [make(store, {"*": [{"wait_for": "go"}, {"steps": 1}]}, name=f"r{n}") for n in range(6)]
    for run in runs:
        launcher.launch(run)

    def started() -> list[int]:
        """Runs that started, in order of their `started`."""
        times = [(e.time, n) for n, run in enumerate(runs) for e in events(run) if isinstance(e, Started)]
        return [n for _, n in sorted(times)]

    eventually(lambda: len(started()) == 2, "two started")
    details = [row.detail for row in store.summaries()[2:]]
    assert details == [f"waits for a cpu slot, number {n} in line" for n in range(1, 5)]
    kill(record_of(runs[3]).identity)
    assert [row.state for row in store.summaries()] == [
        *[State.RUNNING] * 2,
        State.QUEUED,
        State.LOST,
        *[State.QUEUED] * 2,
    ]
    order = [0, 1]
    for nth, expected in enumerate((2, 4, 5)):
        (runs[order[nth]].path / "go").touch()
        order.append(expected)
        eventually(lambda: sorted(started()) == sorted(order), f"{order} started")
        running = [n for n, run in enumerate(runs) if store.summary(run).state is State.RUNNING]
        assert len(running) <= 2
    assert started() == [*sorted(order[:2], key=started().index), 2, 4, 5]
    for run in runs:
        (run.path / "go").touch()
    for n, run in enumerate(runs):
        reaches(store, run, State.LOST if n == 3 else State.FINISHED)
        gone(record_of(run))
    assert kinds(runs[3]) == ["queued"]
    assert not slot_is_held(store, "cpu-0")
    assert not slot_is_held(store, "cpu-1")


@pytest.mark.parametrize("how", ["launcher", "SIGTERM"])
def test_a_stop_while_waiting_ends_the_run_without_an_engine(
    store: RunStore, launcher: LocalLauncher, how: str
) -> None:
    first, second, third = (make(store, {"*": [{"wait_for": "go"}]}, name=name) for name in ("a", "b", "c"))
    for run in (first, second, third):
        launcher.launch(run)
    reaches(store, first, State.RUNNING)
    if how == "launcher":
        launcher.stop(second)
    else:
        os.kill(record_of(second).pid, signal.SIGTERM)
    row = reaches(store, second, State.STOPPED)
    assert row.detail == "stopped while waiting"
    gone(record_of(second))
    assert kinds(second) == ["queued", "stopped", "exited"]
    assert record_of(second).ranks == ()
    assert store.summary(first).state is State.RUNNING
    (first.path / "go").touch()
    reaches(store, third, State.RUNNING)


def test_a_run_of_many_cpu_ranks_takes_one_slot(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    runs = [make(store, {"*": [{"steps": 1}, {"wait_for": "go"}]}, name=f"r{n}", devices=2) for n in range(2)]
    for run in runs:
        launcher.launch(run)
    for run in runs:
        trains(store, run)
    assert slot_is_held(store, "cpu-0")
    assert slot_is_held(store, "cpu-1")


def test_a_waiting_run_never_passes_an_older_one_that_wants_more(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdtui.profile import Profile, Training

    monkeypatch.setenv("KDTUI_SLOTS", "gpu:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    runs = []
    for name, devices in (("one", 1), ("two", 2), ("small", 1)):
        run = store.create(Profile(name=name, training=Training(devices=devices, accelerator="gpu")))
        (run.path / "script.json").write_text('{"*": [{"wait_for": "go"}]}')
        launcher.launch(run)
        runs.append(run)
    one, two, small = runs
    reaches(store, one, State.RUNNING)
    assert not slot_is_held(store, "gpu-1")  # free, and kept for the older run that needs two
    (one.path / "go").touch()
    reaches(store, two, State.RUNNING)
    assert store.summary(small).state is State.QUEUED
    (two.path / "go").touch()
    reaches(store, small, State.RUNNING)


def test_nobody_passes_an_older_run_that_is_held_up(store: RunStore, launcher: LocalLauncher) -> None:
    first, old, young = (make(store, {"*": [{"wait_for": "go"}]}, name=name) for name in ("first", "old", "young"))
    for run in (first, old, young):
        launcher.launch(run)
    reaches(store, first, State.RUNNING)
    os.kill(record_of(old).pid, signal.SIGSTOP)
    (first.path / "go").touch()
    gone(record_of(first))
    time.sleep(5 * LOOK)  # several looks of the younger at a free slot
    assert not slot_is_held(store)
    assert [store.summary(run).state for run in (old, young)] == [State.QUEUED, State.QUEUED]
    os.kill(record_of(old).pid, signal.SIGCONT)
    reaches(store, old, State.RUNNING)
    assert store.summary(young).state is State.QUEUED
