"""`kdtui sweep --sampler tpe` with real processes and an engine without torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import files_of
from kdtui.sweep.folder import listing
from tests.cli.conftest import Kdtui, Trained
from tests.cli.test_sweep import cells
from tests.sweep.search.searching import kill_controller

SWEEP = ("sweep", "demo-distilled", "--teacher", "big", "--epochs", "1", "--temperature", "1..8")
SAMPLED = (*SWEEP, "--sampler", "tpe")


@pytest.fixture
def big(trained: Trained, store: RunStore) -> Iterator[Run]:
    yield trained("big", profile="demo-teacher")
    for folder in listing(store.root):
        if files_of(folder).launch_record() is not None:
            kill_controller(folder)


def test_trials_are_trained_listed_and_added(kdtui: Kdtui, store: RunStore, big: Run) -> None:
    done = kdtui(*SAMPLED, "--trials", "2", "--with-baseline", "--tag", "mine")
    assert done.code == 0, done.err
    (folder,) = listing(store.root)
    assert "2 trials: 2 finished" in done.out and "★" in done.out and "mIoU 0.5200 (highest of 2" in done.out
    assert "Δ +0.0200 to the matched baseline" in done.out and "after 8 finished trials (2 until now)" in done.out
    assert len(cells(store)) == 3 and set(cells(store).values()) == {1}
    assert all("mine" in row.tags for row in store.summaries() if row.sweep)
    students = [run for run in store.runs() if (run.manifest().sweep or {}).get("role") == "student"]
    assert [run.profile().data.view_seed for run in students] == [0, 0]  # so that they share the teacher's logits
    again = kdtui(*SAMPLED, "--with-baseline", "--trials", "3", "--json")
    assert again.code == 0 and [one["trial"] for one in again.json["trials"]] == [1, 2, 3]
    assert again.json["id"] == folder.id and again.json["states"] == {"finished": 3} and len(cells(store)) == 4
    assert "3 trials" in kdtui(*SAMPLED, "--with-baseline", "--dry-run").out  # as many as it has
    (row,) = kdtui("sweep", "list", "--json").json
    assert (row["id"], row["runs"], row["state"], row["best"]) == (folder.id, 3, "finished", pytest.approx(0.52))
    assert folder.id in kdtui("sweep", "list").out
    shown = {form: kdtui("sweep", "show", "latest", "--format", form).out for form in ("csv", "markdown", "text")}
    assert shown["csv"].startswith("trial,distillation.temperature,score,state,best,runs\n1,")
    assert "| **1** |" in shown["markdown"] and "tpe over T 1..8; val mIoU" in shown["text"]
    assert kdtui("sweep", "show", "latest", "--rows", "T").code == 2
    assert kdtui("sweep", "stop", "latest").code == 2 and kdtui("sweep", "resume", "latest").code == 0
    assert len(kdtui("runs", "--sweep", "latest", "--json").json) == 4 == len(cells(store))


@pytest.mark.slow
def test_each_trial_has_a_run_for_each_seed_and_failed_ones_count(
    kdtui: Kdtui, store: RunStore, big: Run, here: Path
) -> None:
    done = kdtui(*SAMPLED, "--trials", "1", "--seeds", "0,1", "--detach")
    assert done.code == 0 and done.out.split() == [listing(store.root)[0].id]
    assert kdtui("sweep", "resume", "latest").code == 0
    assert len(cells(store)) == 2 and "mean over 2 seeds" in kdtui("sweep", "show", "latest").out
    (here / "fails.toml").write_text('extends = "demo-distilled"\n')
    words = ("sweep", "fails", *SAMPLED[2:], "--trials", "2")
    failed = kdtui(*words)
    assert failed.code == 4 and "no trial finished" in failed.err and "scripted engine fails" in failed.err
    assert [row.state for row in store.summaries() if "fails" in row.name] == [State.FAILED] * 2
    assert kdtui(*words, "--retry").code == 4
    attempts = [run.launch_record() for run in store.runs() if "fails" in run.id]
    assert [record.attempt for record in attempts if record is not None] == [2, 2]


def test_a_dry_run_makes_nothing(kdtui: Kdtui, store: RunStore, big: Run) -> None:
    words = (*SAMPLED, "--set", "training.learning_rate=1e-4..1e-2:log", "--method", "kl,cwd", "--prune")
    done = kdtui(*words, "--trials", "6", "--dry-run")
    assert done.code == 0 and "learning rate: 0.0001..0.01:log" in done.out and "method: kl, cwd" in done.out
    assert "6 trials by tpe, worse ones pruned, seed 0; 2 at once" in done.out
    assert kdtui(*words, "--dry-run", "--json").json["trials"] == 20
    assert listing(store.root) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--temperature", "1..8"), "--sampler tpe --trials"),
        (("--temperature", "1,8", "--trials", "3"), "--trials needs a sampler"),
        (("--temperature", "1,8", "--prune"), "--prune needs a sampler"),
        (("--sampler", "tpe"), "several values or a range"),
        (("--temperature", "8..1", "--sampler", "tpe"), "a range is empty"),
        (("--temperature", "0..1:log", "--sampler", "tpe"), "begins above 0"),
        (("--set", "student.encoder=1..2", "--sampler", "tpe"), "whose values are numbers"),
        (("--temperature", "1..8", "--sampler", "random"), "--sampler"),
        (("--temperature", "1..8", "--sampler", "tpe", "--trials", "0"), "--trials"),
        (
            ("--lr", "1e-4..1", "--sampler", "tpe", "--trials", "1001", "--set", "distillation.enabled=false"),
            "--trials",
        ),
        (("--temperature", "1..8", "--sampler", "tpe"), "has no teacher"),
    ],
)
def test_bad_input_is_one_message_and_makes_nothing(
    kdtui: Kdtui, here: Path, words: tuple[str, ...], message: str
) -> None:
    done = kdtui("sweep", "demo-distilled", *words)
    assert (done.code, done.out) == (2, "") and message in done.err
    assert not (here / "runs").exists()


def test_without_optuna_the_extra_is_named(
    kdtui: Kdtui, store: RunStore, big: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kdtui(*SAMPLED, "--trials", "1").code == 0
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it was not installed
    for words in ((*SAMPLED, "--trials", "2"), (*SAMPLED, "--dry-run"), ("sweep", "resume", "latest")):
        done = kdtui(*words)
        assert done.code == 3 and "pip install 'kdtui[search]'" in done.err and done.err.count("error") == 1
    for light in (("sweep", "show", "latest"), ("sweep", "list"), ("runs",)):
        assert kdtui(*light).code == 0
    assert len(cells(store)) == 1
