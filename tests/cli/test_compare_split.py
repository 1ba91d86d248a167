"""``compare --split``: missing evaluations are made in one process per device slot, kept ones are used."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from kdtui.launch.device_queue import read_queue
from kdtui.store.files import sha256_of
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained
from tests.waiting import eventually


def test_runs_are_compared_on_another_split(kdtui: Kdtui, trained: Trained) -> None:
    kept, missing = trained("kept"), trained("missing")
    for run, text in ((kept, "one"), (missing, "other")):
        run.best.write_text(text)
    answer = {"split": "test", "sha256": sha256_of(kept.best), "miou": 0.75, "iou": {"target": 0.7}}
    kept.evaluation("test").write_text(json.dumps(answer))
    done = kdtui("compare", "kept", "missing", "--split", "test", "--json")
    assert done.code == 0, done.err
    assert {row["id"]: row["miou"] for row in done.json["rows"]} == {kept.id: 0.75, missing.id: 0.5}
    assert {row["retention"] for row in done.json["rows"]} == {None}
    assert any("those of the test split" in note for note in done.json["notes"])
    assert json.loads(kept.evaluation("test").read_text()) == answer
    assert json.loads(missing.evaluation("test").read_text())["miou"] == 0.5
    assert done.err.count("evaluating") == 1
    kept.best.write_text("trained further")  # its evaluation is that of another checkpoint
    assert {row["miou"] for row in kdtui("compare", "kept", "missing", "--split", "test", "--json").json["rows"]} == {
        0.5
    }


def test_each_device_slot_evaluates_a_share(
    kdtui: Kdtui, trained: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "meeting").mkdir()
    monkeypatch.setenv("KDTUI_TEST_MEETING", str(here / "meeting"))
    runs = [trained(name) for name in ("one", "two", "three")]
    done = kdtui("compare", *(run.id for run in runs), "--split", "test", "--json")
    assert done.code == 0, done.err
    assert len(list((here / "meeting").iterdir())) == 2
    assert "waiting" not in done.err
    assert [row["miou"] for row in done.json["rows"]] == [0.5] * 3


def test_evaluations_wait_for_a_slot_of_the_device(
    kdtui: Kdtui, trained: Trained, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1")
    run = trained("run")
    holder = store.find(kdtui("train", "baseline", "--name", "held", "--epochs", "1", "--detach").out.strip())
    eventually(lambda: store.summary(holder).state is State.RUNNING, "the holder")

    def release() -> None:
        eventually(lambda: any("kdtui compare" in one.claim.what for one in read_queue().waiters), "the evaluation")
        (holder.path / "go").touch()

    helper = threading.Thread(target=release)
    helper.start()
    done = kdtui("compare", run.id, "--split", "test")
    helper.join()
    assert done.code == 0, done.err
    assert "waiting for the cpu" in done.err
    assert store.summary(holder).state is State.FINISHED


def test_what_cannot_be_compared_on_a_split_is_refused(kdtui: Kdtui, trained: Trained) -> None:
    run = trained("run")
    run.best.unlink(missing_ok=True)
    for words, message in (
        (["--split", "tests"], "no such split"),
        (["--split", "test", "--pareto", "parameters"], "exclude each other"),
        (["--split", "test"], "no best checkpoint"),
    ):
        done = kdtui("compare", "run", *words)
        assert done.code == 2, done.err
        assert message in done.err


def test_a_group_is_compared_with_a_baseline_that_existed_before(kdtui: Kdtui, trained: Trained) -> None:
    pair, alone = "distill-b0-from-b3", ("distillation.enabled=false",)
    taught = trained("taught", profile=pair, teacher=trained("teacher").id)
    baseline, other = trained("alone", *alone, profile=pair), trained("other", *alone, "seed=9", profile=pair)
    text = json.loads(taught.manifest_path.read_text())
    taught.manifest_path.write_text(json.dumps(text | {"group": "distill-0a1b2c3d"}))
    done = kdtui("compare", "distill-0a1b2c3d", "--json")
    assert done.code == 0, done.err
    (group,) = done.json["groups"]
    assert [(pair["run"], pair["baseline"]) for pair in group["pairs"]] == [(taught.id, baseline.id)]
    assert other.id not in {row["id"] for row in done.json["rows"]}
    missing = kdtui("compare", "distill-0a1b2c3e")
    assert missing.code == 2 and "No run matches" in missing.err
