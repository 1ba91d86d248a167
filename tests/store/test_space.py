"""Disk usage of runs, and which training states may be removed."""

from __future__ import annotations

import fcntl
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kdtui.errors import StoreError, UsageError
from kdtui.events import Finished, Stopped
from kdtui.profile import load
from kdtui.store.aside import SWEEPS
from kdtui.store.run import Run
from kdtui.store.space import KEEPS, Keep, collect, collectable, seconds, usage
from kdtui.store.state import PRUNED
from kdtui.store.store import RunStore
from tests.store.conftest import queued, started, write

NOW = time.time()


def saved(path: Path, size: int = 1000) -> Path:
    """A file as torch.save makes them: a zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", bytes(size))
    return path


def ended(store: RunStore, name: str, word: Finished | Stopped | None = None, **manifest: Any) -> Run:
    """A run with a best checkpoint, checkpoints of 3 epochs, and ``last.pth``, a hard link to the newest of them."""
    run = store.create(load("baseline").model_copy(update={"name": name}), **manifest)
    run.checkpoints.mkdir(exist_ok=True)
    saved(run.best)
    for epoch in range(1, 4):
        saved(run.epoch_checkpoint(epoch))
    os.link(run.epoch_checkpoint(3), run.last)
    write(run, [queued(), started(), Finished(30, 3, time=NOW - 100) if word is None else word])
    return run


def names(run: Run) -> set[str]:
    return {path.name for path in run.checkpoints.iterdir()}


def test_a_pruned_run_keeps_its_state_until_its_search_has_finished(store: RunStore) -> None:
    """It is trained on if the winner is over the budget."""
    ended(store, "one", Stopped(30, 3, reason=PRUNED, time=NOW - 100), sweep={"id": "a-search-12345678"})
    search = Run(store.root / SWEEPS / "a-search-12345678")
    search.path.mkdir(parents=True)
    write(search, [queued()])
    assert collectable(store) == []
    write(search, [Finished(0, 0)])
    assert len(collectable(store)) == 1


@pytest.mark.parametrize("keep", KEEPS)
def test_the_state_of_a_finished_run_is_removed_and_its_best_checkpoint_stays(store: RunStore, keep: Keep) -> None:
    run = ended(store, "one")
    (run.checkpoints / "best_model.onnx").write_bytes(b"x")
    before = usage(run)
    (one,) = collectable(store, keep=keep)
    freed = collect(store, one)
    kept = {"best_model.pth", "best_model.onnx", *(["last.pth"] if keep == "last" else [])}
    assert names(run) == kept
    assert freed == one.bytes == before.checkpoints - usage(run).checkpoints > 0
    assert usage(run).exports == before.exports == 1
    assert collectable(store, keep=keep) == []


def test_the_newest_state_is_removed_last(store: RunStore) -> None:
    run = ended(store, "one")
    (one,) = collectable(store)
    assert [path.name for path in one.files] == [*(path.name for path in run.epoch_checkpoints()), "last.pth"]


@pytest.mark.parametrize("field", ["teacher", "weights", "resume_from"])
def test_checkpoints_that_other_runs_need_stay(store: RunStore, field: str) -> None:
    teacher = ended(store, "teacher")
    path = "/moved/since/" + str(teacher.epoch_checkpoint(2).relative_to(store.root))
    value = path if field == "resume_from" else {"checkpoint": path, "sha256": "0", "run": teacher.id}
    manifest: dict[str, Any] = {field: value}
    student = ended(store, "student", **manifest)
    (one, _) = sorted(collectable(store), key=lambda each: each.run.id != teacher.id)
    assert one.needed == {"checkpoint_epoch_0002.pth": student.id}
    collect(store, one)
    assert "checkpoint_epoch_0002.pth" in names(teacher)


def test_a_checkpoint_of_an_ensemble_stays(store: RunStore) -> None:
    teacher = ended(store, "teacher")
    entry = {"checkpoint": str(teacher.last), "sha256": "0", "run": teacher.id}
    student = ended(store, "student", teacher={"checkpoint": "a.pth", "ensemble": [entry]})
    assert {one.run.id: dict(one.needed) for one in collectable(store)}[teacher.id] == {"last.pth": student.id}


@pytest.mark.parametrize("word", [Stopped(30, 3, time=NOW), None], ids=["stopped", "running"])
def test_runs_that_may_go_on_keep_their_state(store: RunStore, word: Stopped | None) -> None:
    run = store.create(load("baseline"))
    run.checkpoints.mkdir(exist_ok=True)
    saved(run.best)
    saved(run.last)
    write(run, [queued(), started(), *([word] if word is not None else [])])
    assert collectable(store) == []


def test_a_pruned_run_is_like_a_finished_one(store: RunStore) -> None:
    ended(store, "one", Stopped(30, 3, "pruned", time=NOW))
    assert len(collectable(store)) == 1


def test_without_an_intact_best_checkpoint_nothing_is_removed(store: RunStore) -> None:
    run = ended(store, "one")
    run.best.write_bytes(run.best.read_bytes()[:-30])
    assert collectable(store) == []
    run.best.unlink()
    assert collectable(store) == []


def test_recent_runs_keep_their_state(store: RunStore) -> None:
    ended(store, "one")
    assert collectable(store, older=1000.0) == []
    assert len(collectable(store, older=10.0)) == 1


def test_a_run_resumed_since_then_keeps_its_state(store: RunStore) -> None:
    run = ended(store, "one")
    (one,) = collectable(store)
    before = names(run)
    with run.beat_path.open("w") as beat:
        fcntl.flock(beat, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="queued or running"):
            collect(store, one)
    write(run, [queued(2, NOW), started(2, time=NOW)])
    with pytest.raises(UsageError, match="queued or running"):
        collect(store, one)
    assert names(run) == before


def test_a_damaged_manifest_ends_the_search(store: RunStore) -> None:
    ended(store, "one")
    ended(store, "two").manifest_path.write_text("{")
    with pytest.raises(StoreError, match="unknown which checkpoints it needs"):
        collectable(store)


@pytest.mark.parametrize(("text", "age"), [("30d", 30 * 86400.0), ("12h", 43200.0), ("0.5w", 302400.0), ("0d", 0.0)])
def test_ages(text: str, age: float) -> None:
    assert seconds(text) == age


@pytest.mark.parametrize("text", ["", "d", "30", "30x", "-1d", "nand", "infd"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(UsageError, match="not an age"):
        seconds(text)
