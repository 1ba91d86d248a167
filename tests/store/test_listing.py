from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kdtui.errors import StoreError
from kdtui.events import Finished
from kdtui.profile import Profile
from kdtui.store.run import Notes, Run
from kdtui.store.state import Liveness, State
from kdtui.store.store import RunListing, RunStore
from tests.store.conftest import Processes, queued, record, started, trained, write


@pytest.fixture
def processes() -> Processes:
    return Processes(Liveness.ALIVE)


@pytest.fixture
def store(tmp_path: Path, processes: Processes) -> RunStore:
    return RunStore(tmp_path / "runs", alive=processes)


def made(store: RunStore, count: int) -> list[str]:
    return [store.create(Profile(name=f"r{n:03}")).id for n in range(count)]


def test_newest_runs_come_first_and_all_come(store: RunStore) -> None:
    ids = made(store, 10)
    listing = RunListing(store, first=3, piece=4)
    updates = [listing.update()]
    assert set(updates[0].changed) == set(sorted(ids)[-3:])
    assert (updates[0].whole, updates[0].total) == (False, 10)
    while not updates[-1].whole:
        updates.append(listing.update())
    assert len(updates) == 3
    assert {run_id for update in updates for run_id in update.changed} == set(ids)
    assert listing.update().changed == {}


def test_a_finished_scan_equals_summaries(store: RunStore) -> None:
    made(store, 5)
    assert list(RunListing(store).update().changed.values()) != []
    rows = RunListing(store).update().changed
    assert sorted(rows.values(), key=lambda row: row.id) == sorted(store.summaries(), key=lambda row: row.id)


def test_live_runs_are_seen_at_every_look(store: RunStore, processes: Processes) -> None:
    made(store, 3)
    live = store.create(Profile(name="live"))
    live.write_launch_record(record())
    write(live, [queued(), started(), trained(1)])
    listing = RunListing(store, piece=0)
    assert listing.update().changed[live.id].state is State.RUNNING
    write(live, [trained(2)])
    assert {run_id: row.step for run_id, row in listing.update().changed.items()} == {live.id: 2}
    processes.answer = Liveness.DEAD  # kill -9: no file changes
    assert {run_id: row.state for run_id, row in listing.update().changed.items()} == {live.id: State.LOST}


def test_what_others_do_to_an_old_run_is_seen_in_its_turn(store: RunStore) -> None:
    ids = made(store, 4)
    listing = RunListing(store, piece=1)
    listing.update()
    store.find(ids[0]).write_notes(Notes(("seen",)))
    updates = [listing.update() for _ in range(8)]
    tags = [row.tags for update in updates for run_id, row in update.changed.items() if run_id == ids[0]]
    assert ("seen",) in tags


def test_new_runs_appear_and_removed_ones_go(store: RunStore) -> None:
    ids = made(store, 2)
    listing = RunListing(store)
    listing.update()
    new = store.create(Profile(name="new")).id
    shutil.rmtree(store.root / ids[0])
    update = listing.update()
    assert set(update.changed) == {new}
    assert update.gone == {ids[0]}
    assert (update.whole, update.total) == (True, 2)


class MovedAway(RunStore):
    """Its folder is moved away after a listing has looked at it and before it reads it."""

    moving = True

    def runs(self) -> list[Run]:
        if self.moving:
            self.root.rename(self.root.with_name("aside"))
        return super().runs()


def test_a_store_that_is_moved_away_during_a_listing_is_complete_once_it_is_back(store: RunStore) -> None:
    (run_id,) = made(store, 1)
    os.utime(store.root, (1.0, 1.0))  # long unchanged: a second listing reads it only if its time differs
    listing = RunListing(moved := MovedAway(store.root))
    assert listing.update().total == 0
    moved.moving = False
    store.root.with_name("aside").rename(store.root)
    assert list(listing.update().changed) == [run_id]


def test_waiting_runs_know_their_place_and_move_up(store: RunStore) -> None:
    runs = [store.create(Profile(name=f"q{n}")) for n in range(3)]
    for place, run in enumerate(runs):
        run.write_launch_record(record(created=1000.0 + place))
        write(run, [queued()])
    listing = RunListing(store)
    assert {run_id: row.place for run_id, row in listing.update().changed.items()} == {
        run.id: place for place, run in enumerate(runs, start=1)
    }
    write(runs[0], [started(), trained(1), Finished(1, 1)])
    places = {run_id: row.place for run_id, row in listing.update().changed.items()}
    assert places == {runs[0].id: None, runs[1].id: 1, runs[2].id: 2}


def test_a_store_that_is_not_there_yet_is_empty_and_a_file_is_reported(tmp_path: Path) -> None:
    listing = RunListing(RunStore(tmp_path / "later"))
    assert (listing.update().whole, listing.update().total) == (True, 0)
    RunStore(tmp_path / "later").create(Profile(name="first"))
    assert len(listing.update().changed) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        RunListing(RunStore(tmp_path / "file")).update()


def test_a_folder_without_anything_readable_is_a_row(store: RunStore) -> None:
    (store.root / "20260101-000000-broken").mkdir(parents=True)
    (row,) = RunListing(store).update().changed.values()
    assert "cannot be read" in row.detail


@pytest.mark.parametrize("name", ["run.json", "launch.json"])
def test_a_file_of_brackets_damages_its_own_run_alone(store: RunStore, name: str) -> None:
    ids = made(store, 2)
    (store.root / ids[0] / name).write_text("[" * 100_000)
    rows = RunListing(store).update().changed
    assert f"{name} is damaged" in rows[ids[0]].detail
    assert rows[ids[1]].detail == ""


def test_events_that_are_none_are_reported(store: RunStore) -> None:
    run = store.create(Profile(name="garbage"))
    run.write_launch_record(record())
    run.events_path.write_bytes(b"\x00\x01 nothing\n" * 10)
    assert "no readable event" in RunListing(store).update().changed[run.id].detail
