"""What killed processes left behind, and what running ones and other hosts write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdtui.profile import Profile
from kdtui.store import aside as aside_files
from kdtui.store.aside import aside, leftovers, mark, remove_leftovers, remove_leftovers_of_store
from kdtui.store.files import write_atomically
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from kdtui.store.store import RunStore

LONG_AGO = time.time() - 2 * 86400

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from kdtui.store.aside import aside
path = Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
aside(path).write_bytes(b"half" * 1000)
os.kill(os.getpid(), signal.SIGKILL)
"""
MAKE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from kdtui.profile import Profile
from kdtui.store.store import RunStore
Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
RunStore(sys.argv[1]).create(Profile(name="abc"))
"""


def killed(code: str, path: Path) -> None:
    """Run code that ends in its own death."""
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "launch.json"
    killed(WRITE_AND_DIE, path)
    assert len(names(tmp_path)) == 1
    write_atomically(tmp_path / "notes.toml", b"tags = []")
    assert names(tmp_path) == {"notes.toml"}


def test_the_next_run_removes_what_was_left_anywhere_in_the_store(store: RunStore, run: Run) -> None:
    killed(MAKE_AND_DIE, store.root)
    for path in (run.launch_path, run.last, run.evaluation("val"), store.root / ".cache" / "teachers" / "a.npy"):
        killed(WRITE_AND_DIE, path)
    left = leftovers(store.root)
    assert len(left) == 5
    assert all(one.ownerless for one in left)
    assert sum(one.bytes for one in left) > 16_000
    made = store.create(Profile(name="next"))
    assert leftovers(store.root) == []
    assert names(made.path) == {
        "profile.toml",
        "run.json",
        "notes.toml",
        *("checkpoints", "logs"),
        *("visualizations", "evaluations"),
    }
    assert {found.id for found in store.runs()} == {run.id, made.id}


def test_what_a_running_process_writes_stays(tmp_path: Path) -> None:
    own = aside(tmp_path / "last.pth")
    own.write_bytes(b"half")
    os.utime(own, (LONG_AGO, LONG_AGO))
    assert aside(tmp_path / "last.pth") != own  # two threads may write the same file
    remove_leftovers(tmp_path)
    assert own.exists()


@pytest.mark.parametrize(
    "owner",
    [
        pytest.param(f"elsewhere-{os.getpid()}-1-00000000", id="another host"),
        pytest.param(f"{hostname()}-{os.getpid()}-1-00000000", id="a container, or before this boot"),
        pytest.param(f"{os.getpid()}", id="an older version"),
    ],
)
def test_an_owner_that_cannot_be_seen_keeps_its_file_until_it_is_untouched_for_a_day(
    tmp_path: Path, owner: str
) -> None:
    left = tmp_path / f".last.pth.{owner}.tmp"
    left.write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert left.exists()
    os.utime(left, (LONG_AGO, LONG_AGO))
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_a_pid_that_another_process_has_now_owns_nothing(tmp_path: Path) -> None:
    ticks = mark().split("-")[-2]
    left = tmp_path / f".launch.json.{mark().replace(f'-{ticks}-', '-1-')}.tmp"
    left.write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_what_was_left_before_this_boot_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / f".launch.json.{hostname()}-{os.getpid()}-1-00000000.tmp"
    left.write_bytes(b"half")
    monkeypatch.setattr(aside_files, "_booted", lambda: time.time() + 60)
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_files_of_others_are_never_removed(store: RunStore, run: Run) -> None:
    others = [
        *(run.path / name for name in (".mine.tmp", ".draft.123.tmp", "a.tmp", ".launch.json.tmp", ".owner")),
        *(store.root / name for name in (".new-ideas", ".gone-fishing", ".x.5.tmp")),
    ]
    for path in others:
        path.write_bytes(b"mine")
        os.utime(path, (LONG_AGO, LONG_AGO))
    remove_leftovers_of_store(store.root)
    assert all(path.exists() for path in others)


def test_half_made_and_half_deleted_runs_of_an_older_version_go_after_a_day(store: RunStore, run: Run) -> None:
    folders = [store.root / f".new-{run.id}-2", store.root / f".gone-{run.id}-4711"]
    for folder in folders:
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.pth").write_bytes(b"x")
    remove_leftovers_of_store(store.root)
    assert all(folder.exists() for folder in folders)
    for folder in folders:
        for path in (folder / "checkpoints" / "last.pth", folder / "checkpoints", folder):
            os.utime(path, (LONG_AGO, LONG_AGO))
    remove_leftovers_of_store(store.root)
    assert not any(folder.exists() for folder in folders)
