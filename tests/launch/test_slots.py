from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdtui.errors import UsageError
from kdtui.events import Started
from kdtui.launch.gpus import chosen_gpus, installed_gpus
from kdtui.launch.local import LocalLauncher
from kdtui.launch.slots import Capacity, Ticket, capacity, slot_folder, visible_gpus
from kdtui.store.identity import hostname
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import (
    events,
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
from tests.waiting import eventually


class TestCapacity:
    @pytest.mark.parametrize(
        ("slots", "visible", "found"),
        [
            ("", "", Capacity(("0",), ())),
            ("cpu:2", "", Capacity(("0", "1"), ())),
            ("cpu:2,gpu:1", "3,4", Capacity(("0", "1"), ("3",))),
            (" gpu:9 ", "3,4", Capacity(("0",), ("3", "4"))),
            ("gpu:0", "3,4", Capacity(("0",), ())),
        ],
    )
    def test_what_is_offered(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slots: str, visible: str, found: Capacity
    ) -> None:
        with_gpus(monkeypatch, tmp_path, 5)
        monkeypatch.setenv("KDTUI_SLOTS", slots)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert capacity() == found

    @pytest.mark.parametrize(
        ("visible", "found"),
        [
            ("3, 4", ("3", "4")),
            ("-1", ()),
            ("2,-1,3", ("2",)),
            ("1,5,2", ("1",)),  # CUDA stops at the first GPU that there is not
            ("1gpu2,+2", ("1", "2")),
            ("1,1", ()),
            ("99999999999", ()),
            ("no such device", ()),
            (",0", ()),
            ("GPU-a0003", ("GPU-a0003",)),
            ("GPU-a0003,GPU-a0001", ("GPU-a0003", "GPU-a0001")),
            ("GPU-b", ()),
            ("GPU-", ()),
            ("GPU-a000", ()),  # the beginning of several
            ("GPU-a0003,1", ("GPU-a0003",)),
            ("MIG-f7", ("MIG-f7",)),
            ("MIG-GPU-a0004/1/0", ("MIG-GPU-a0004/1/0",)),
            ("MIG-GPU-a0009/1/0", ()),
        ],
    )
    def test_cuda_visible_devices_names_gpus_that_the_driver_has(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str, found: tuple[str, ...]
    ) -> None:
        with_gpus(monkeypatch, tmp_path, 5, mig="MIG-f7a1")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert visible_gpus() == found
        with_gpus(monkeypatch, tmp_path, 0)
        assert visible_gpus() == ()

    @pytest.mark.parametrize(
        "slots",
        [
            "cpu:9999999999",
            "gpu:257",
            "cpu:" + "1" * 5000,
            "cpu:٣",
            "2",
            "cpu",
            "cpu:",
            "cpu:x",
            "cpu:-1",
            "cpu:0",
            "tpu:1",
            "cpu:2;gpu:1",
            "cpu:1.5",
        ],
    )
    def test_what_cannot_be_read_is_reported(self, monkeypatch: pytest.MonkeyPatch, slots: str) -> None:
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

    def test_without_nvidia_smi_the_driver_is_queried(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        driver, other = tmp_path / "gpus", tmp_path / "kfd"
        assert installed_gpus(driver, [other]) == ()
        other.touch()
        assert installed_gpus(driver, [other]) is None  # GPUs that cannot be counted: each name is believed
        assert chosen_gpus("0,3", None) == ("0", "3")
        for number in range(2):
            (driver / str(number)).mkdir(parents=True)
            (driver / str(number) / "information").write_text(f"Model: \t H200\nGPU UUID: \t GPU-a{number}\n")
        assert installed_gpus(driver, [other]) == ("GPU-a0", "GPU-a1")


def waiting(root: Path) -> list[Path]:
    """Tickets, in the machine's folder and in the store's."""
    machine = [path for path in Path(os.environ["KDTUI_SLOT_DIR"]).iterdir() if path.name[0].isdigit()]
    return machine + list((slot_folder(root, hostname()) / "waiting").iterdir())


class TestTicket:
    def test_the_older_goes_first_and_others_wait(self, tmp_path: Path) -> None:
        young = Ticket(tmp_path, "cpu", ["0"], 2.0, "young")
        old = Ticket(tmp_path, "cpu", ["0"], 1.0, "old")
        other = Ticket(tmp_path, "gpu", ["0"], 3.0, "other")
        assert young.try_take(1) is None
        elsewhere = other.try_take(1)
        assert elsewhere is not None
        slots = old.try_take(1)
        assert slots is not None
        old.leave()
        assert young.try_take(1) is None
        slots.release()
        again = young.try_take(1)
        assert again is not None
        for taken in (again, elsewhere):
            taken.release()
        for ticket in (young, other):
            ticket.leave()
        assert waiting(tmp_path) == []

    def test_several_slots_are_taken_in_one_look_or_not_at_all(self, tmp_path: Path) -> None:
        names = ["0", "1", "2"]
        one = Ticket(tmp_path, "gpu", names, 1.0, "one")
        taken = one.try_take(1)
        one.leave()
        assert taken is not None
        three = Ticket(tmp_path, "gpu", names, 2.0, "three")
        assert three.try_take(3) is None
        assert [slot_is_held(RunStore(tmp_path), f"gpu-{n}") for n in range(3)] == [True, False, False]
        taken.release()
        all_three = three.try_take(3)
        assert all_three is not None
        assert all_three.names == ("0", "1", "2")
        all_three.release()
        three.leave()

    def test_an_older_ticket_for_other_devices_is_passed(self, tmp_path: Path) -> None:
        holder = Ticket(tmp_path, "gpu", ["0"], 1.0, "holder")
        held = holder.try_take(1)
        holder.leave()
        older, younger = (Ticket(tmp_path, "gpu", [name], float(name) + 2, "r") for name in ("0", "1"))
        assert older.try_take(1) is None
        taken = younger.try_take(1)
        assert taken is not None and held is not None
        for slots in (held, taken):
            slots.release()
        for ticket in (older, younger):
            ticket.leave()

    def test_a_dead_waiters_ticket_is_removed(self, tmp_path: Path) -> None:
        code = (
            "import sys, os; from pathlib import Path; from kdtui.launch.slots import Ticket;"
            "Ticket(Path(sys.argv[1]), 'cpu', ['0'], 0.5, 'dead'); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        assert len(waiting(tmp_path)) == 2
        ticket = Ticket(tmp_path, "cpu", ["0"], 1.0, "r")
        slots = ticket.try_take(1)
        assert slots is not None
        slots.release()
        ticket.leave()
        assert waiting(tmp_path) == []

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
    assert details == [f"waiting for a cpu slot, position {n}" for n in range(1, 5)]
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
        wait_until_exited(record_of(run))
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
    wait_until_exited(record_of(second))
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


def test_a_queued_run_never_overtakes_an_older_one_that_needs_more_slots(
    store: RunStore, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kdtui.profile import Profile, Training

    with_gpus(monkeypatch, tmp_path, 2)
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


def test_a_suspended_waiter_is_passed_over_and_takes_its_place_again(store: RunStore, launcher: LocalLauncher) -> None:
    names = ("first", "old", "young", "last")
    first, old, young, last = runs = [make(store, {"*": [{"wait_for": "go"}]}, name=name) for name in names]
    for run in runs:
        launcher.launch(run)
    reaches(store, first, State.RUNNING)
    os.kill(record_of(old).pid, signal.SIGSTOP)
    eventually(lambda: [row.place for row in store.summaries()] == [None, None, 1, 2], "skipped")
    rows = store.summaries()
    assert rows[1].detail == "suspended, skipped"
    assert rows[2].detail == f"waiting for a cpu slot, position 1; {old.id} is suspended and skipped"
    (first.path / "go").touch()
    reaches(store, young, State.RUNNING)
    assert store.summary(old).state is State.QUEUED
    os.kill(record_of(old).pid, signal.SIGCONT)
    eventually(lambda: store.summary(old).place == 1, "its place")
    (young.path / "go").touch()
    reaches(store, old, State.RUNNING)
    assert store.summary(last).state is State.QUEUED


def test_who_holds_a_device_and_is_suspended_is_named(store: RunStore, launcher: LocalLauncher) -> None:
    first, second = (make(store, {"*": [{"steps": 1}, {"wait_for": "go"}]}, name=name) for name in ("a", "b"))
    for run in (first, second):
        launcher.launch(run)
    trains(store, first)
    os.kill(record_of(first).ranks[0]["pid"], signal.SIGSTOP)
    row = eventually(lambda: (row := store.summary(first)).detail == "suspended" and row, "suspended")
    assert row.state is State.RUNNING
    words = f"waiting for a cpu slot, position 1; held by {first.id}, suspended"
    eventually(lambda: store.summary(second).detail == words, words)


def test_a_suspended_supervisor_does_not_keep_the_slot_of_ranks_that_ended(
    store: RunStore, launcher: LocalLauncher
) -> None:
    first, second = (make(store, {"*": [{"steps": 1}, {"wait_for": "go"}]}, name=name) for name in ("a", "b"))
    for run in (first, second):
        launcher.launch(run)
    trains(store, first)
    os.kill(record_of(first).pid, signal.SIGSTOP)
    (first.path / "go").touch()
    trains(store, second)
