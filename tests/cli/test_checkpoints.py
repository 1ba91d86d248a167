"""evaluate, inspect, teachers, encoders, profiles and doctor."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kdtui.cli.console import complete_method, complete_profile
from kdtui.profile import load
from kdtui.store.aside import mark
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained


def test_evaluate_a_run_keeps_the_answer(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("baseline")
    done = kdtui("evaluate", "latest", "--split", "val", "--json")
    assert done.code == 0
    assert (done.json["split"], done.json["miou"]) == ("val", 0.5)
    run = store.find("latest")
    assert run.evaluation("val").is_file()
    assert "IoU target  0.4000" in kdtui("evaluate", str(run.best)).out
    assert run.evaluation("test").is_file()


def test_a_folder_with_a_runs_name_does_not_hide_the_run(kdtui: Kdtui, trained: Trained, here: Path) -> None:
    best = str(trained("city").best)
    (here / "city").mkdir()
    evaluated = kdtui("evaluate", "city", "--json")
    assert evaluated.json["checkpoint"] == best
    others = [
        ["inspect", "city"],
        ["export", "city"],
        ["encoders", "resnet18", "--teacher", "city"],
        ["train", "demo-baseline", "--resume", "city", "--dry-run"],
        ["train", "demo-baseline", "--teacher", "city", "--dry-run"],
        ["distill", "--teacher", "city", "--student", "resnet18", "--dry-run"],
    ]
    for done in [evaluated, *(kdtui(*words) for words in others)]:
        assert done.code == 0, done.err
        assert "'city' is both a run and a folder; using the run" in done.err


def test_own_profiles_are_listed_completed_and_trained_by_name(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    (here / "mycity.toml").write_text('extends = "demo-baseline"\ndescription = "my city"\n')
    (here / "profiles").mkdir()
    (here / "profiles" / "baseline.toml").write_text('extends = "baseline"\n[training]\nepochs = 1\n')
    listed = {row["name"]: row for row in kdtui("profiles", "--json").json}
    assert (listed["mycity"]["description"], listed["mycity"]["shipped"]) == ("my city", False)
    lines = kdtui("profiles").out.splitlines()
    assert any(line.split()[:2] == ["mycity", "."] for line in lines)
    assert any(line.split()[:2] == ["baseline", "./profiles"] and "hides the shipped one" in line for line in lines)
    assert complete_profile("my") == ["mycity"]
    assert kdtui("train", "mycity", "--epochs", "1").code == 0
    assert store.find("latest").manifest().name == "mycity"
    (here / "latin.toml").write_bytes(b'name = "\xe9"')
    done = kdtui("profiles", "latin")
    assert done.code == 2
    assert "is not UTF-8 text" in done.err


def test_evaluate_a_file_needs_a_profile(kdtui: Kdtui, here: Path) -> None:
    (here / "a.pth").write_text("x")
    done = kdtui("evaluate", "a.pth")
    assert done.code == 2
    assert "--profile" in done.err
    assert kdtui("evaluate", "a.pth", "--profile", "baseline", "--json").json["checkpoint"] == "a.pth"
    assert kdtui("evaluate", "a.pth", "--profile", "basline").code == 2
    assert kdtui("evaluate", "b.pth").code == 2
    assert kdtui("evaluate", "a.pth", "--profile", "baseline", "--split", "tset").code == 2


def test_inspect_passes_on_what_the_engine_says(kdtui: Kdtui, here: Path) -> None:
    (here / "a.pth").write_text("x")
    body = kdtui("inspect", "a.pth", "--task", "hierarchical", "--json").json
    assert body["encoder"] == "resnet18"
    assert body["asked"] == ["--task", "hierarchical"]
    assert "3,000,000" in kdtui("inspect", "a.pth").out
    (here / "empty.pth").write_text("")
    done = kdtui("inspect", "empty.pth")
    assert done.code == 4
    assert "the file is empty" in done.err
    assert "make it again" in done.err
    assert kdtui("inspect", "none.pth").code == 2


def test_teachers_may_be_inspected_all_at_once(kdtui: Kdtui, trained: Trained, here: Path) -> None:
    run = trained("taught")
    (here / "found").mkdir()
    (here / "found" / "a.onnx").write_text("x")
    (here / "found" / "empty.pth").write_text("")
    plain = kdtui("teachers", "found", "--json").json
    assert [row["family"] for row in plain] == [None, None, None]
    own, good, bad = kdtui("teachers", "found", "--inspect", "--json").json
    assert (own["run"], own["family"]) == (run.id, None)
    assert (good["family"], good["classes"], good["encoder"]) == ("torchvision", 19, "resnet18")
    assert bad["mistake"].startswith("the file is empty")
    done = kdtui("teachers", "found", "--inspect", "--wide")
    assert "torchvision" in done.out and "empty.pth cannot teach: the file is empty" in done.err
    assert kdtui("teachers", "--inspect").code == 0


def test_an_engine_that_gives_no_answer(kdtui: Kdtui, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.pth").write_text("x")
    monkeypatch.setenv("KDTUI_ENGINE", "false")
    assert kdtui("inspect", "a.pth").code == 4
    monkeypatch.setenv("KDTUI_ENGINE", "/nowhere/python")
    assert kdtui("inspect", "a.pth").code == 3
    assert kdtui("doctor").code == 4


def test_teachers_lists_runs_and_folders(kdtui: Kdtui, store: RunStore, trained: Trained, here: Path) -> None:
    assert kdtui("teachers", "--json").json == []
    trained("baseline")
    store.create(load("baseline", ["name=never"]))
    (here / "found").mkdir()
    (here / "found" / "b.ckpt").write_text("x")
    (here / "found" / "notes.txt").write_text("x")
    rows = kdtui("teachers", "found", "--json").json
    assert [row["run"] for row in rows] == [store.summaries()[0].id, None]
    assert rows[0]["encoder"] == "timm-efficientnet-b0"
    assert rows[1]["checkpoint"] == "found/b.ckpt"
    assert "b.ckpt" in kdtui("teachers", "found").out
    assert kdtui("teachers", "missing").code == 2


def test_encoders_are_listed_smallest_first(kdtui: Kdtui) -> None:
    rows = kdtui("encoders", "resnet", "--json").json
    assert len(rows) > 3
    assert [row["parameters"] for row in rows] == sorted(row["parameters"] for row in rows)
    assert {row["encoder"] for row in kdtui("encoders", "resnet*", "--json").json} <= {row["encoder"] for row in rows}
    assert "resnet18" in kdtui("encoders", "resnet18").out
    assert kdtui("encoders", "nosuchencoder").code == 2


def test_encoders_against_a_teacher(kdtui: Kdtui, trained: Trained, here: Path) -> None:
    (here / "a.pth").write_text("x")
    for row in kdtui("encoders", "resnet", "--teacher", "a.pth", "--json").json:
        assert row["compression"] == pytest.approx(3_000_000 / row["parameters"])
    trained("baseline")
    row = kdtui("encoders", "resnet18", "--teacher", "latest", "--json").json[0]
    assert row["compression"] == pytest.approx(1_000_000 / row["parameters"])
    # Costs are those of a student of the teacher's run: its decoder, channels and size.
    assert row["macs"] < kdtui("encoders", "resnet18", "--json").json[0]["macs"]
    assert "256x256" not in kdtui("encoders", "resnet18", "--teacher", "latest").err


def test_methods_are_listed_shown_and_completed(kdtui: Kdtui) -> None:
    listed = {row["name"]: row for row in kdtui("methods", "--json").json}
    assert listed["cwd"]["terms"] == [{"kind": "cwd", "weight": 3.0}]
    lines = kdtui("methods").out.splitlines()
    assert any(line.split()[:2] == ["cwd", "cwd"] and listed["cwd"]["description"] in line for line in lines)
    assert 'kind = "cwd"' in kdtui("methods", "cwd").out
    assert kdtui("methods", "cwd", "--json").json == [listed["cwd"]]
    assert complete_method("cw") == ["cwd", "cwd+feature"]
    done = kdtui("methods", "cdw")
    assert (done.code, "did you mean cwd?" in done.err) == (2, True)


def test_profiles_lists_shows_and_resolves(kdtui: Kdtui, here: Path) -> None:
    (here / "profiles").mkdir()
    (here / "profiles" / "mine.toml").write_text('# kept\nextends = "baseline"\nseed = 3\n')
    listed = {row["name"]: row for row in kdtui("profiles", "--json").json}
    assert listed["baseline"]["shipped"]
    assert not listed["mine"]["shipped"]
    assert "mine" in kdtui("profiles").out
    assert kdtui("profiles", "mine").out.startswith("# kept")
    resolved = tomllib.loads(kdtui("profiles", "mine", "--resolved", "--set", "training.epochs=5").out)
    assert (resolved["seed"], resolved["training"]["epochs"]) == (3, 5)
    assert kdtui("profiles", "mine", "--json").json["seed"] == 3
    done = kdtui("profiles", "mien")
    assert done.code == 2
    assert "mine" in done.err
    assert kdtui("profiles", "--resolved").code == 2


def test_doctor_tells_what_is_wrong(kdtui: Kdtui, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = kdtui("doctor")
    assert done.code == 0, done.out
    assert "FAIL" not in done.out
    (here / "profiles").mkdir()
    (here / "profiles" / "bad.toml").write_text("sede = 3\n")
    monkeypatch.setenv("KDTUI_TEST_SICK", "1")
    body = kdtui("doctor", "--json")
    assert body.code == 4
    assert {check["name"] for check in body.json["checks"] if not check["ok"]} == {"profiles", "torch"}


def test_doctor_shows_the_size_of_checkpoints_and_what_killed_processes_left(kdtui: Kdtui, trained: Trained) -> None:
    run = trained("a")
    (run.checkpoints / "last.pth").write_bytes(b"x" * 3 * 2**20)
    assert "MiB in all runs" in kdtui("doctor").out
    host_and_pid, _, boot = mark().rsplit("-", 2)
    left = run.checkpoints / f".last.pth.{host_and_pid}-1-{boot}.tmp"
    left.write_bytes(b"x" * 2 * 2**20)
    told = kdtui("doctor").out
    assert "1 file or folder (2.0 MiB) left by killed processes" in told
    assert left.name in told
    other = run.checkpoints / "checkpoint_epoch_0001.pth"
    other.hardlink_to(run.last)
    listed = r"checkpoints +3\.0 MiB on disk: best_model.pth 0\.0 MiB, checkpoint_epoch_0001\.pth 3\.0 MiB, last\.pth"
    assert re.search(listed, kdtui("show", "a").out)
    shown = kdtui("show", "a", "--json").json
    assert shown["checkpoints"] == {path.name: path.stat().st_size for path in (run.best, other, run.last)}
    assert shown["checkpoint_bytes"] == run.best.stat().st_size + 3 * 2**20
