"""--seeds and --with-baseline, with real processes and an engine without torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained
from tests.waiting import eventually, finished

PAIR = ("train", "baseline", "--teacher", "big", "--name", "mine", "--epochs", "1", "--with-baseline")


def test_seeds_train_with_their_baselines_and_are_compared(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("big", profile="hierarchical-b3")
    done = kdtui(*PAIR, "--seeds", "0,1", "--tag", "a")
    assert done.code == 0, done.err
    runs = [store.find(line) for line in done.out.splitlines()[:4]]
    names = [("mine", 0), ("mine-baseline", 0), ("mine", 1), ("mine-baseline", 1)]
    assert [(run.manifest().name, run.profile().seed) for run in runs] == names
    assert "mine s1: ✓ FINISHED" in done.err
    assert "n = 2" in done.out and "Δ +0.0200" in done.out
    group = runs[0].manifest().group
    assert f"group {group}" in done.err
    listed = kdtui("runs", "--filter", f"group={group}", "--json").json
    assert {row["id"] for row in listed} == {run.id for run in runs}

    again = kdtui(*PAIR, "--seeds", "1-2", "--json")
    assert again.code == 0, again.err
    assert [(row["name"], row["seed"]) for row in again.json] == [
        *(("mine", 1), ("mine", 2), ("mine-baseline", 2), ("mine-baseline", 1))
    ]
    assert f"baseline seed 1: {runs[3].id} finished, reused" in again.err


def test_a_dry_run_checks_each_profile_once_and_lists_the_runs(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("big", profile="hierarchical-b3")
    done = kdtui(*PAIR, "--seeds", "0-4", "--dry-run")
    assert done.code == 0
    assert done.out.count("ok   teacher") == 1
    assert "5 runs of mine: seed 0, 1, 2, 3, 4" in done.out
    assert "10 new runs, 2 at once on the CPU" in done.out
    body = kdtui(*PAIR, "--seeds", "0-4", "--dry-run", "--json").json
    assert [run["seed"] for run in body["runs"]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert (len(body["groups"]), body["reused"]) == (1, [])
    assert len(store.runs()) == 1


def test_distill_has_the_same_options_and_detaches(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("big", profile="hierarchical-b3")
    words = ("distill", "--teacher", "big", "--student", "resnet18", "--epochs", "1", "--seeds", "3,4", "--detach")
    done = kdtui(*words, "--with-baseline")
    assert done.code == 0, done.err
    runs = [store.find(line) for line in done.out.split()]
    assert [run.manifest().name for run in runs] == ["resnet18-from-big", "resnet18-from-big-baseline"] * 2
    for run in runs:
        eventually(lambda run=run: store.summary(run).state is State.FINISHED, run.id)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seeds", "0,0"), "listed twice"),
        (("--seeds", "0,x"), "not a list of seeds"),
        (("--seeds", "0", "--seed", "1"), "--seeds and --seed exclude"),
        (("--seeds", "0", "--set", "seed=1"), "--seeds and --seed exclude"),
        (("--seeds", "0", "--resume", "latest"), "--seeds and --resume exclude"),
        (("--seeds", "0", "--total-epochs", "3"), "--seeds and --total-epochs exclude"),
        (("--with-baseline", "--skip-training"), "--with-baseline and --skip-training exclude"),
        (("--with-baseline",), "no distillation"),
        (("--equal-time", "total"), "no distillation"),
        (("--equal-time", "student", "--total-epochs", "3"), "--equal-time and --total-epochs exclude"),
    ],
)
def test_what_cannot_be_grouped_is_refused(kdtui: Kdtui, store: RunStore, words: tuple[str, ...], message: str) -> None:
    done = kdtui("train", "baseline", *words)
    assert done.code == 2
    assert message in done.err
    assert store.runs() == []


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_failure_stops_what_is_still_queued(
    kdtui: Kdtui, store: RunStore, here: Path, monkeypatch: pytest.MonkeyPatch, keep_going: bool
) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1")
    for name in ("fails", "held"):
        (here / f"{name}.toml").write_text('extends = "baseline"\n')

    def release() -> None:
        def state(name: str) -> State | None:
            return next((row.state for row in store.for_thread().summaries() if row.name == name), None)

        awaited = ("held", State.RUNNING) if keep_going else ("baseline", State.STOPPED)
        try:
            eventually(lambda: state(awaited[0]) is awaited[1], str(awaited))
        finally:
            (store.for_thread().find("held").path / "go").touch()

    helper = threading.Thread(target=release)
    helper.start()
    words = ("train", "fails.toml", "held.toml", "baseline", "--epochs", "1", "--seeds", "0")
    done = kdtui(*words, *(["--keep-going"] if keep_going else []))
    helper.join()
    assert done.code == 4
    first, *_, last = (store.summary(store.find(name)).state for name in ("fails", "baseline"))
    assert (first, last) == (State.FAILED, State.FINISHED if keep_going else State.STOPPED)
    assert ("--keep-going" in done.err) is not keep_going


def test_ctrl_c_stops_all_runs_of_the_group_but_no_reused_one(store: RunStore, trained: Trained, kdtui: Kdtui) -> None:
    trained("big", profile="hierarchical-b3")
    theirs = store.find(kdtui("train", "baseline", "--name", "slow-b", "--epochs", "200", "--detach").out.strip())
    argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", "train", "baseline", "--teacher", "big"]
    argv += ["--name", "slow", "--epochs", "200", "--with-baseline", "--seeds", "0,1"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as command:
        assert command.stdout is not None
        ours = [store.find(command.stdout.readline().strip()) for _ in range(3)]
        eventually(lambda: store.summary(ours[0]).state is State.RUNNING, "the first run")
        os.killpg(command.pid, signal.SIGINT)
        _, err = finished(command)
    assert command.returncode == 130, err
    assert {store.summary(run).state for run in ours} == {State.STOPPED}
    assert f"{theirs.id} running, reused" in err
    assert store.summary(theirs).state is State.RUNNING
