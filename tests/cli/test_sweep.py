"""`kdtui sweep` with real processes and an engine without torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from kdtui.store.run import Run
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore
from kdtui.sweep.folder import listing
from tests.cli.conftest import Kdtui, Trained
from tests.docs import DOCS
from tests.waiting import eventually, finished

SWEEP = ("sweep", "demo-distilled", "--teacher", "big", "--epochs", "1")
GRID = (*SWEEP, "--temperature", "1,2", "--alpha", "0.3,0.7")


@pytest.fixture
def big(trained: Trained) -> Run:
    return trained("big", profile="demo-teacher")


def cells(store: RunStore) -> Counter[str]:
    """How many runs there are of each cell, seed and role."""
    entries = [run.manifest().sweep for run in store.runs()]
    return Counter(
        json.dumps([entry["cell"], entry["seed"], entry["role"]], sort_keys=True) for entry in entries if entry
    )


def test_a_sweep_is_trained_shown_and_not_trained_again(kdtui: Kdtui, store: RunStore, big: Run) -> None:
    done = kdtui(*GRID, "--with-baseline", "--tag", "mine")
    assert done.code == 0, done.err
    (folder,) = listing(store.root)
    assert "5 runs: 5 finished" in done.out and "best: T 1, α 0.3: mIoU 0.5200" in done.out
    assert "Δ +0.0200" in done.out
    assert len(cells(store)) == 5 and set(cells(store).values()) == {1}
    assert {"mine"} <= set(store.summary(store.find("demo-distilled-T1-a0.3")).tags)
    again = kdtui(*GRID, "--with-baseline", "--detach")
    assert again.code == 0 and again.out == "" and "nothing is missing" in again.err
    other = kdtui("sweep", *GRID[1:], "--with-baseline", "--dry-run", "--json").json
    assert other["sweep"] == folder.id and other["states"] == {"finished": 5} and other["runs"] == []
    listed = kdtui("sweep", "list", "--json").json
    assert [(row["id"], row["runs"], row["states"]) for row in listed] == [(folder.id, 5, {"finished": 5})]
    assert folder.id in kdtui("sweep", "list").out
    assert len(kdtui("runs", "--sweep", "latest", "--json").json) == 5
    assert kdtui("runs", "--sweep", folder.id, "--filter", "T=2", "--json").json[0]["sweep"] == folder.id
    for form in ("text", "csv", "json", "markdown"):
        shown = kdtui("sweep", "show", "latest", "--format", form, "--rows", "alpha", "--columns", "T")
        assert shown.code == 0 and ("0.52" in shown.out or "0.519" in shown.out)
    assert kdtui("compare", folder.id).code == 0
    shutil.rmtree(folder.path)
    assert len(kdtui("runs", "--sweep", folder.id, "--json").json) == 5


def test_what_was_removed_failed_or_stopped(kdtui: Kdtui, store: RunStore, big: Run, here: Path) -> None:
    (here / "fails.toml").write_text('extends = "demo-distilled"\n')
    words = ("sweep", "fails", "--teacher", "big", "--epochs", "1", "--temperature", "1,2")
    assert kdtui(*words).code == 4
    assert Counter(row.state for row in store.summaries() if row.sweep) == {State.FAILED: 2}
    kept = kdtui(*words, "--detach")
    assert kept.code == 0 and kept.out == "" and "--retry trains again" in kept.err
    assert kdtui(*words, "--retry").code == 4
    assert [run.launch_record().attempt for run in store.runs() if run.manifest().sweep] == [2, 2]  # type: ignore[union-attr]
    gone = next(run for run in store.runs() if run.manifest().sweep)
    assert kdtui("remove", gone.id, "--yes").code == 0
    again = kdtui(*words, "--detach")
    assert len(again.out.split()) == 1 and set(cells(store).values()) == {1}


def test_a_stopped_sweep_goes_on_when_it_is_resumed(kdtui: Kdtui, store: RunStore, big: Run, here: Path) -> None:
    (here / "slow.toml").write_text('extends = "demo-distilled"\n')
    words = ("sweep", "slow", "--teacher", "big", "--epochs", "30", "--temperature", "1,2,3", "--detach")
    assert kdtui(*words).code == 0
    eventually(lambda: any(row.epoch for row in store.summaries() if row.sweep), "no run trains")
    stopped = kdtui("sweep", "stop", "latest")
    assert stopped.code == 0 and stopped.err.count("stop requested") == 3
    eventually(lambda: not [row for row in store.summaries() if row.state in LIVE], "it does not stop")
    assert kdtui("sweep", "stop", "latest").code == 2
    asked = kdtui(*words)
    assert asked.out == "" and "3 runs stopped; kdtui sweep resume" in asked.err
    for run in store.runs():
        if run.manifest().sweep:
            os.truncate(run.events_path, run.events_path.stat().st_size)
    resumed = kdtui("sweep", "resume", "latest", "--detach")
    assert resumed.code == 0 and len(resumed.out.split()) == 3
    assert kdtui("sweep", "stop", "latest", "--kill").code == 0
    assert set(cells(store).values()) == {1} and len(cells(store)) == 3


def test_everything_killed_midway_is_completed_without_a_run_twice(
    kdtui: Kdtui, store: RunStore, big: Run, here: Path
) -> None:
    (here / "held.toml").write_text('extends = "demo-distilled"\n')
    words = ("sweep", "held", "--teacher", "big", "--epochs", "1", "--temperature", "1,2,4", "--alpha", "0.3,0.5,0.7")
    assert kdtui(*words, "--detach").code == 0
    eventually(lambda: sum(row.state is State.RUNNING for row in store.summaries()) == 2, "2 slots")
    running = [row for row in store.summaries() if row.state is State.RUNNING]
    (Path(running[0].path) / "go").touch()
    eventually(lambda: any(row.state is State.FINISHED and row.sweep for row in store.summaries()), "none finishes")
    for run in store.runs():  # supervisors and ranks
        record = run.launch_record()
        for one in (record.identity, *record.ranks) if record is not None and run.manifest().sweep else ():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(one["pid"]), signal.SIGKILL)
    eventually(lambda: not [row for row in store.summaries() if row.state in LIVE], "they live")
    attempts = {run.id: run for run in store.runs()}
    lost = [row for row in store.summaries() if row.state is State.LOST]
    assert lost
    for run in store.runs():
        (run.path / "go").touch()
    done = kdtui(*words)
    assert done.code == 0, done.err
    assert "9 runs: 9 finished" in done.out
    assert set(cells(store).values()) == {1} and len(cells(store)) == 9
    assert attempts.keys() == {run.id for run in store.runs()}


def test_a_creator_killed_between_two_runs_leaves_none_twice(
    kdtui: Kdtui, store: RunStore, big: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that were made and never launched are launched, and those that were not made are made."""
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    program = (
        "from kdtui.launch import groups\n"
        "class Killed:\n"
        f"    def launch(self, run):\n        {kill}\n"
        "groups.launcher_for = lambda profile, store: Killed()\n"
        "from kdtui.cli.app import main\nmain()\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, *GRID, "--detach"], stdout=subprocess.DEVNULL)
    finished(killed)
    assert killed.returncode == -signal.SIGKILL
    assert len(cells(store)) == 4
    assert {row.state for row in store.summaries() if row.sweep} == {State.NEVER_LAUNCHED}
    done = kdtui(*GRID)
    assert done.code == 0 and "4 launched again" in done.err
    assert set(cells(store).values()) == {1} and len(cells(store)) == 4


def test_two_processes_that_ask_at_once_make_one_set_of_runs(store: RunStore, big: Run) -> None:
    program = "from kdtui.cli.app import main; main()"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, *GRID, "--detach"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [finished(one) for one in both]
    assert [one.returncode for one in both] == [0, 0], printed
    assert set(cells(store).values()) == {1} and len(cells(store)) == 4
    assert len(" ".join(out for out, _ in printed).split()) == 4
    eventually(lambda: not [row for row in store.summaries() if row.state in LIVE], "they train")


def test_many_runs_need_a_confirmation(kdtui: Kdtui, store: RunStore, big: Run) -> None:
    many = (*SWEEP, "--temperature", ",".join(map(str, range(1, 66))))
    refused = kdtui(*many)
    assert refused.code == 2 and "--yes" in refused.err and not cells(store)
    declined = kdtui(*many, typed="n\n")
    assert declined.code == 130 and not cells(store)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("demo-distilled",), "needs a key with several values"),
        (("demo-distilled", "--temperature", "1,,2"), "empty value"),
        (("demo-distilled", "--temperature", ""), "empty value"),
        (("demo-distilled", "--temperature", "1,1"), "listed twice"),
        (("demo-distilled", "--set", "name=a,b"), "takes one value"),
        (("demo-distilled", "--temperature", "1,2"), "has no teacher"),
        (("demo-distilled", "--temperature", "1,2", "--seeds", "0,0"), "listed twice"),
        (("demo-baseline", "--lr", "1e-3,1e-4", "--with-baseline"), "no distillation"),
        (("nothing", "--temperature", "1,2"), "nothing"),
        (("show", "latest"), "no sweep matches"),
        (("stop", "x"), "no sweep matches"),
        (("resume", "x"), "no sweep matches"),
    ],
)
def test_bad_input_is_one_message_and_makes_nothing(
    kdtui: Kdtui, here: Path, words: tuple[str, ...], message: str
) -> None:
    done = kdtui("sweep", *words)
    assert (done.code, done.out) == (2, "") and message in done.err
    assert not (here / "runs").exists()


def test_a_store_without_sweeps_is_left_as_it_is(kdtui: Kdtui, store: RunStore, big: Run) -> None:
    before = sorted(path.name for path in store.root.iterdir())
    done = kdtui("sweep", "list")
    assert done.code == 0 and "no sweeps" in done.err and kdtui("sweep", "list", "--json").json == []
    assert sorted(path.name for path in store.root.iterdir()) == before
    assert kdtui("runs", "--sweep", "x").code == 2


def test_a_damaged_sweep_is_one_message(kdtui: Kdtui, store: RunStore, big: Run) -> None:
    assert kdtui(*GRID, "--detach").code == 0
    (folder,) = listing(store.root)
    folder.spec_path.write_text("format = 1")
    for verb in ("show", "resume"):
        done = kdtui("sweep", verb, folder.id)
        assert done.code == 3 and "spec.toml is damaged" in done.err and done.err.count("error") == 1
    assert "damaged" in kdtui("sweep", "list").out
    eventually(lambda: not [row for row in store.summaries() if row.state in LIVE], "they train")
    assert kdtui(*GRID).code == 0 and kdtui("sweep", "show", folder.id).code == 0


def test_the_commands_of_the_documentation_do_what_it_says(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("demo-teacher", profile="demo-teacher")
    lines = re.findall(r"^kdtui (.*)$", (DOCS / "sweeps.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line.replace("--trials 20", "--trials 2"))
        short = ("--epochs", "1") if words[1] == "demo-distilled" else ()
        done = kdtui(*words, *short)
        stopped = words[:2] == ["sweep", "stop"]  # of a sweep that has finished
        assert done.code == (2 if stopped else 0), (line, done.err)
    assert set(cells(store).values()) == {1} and len(cells(store)) == 9 + 2
