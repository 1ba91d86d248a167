from __future__ import annotations

import json
import os
import shutil
import time
from typing import Any

import pytest

from kdtui.events import Exited, Failed, Finished, Stopped
from kdtui.profile import Profile
from kdtui.store.run import Run
from kdtui.store.state import Liveness, State
from kdtui.store.store import RunStore
from tests.store.conftest import Processes, queued, record, started, trained, training, write


def fill(store: RunStore) -> list[Run]:
    runs = [store.create(Profile(name=f"r{n}")) for n in range(4)]
    for run in runs[:3]:
        run.write_launch_record(record())
    write(runs[0], [*training(20), Finished(20, 2), Exited(1, 0)])
    write(runs[1], [queued(), started(), trained(3)])
    write(runs[2], [queued(), Failed("E", "m")])
    for run in runs:
        for path in run.path.iterdir():
            os.utime(path, (time.time() - 3600, time.time() - 3600))
    return runs


def test_warm_is_cold_and_cached_runs_are_not_read(store: RunStore) -> None:
    fill(store)
    cold = RunStore(store.root, alive=Processes()).summaries()
    cache = store.root / ".cache" / "summaries.json"
    assert len(json.loads(cache.read_bytes())["runs"]) == 4
    assert RunStore(store.root, alive=Processes()).summaries() == cold
    body = json.loads(cache.read_bytes())
    for entry in body["runs"].values():
        entry["digest"]["shown"]["name"] = "from the cache"
    cache.write_text(json.dumps(body))
    assert {row.name for row in RunStore(store.root, alive=Processes()).summaries()} == {"from the cache"}


def test_liveness_is_never_cached_and_finished_runs_are_not_probed(store: RunStore) -> None:
    fill(store)
    states = []
    for answer in (Liveness.ALIVE, Liveness.DEAD):
        processes = Processes(answer)
        rows = RunStore(store.root, alive=processes).summaries()
        states.append([row.state for row in rows])
        assert {tuple(pids) for _, pids in processes.asked} == {(4711, 4712)}
    assert states[0] == [State.FINISHED, State.RUNNING, State.FAILED, State.NEVER_LAUNCHED]
    assert states[1] == [State.FINISHED, State.LOST, State.FAILED, State.NEVER_LAUNCHED]


@pytest.mark.parametrize("change", ["events", "notes", "launch"])
def test_a_changed_file_is_read_again(store: RunStore, change: str) -> None:
    run = fill(store)[1]
    listing = RunStore(store.root, alive=Processes())
    before = listing.summary(run)
    if change == "events":
        write(run, [Stopped(3, 1)])
    elif change == "notes":
        run.notes_path.write_text('notes = "good"\ntags = ["x"]\n')
    else:
        run.write_launch_record(record(2))
    for again in (listing, RunStore(store.root, alive=Processes())):
        after = again.summary(run)
        assert after != before
        assert {
            "events": after.state is State.STOPPED,
            "notes": after.notes == "good",
            "launch": after.attempt == 2,
        }[change]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"version":1,"runs":[]}', b'{"version":0,"runs":{}}'])
def test_a_damaged_cache_is_no_cache(store: RunStore, body: bytes) -> None:
    fill(store)
    cold = RunStore(store.root, alive=Processes()).summaries()
    (store.root / ".cache" / "summaries.json").write_bytes(body)
    assert RunStore(store.root, alive=Processes()).summaries() == cold


def test_damaged_entries_are_read_from_the_runs(store: RunStore) -> None:
    fill(store)
    cold = RunStore(store.root, alive=Processes()).summaries()
    cache = store.root / ".cache" / "summaries.json"
    body = json.loads(cache.read_bytes())
    whole = next(iter(body["runs"].values()))["digest"]
    values: list[Any] = [{}, {**whole, "record": {"attempt": 1}}, {**whole, "record": []}, None]
    for entry, value in zip(body["runs"].values(), values, strict=True):
        entry["digest"] = value
    cache.write_text(json.dumps(body))
    assert RunStore(store.root, alive=Processes()).summaries() == cold


def test_a_removed_run_leaves_the_cache_and_a_store_without_one_lists(store: RunStore) -> None:
    runs = fill(store)
    RunStore(store.root, alive=Processes()).summaries()
    shutil.rmtree(runs[0].path)
    rows = RunStore(store.root, alive=Processes()).summaries()
    assert [row.name for row in rows] == ["r1", "r2", "r3"]
    assert runs[0].id not in json.loads((store.root / ".cache" / "summaries.json").read_bytes())["runs"]
    shutil.rmtree(store.root / ".cache")
    (store.root / ".cache").write_text("in the way")
    assert RunStore(store.root, alive=Processes()).summaries() == rows
