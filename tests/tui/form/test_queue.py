"""Whether a launch starts at once or waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdtui.launch.slots import Capacity, Ticket
from kdtui.profile import Profile, amend
from kdtui.store.identity import hostname
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.state import RunSummary, State
from kdtui.tui.form.queue import DeviceUse, machine, place

PROFILE = Profile(name="student")
ONE_CPU = DeviceUse(Capacity(("0",), ()))


def row(tmp_path: Path, name: str, state: State, device: str = "cpu", **facts: Any) -> RunSummary:
    fields: dict[str, Any] = {"host": hostname(), "device": device, **facts}
    return RunSummary(id=name, name=name, path=tmp_path / name, state=state, **fields)


def test_an_idle_machine_starts_as_many_as_it_has_slots(tmp_path: Path) -> None:
    over = [row(tmp_path, "a", State.FINISHED), row(tmp_path, "b", State.LOST)]

    assert place(PROFILE, 1, over, ONE_CPU).words(1) == "starts now"
    assert place(PROFILE, 3, over, ONE_CPU).words(3) == "1 of 3 starts now, the others wait"
    assert place(PROFILE, 3, over, DeviceUse(Capacity(("0", "1", "2"), ()))).words(3) == "starts now"


def test_new_runs_wait_for_live_runs(tmp_path: Path) -> None:
    running = row(tmp_path, "a", State.RUNNING)
    waiting = row(tmp_path, "b", State.QUEUED, waiting_since=1.0)

    assert place(PROFILE, 1, [running], ONE_CPU).words(1) == "waits for the CPU behind 1 run"
    assert place(PROFILE, 1, [running, waiting], ONE_CPU).behind == 2
    # One that waits is never overtaken, whatever is free.
    assert place(PROFILE, 1, [waiting], DeviceUse(Capacity(("0", "1"), ()))).at_once == 0


def test_runs_on_other_hosts_and_devices_are_ignored(tmp_path: Path) -> None:
    others = [row(tmp_path, "a", State.RUNNING, host="elsewhere"), row(tmp_path, "b", State.RUNNING, "gpu")]

    assert place(PROFILE, 1, others, ONE_CPU).words(1) == "starts now"


def test_gpus_are_counted_one_by_one(tmp_path: Path) -> None:
    here = DeviceUse(Capacity(("0",), ("0", "1", "2")))
    two = amend(PROFILE, ["training.devices=2"])
    running = row(tmp_path, "a", State.RUNNING, "gpu")
    run = Run(running.path)
    run.path.mkdir()
    run.write_launch_record(LaunchRecord(1, hostname(), 1, 1, "", None, (), "gpu", 2, None, 0.0))

    assert place(PROFILE, 1, [running], here).at_once == 1
    assert place(two, 1, [running], here).at_once == 0
    assert place(two, 1, [], here).words(1) == "starts now"
    run.launch_path.write_text("damaged")
    assert place(two, 1, [running], here).at_once == 1


def test_missing_devices_are_reported_before_the_launch() -> None:
    gpu = amend(PROFILE, ["training.accelerator=gpu"])
    four = amend(PROFILE, ["training.devices=4"])

    assert "has none" in place(gpu, 1, [], ONE_CPU).trouble
    assert "has 2" in place(four, 1, [], DeviceUse(Capacity(("0",), ("0", "1")))).trouble
    # Ranks on the CPU share one slot.
    assert not place(four, 1, [], ONE_CPU).trouble


def test_new_runs_wait_for_named_runs_of_other_stores(tmp_path: Path) -> None:
    slots = Capacity(("0",), ())
    running = Ticket(tmp_path / "theirs", "cpu", slots.names("cpu"), 1.0, "their-run")
    held = running.try_take(1)
    assert held is not None
    running.leave()
    waits = place(PROFILE, 1, [], machine(slots, tmp_path / "ours"))
    assert waits.words(1) == f"waits for the CPU behind 1 run: their-run in {tmp_path / 'theirs'}"

    waiting = Ticket(tmp_path / "theirs", "cpu", slots.names("cpu"), 2.0, "next", what="measuring next")
    assert place(PROFILE, 1, [], machine(slots, tmp_path / "ours")).behind == 2
    held.release()
    still = place(PROFILE, 1, [], machine(slots, tmp_path / "ours"))
    assert still.words(1) == f"waits for the CPU behind 1 run: measuring next in {tmp_path / 'theirs'}"
    waiting.leave()
    assert place(PROFILE, 1, [], machine(slots, tmp_path / "ours")).words(1) == "starts now"


def test_a_run_of_this_store_that_holds_a_slot_counts_once(tmp_path: Path) -> None:
    slots = Capacity(("0", "1"), ())
    running = Ticket(tmp_path, "cpu", slots.names("cpu"), 1.0, "a")
    held = running.try_take(1)
    assert held is not None
    running.leave()
    own = row(tmp_path, "a", State.RUNNING)
    assert place(PROFILE, 2, [own], machine(slots, tmp_path)).words(2) == "1 of 2 starts now, the others wait"
    held.release()
