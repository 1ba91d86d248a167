"""A device for one alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import Interrupted, UsageError
from kdtui.launch.slots import Ticket, alone, slot_folder
from kdtui.store.identity import hostname


@pytest.fixture(autouse=True)
def two_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2,gpu:0")


def folder(root: Path) -> Path:
    return slot_folder(root, hostname())


def test_a_slot_is_free_for_others_only_afterwards(tmp_path: Path) -> None:
    told: list[bool] = []
    with alone(tmp_path, "cpu", waiting=lambda reason: told.append(True)) as slots:
        assert len(slots.names) == 2
        other = Ticket(tmp_path, "cpu", ["0", "1"], 1.0, "other")
        assert other.try_take(1) is None
    taken = other.try_take(2)
    assert taken is not None
    taken.release()
    other.leave()
    assert told == []


def test_it_waits_for_running_work_and_can_be_cancelled(tmp_path: Path) -> None:
    running = Ticket(tmp_path, "cpu", ["0", "1"], 1.0, "running")
    held = running.try_take(1)
    running.leave()
    assert held is not None
    looks: list[bool] = []

    def cancelled() -> bool:
        looks.append(True)
        return len(looks) > 2

    told: list[bool] = []
    with (
        pytest.raises(Interrupted),
        alone(tmp_path, "cpu", waiting=lambda reason: told.append(True), cancelled=cancelled),
    ):
        pass
    assert told == [True]
    held.release()
    assert list((folder(tmp_path) / "waiting").iterdir()) == []


def test_the_older_of_two_requests_goes_first(tmp_path: Path) -> None:
    older = Ticket(tmp_path, "cpu", ["0", "1"], 1.0, "older")
    with pytest.raises(Interrupted), alone(tmp_path, "cpu", cancelled=lambda: True):
        pass
    older.leave()


def test_slots_that_another_process_counts_are_taken_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = Ticket(tmp_path, "cpu", ["0", "1"], 1.0, "training")
    held = ticket.try_take(2)
    ticket.leave()
    assert held is not None
    held.release()
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1")
    with alone(tmp_path, "cpu") as slots:
        assert slots.names == ("0", "1")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such device"), alone(tmp_path, "gpu"):
        pass
