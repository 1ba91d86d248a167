"""train, distill, resume and demo, with real processes and an engine without torch."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained
from tests.waiting import eventually, finished


def wait_for(store: RunStore, run: str, *states: State) -> None:
    eventually(lambda: store.summary(store.find(run)).state in states, lambda: store.summary(store.find(run)))


def test_train_prints_the_id_and_ends_when_the_run_does(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "--epochs", "2", "--tag", "mine", "--seed", "5", "--set", "training.threads=1")
    assert done.code == 0
    run = store.find(done.out.strip())
    assert run.profile().training.epochs == 2
    assert run.profile().seed == 5
    assert "mine" in run.notes().tags
    assert store.summary(run).state is State.FINISHED
    assert "epoch 2/2" in done.err
    assert "mIoU 0.6000" in done.err


def test_train_json_is_what_runs_would_say(kdtui: Kdtui) -> None:
    body = kdtui("train", "baseline", "demo-baseline", "--epochs", "1", "--json").json
    assert [row["name"] for row in body] == ["baseline", "demo-baseline"]
    assert body == kdtui("runs", "--json").json


def test_several_profiles_run_one_after_the_other(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "demo-baseline", "--epochs", "1")
    assert done.code == 0
    first, second = (store.find(line) for line in done.out.split())
    assert (first.manifest().name, second.manifest().name) == ("baseline", "demo-baseline")
    ended, began = store.summary(first).last_event, store.summary(second).started
    assert ended is not None
    assert began is not None
    assert ended <= began


@pytest.mark.parametrize(("name", "code", "state"), [("fails", 4, State.FAILED), ("stops", 130, State.STOPPED)])
def test_a_run_that_does_not_finish_ends_the_command(
    kdtui: Kdtui, store: RunStore, here: Path, name: str, code: int, state: State
) -> None:
    (here / f"{name}.toml").write_text('extends = "baseline"\n')
    done = kdtui("train", f"{name}.toml", "baseline", "demo-baseline", "--epochs", "1")
    assert done.code == code
    assert "not started: baseline, demo-baseline" in done.err
    assert "--keep-going" in done.err
    assert [row.state for row in store.summaries()] == [state]
    done = kdtui("train", f"{name}.toml", "baseline", "--epochs", "1", "--keep-going")
    assert done.code == code
    assert "not started" not in done.err
    assert [row.state for row in store.summaries()] == [state, state, State.FINISHED]
    assert kdtui("train", f"{name}.toml", "--epochs", "1").code == code


def test_a_failed_run_shows_its_error_and_the_next_step(kdtui: Kdtui, here: Path) -> None:
    (here / "fails.toml").write_text('extends = "baseline"\n')
    done = kdtui("train", "fails.toml", "--epochs", "1")
    assert done.code == 4
    assert "on purpose" in done.err
    assert "train something else" in done.err


def test_only_a_run_that_finished_is_exported(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    (here / "stops.toml").write_text('extends = "baseline"\n')
    words = ["stops.toml", "demo-baseline", "--epochs", "2", "--keep-going", "--export-onnx"]
    assert kdtui("train", *words).code == 130
    stopped, finished = store.find("stops"), store.find("demo-baseline")  # by name: one second has no order
    assert (stopped.exports(), len(finished.exports())) == ([], 1)


def test_skip_training_refuses_what_needs_a_training(kdtui: Kdtui) -> None:
    for flag in (["--dry-run"], ["--detach"], ["--total-epochs", "3"], ["--resume", "latest"], ["--tag", "a"]):
        done = kdtui("train", "baseline", "--skip-training", *flag)
        assert done.code == 2
        assert flag[0] in done.err


def test_the_shorthands_reach_the_profile_and_set_wins(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    teacher = here / "teacher.pth"
    teacher.write_text("weights")
    flags = ["-T", "2.5", "-a", "0.25", "--student", "resnet18", "--batch-size", "4", "--name", "mine"]
    done = kdtui("train", "baseline", "--teacher", "teacher.pth", "--epochs", "9", *flags, "--set",
                 "training.epochs=1")  # fmt: skip
    assert done.code == 0, done.err
    profile = store.find("mine").profile()
    assert profile.distillation.enabled
    assert (profile.distillation.temperature, profile.distillation.alpha) == (2.5, 0.25)
    assert profile.teacher.checkpoint == str(teacher)
    assert (profile.student.label, profile.training.batch_size, profile.training.epochs) == ("resnet18", 4, 1)
    record = store.find("mine").manifest().teacher
    assert record is not None
    assert record["checkpoint"] == str(teacher)
    assert len(record["sha256"]) == 64
    assert record["run"] is None


def test_a_run_can_be_the_teacher_and_distillation_can_be_turned_off(
    kdtui: Kdtui, store: RunStore, trained: Trained
) -> None:
    teacher = trained("big", profile="hierarchical-b3")
    done = kdtui("train", "distill-b0-from-b3", "--teacher", "big", "--epochs", "1", "--name", "small")
    assert done.code == 0, done.err
    record = store.find("small").manifest().teacher
    assert record is not None
    assert record["run"] == teacher.id
    assert record["checkpoint"] == str(teacher.best)
    done = kdtui("train", "distill-b0-from-b3", "--teacher", "big", "--epochs", "1", "--name", "alone",
                 "--set", "distillation.enabled=false")  # fmt: skip
    assert done.code == 0
    assert not store.summary(store.find("alone")).distilled
    assert store.find("alone").manifest().teacher is None


def test_paths_in_the_runs_profile_are_absolute(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    assert kdtui("train", "camvid-baseline", "--epochs", "1", "--detach").code == 0
    assert store.find("latest").profile_table()["data"]["root"] == str(here / "data/camvid")


def test_distilling_without_a_teacher_is_refused_before_anything_is_made(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "distill-b0-from-b3", "--epochs", "1")
    assert done.code == 2
    assert "--teacher CKPT|RUN" in done.err
    assert store.runs() == []


def test_a_check_that_fails_starts_nothing(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "--name", "unfit")
    assert done.code == 4
    assert "FAIL teacher: 4 classes, 3 wanted" in done.err
    assert store.runs() == []


def test_dry_run_prints_the_plan_and_starts_nothing(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "demo-baseline", "--dry-run")
    assert done.code == 0
    for word in (
        "baseline: timm-efficientnet-b0",
        "demo-baseline: tu-mobilenetv3_small_100",
        "ok   disk",
        "ok   teacher",
        "seed 0",
    ):
        assert word in done.out
    body = kdtui("train", "baseline", "--name", "unfit", "--dry-run", "--json")
    assert body.code == 4
    assert body.json["ok"] is False
    assert body.json["runs"][0]["epochs"] == 20
    assert kdtui("train", "baseline", "--seed", "7", "--dry-run", "--json").json["runs"][0]["seed"] == 7
    assert store.runs() == []


def test_the_plan_knows_how_long_an_earlier_run_took(kdtui: Kdtui, trained: Trained) -> None:
    trained("earlier", epochs=2)
    planned = kdtui("train", "baseline", "--epochs", "4", "--dry-run", "--json").json["runs"][0]
    assert planned["eta_from"].endswith("earlier")
    assert planned["eta_seconds"] >= 0
    other = kdtui("train", "baseline", "--set", "data.height=64", "--dry-run", "--json").json["runs"][0]
    assert other["eta_seconds"] is None


def test_detach_returns_while_the_run_continues(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "baseline", "--epochs", "50", "--name", "slow", "--detach")
    assert done.code == 0
    run = done.out.strip()
    wait_for(store, run, State.RUNNING)
    assert kdtui("stop", run).code == 0
    wait_for(store, run, State.STOPPED)


def test_resume_continues_in_the_same_folder(kdtui: Kdtui, store: RunStore) -> None:
    run = kdtui("train", "baseline", "--epochs", "60", "--name", "slow", "--detach").out.strip()
    wait_for(store, run, State.RUNNING)
    eventually(store.find(run).last.exists, "a checkpoint")
    kdtui("stop", run)
    wait_for(store, run, State.STOPPED)
    epochs = json.loads(store.find(run).last.read_text())["step"] // 2 + 1
    done = kdtui("resume", "slow", "--total-epochs", str(epochs))
    assert done.code == 0, done.err
    assert "resuming at step" in done.err
    summary = store.summary(store.find(run))
    assert (summary.state, summary.attempt, summary.epochs) == (State.FINISHED, 2, epochs)
    assert len(store.runs()) == 1


def test_resume_on_a_full_disk_is_refused_before_anything_is_started(kdtui: Kdtui, trained: Trained) -> None:
    run = trained("first")
    before = sorted(run.path.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 1024, limits[1]))
    try:
        refused = [kdtui("resume", "first", "--total-epochs", "9", *flag) for flag in ([], ["--dry-run"])]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for done in refused:
        assert done.code == 3
        assert "the run folder is not writable" in done.err and "next: raise the file size limit" in done.err
    assert sorted(run.path.rglob("*")) == before


def test_train_resume_starts_from_the_newest_whole_checkpoint_of_a_run_and_is_reported(
    kdtui: Kdtui, store: RunStore, trained: Trained
) -> None:
    first = trained("first", epochs=2)
    first.last.rename(first.epoch_checkpoint(1))
    first.epoch_checkpoint(2).write_bytes(b"PK cut short")
    done = kdtui("train", "baseline", "--epochs", "3", "--name", "second", "--resume", "first")
    assert done.code == 0, done.err
    assert "last.pth is missing; checkpoint_epoch_0002.pth is truncated" in done.err
    assert store.find("second").manifest().resume_from == str(first.epoch_checkpoint(1))
    first.epoch_checkpoint(1).unlink()
    refused = kdtui("train", "baseline", "--name", "third", "--resume", "first")
    assert refused.code == 2
    assert "no usable checkpoint to start from" in refused.err
    assert f"--resume {first.best}" in refused.err


def test_train_resume_makes_a_new_run_from_that_state(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    first = trained("first")
    done = kdtui("train", "baseline", "--epochs", "2", "--name", "second", "--resume", "first")
    assert done.code == 0
    assert "resuming at step 2" in done.err
    assert store.find("second").manifest().resume_from == str(first.last)
    assert kdtui("train", "baseline", "--resume", "nothing").code == 2
    assert kdtui("train", "baseline", "demo-baseline", "--resume", "first").code == 2


def test_the_plan_counts_what_is_left_to_do(kdtui: Kdtui, trained: Trained) -> None:
    trained("first", epochs=3)
    words = ["train", "baseline", "--epochs", "5", "--dry-run"]
    assert kdtui(*words, "--json").json["runs"][0]["epochs"] == 5
    again = kdtui(*words, "--resume", "first")
    assert again.code == 0
    assert "2 epochs after 3 completed" in again.out
    told = kdtui(*words, "--resume", "first", "--total-epochs", "10", "--json").json["runs"][0]
    assert (told["epochs"], told["epochs_done"]) == (7, 3)
    assert [check["message"] for check in told["checks"] if check["name"] == "resume"] == ["--total-epochs 10"]
    longer = kdtui(*words, "--total-epochs", "50", "--json").json["runs"][0]
    assert (longer["epochs"], longer["epochs_done"]) == (50, 0)


def test_a_run_started_from_a_state_gives_no_estimate(kdtui: Kdtui, trained: Trained) -> None:
    trained("first")
    kdtui("train", "baseline", "--epochs", "2", "--name", "second", "--resume", "first")
    planned = kdtui("train", "baseline", "--dry-run", "--json").json["runs"][0]
    assert planned["eta_from"].endswith("first")


def test_a_horizon_has_an_end(kdtui: Kdtui) -> None:
    for command in (["train", "baseline"], ["resume", "latest"]):
        assert kdtui(*command, "--total-epochs", "1000000000").code == 2


def test_distill_takes_data_and_task_from_the_teachers_run(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("big", "data.height=64", profile="hierarchical-b3", epochs=2)
    done = kdtui("distill", "--teacher", "big", "--student", "resnet18", "-T", "2")
    assert done.code == 0, done.err
    profile = store.find("latest").profile()
    assert profile.name == "resnet18-from-big"
    assert profile.data == store.find("big").profile().data
    assert profile.training == store.find("big").profile().training
    assert (profile.student.label, profile.distillation.temperature) == ("resnet18", 2.0)
    assert profile.tags == ()


def test_a_method_lays_its_terms_over_the_profile(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    trained("big")
    for words in (("train", "baseline"), ("distill", "--student", "resnet18")):
        done = kdtui(*words, "--teacher", "big", "--method", "cwd+feature", "--alpha", "0.4", "--epochs", "1")
        assert done.code == 0
        distillation = store.find(done.out.strip()).profile().distillation
        assert [(term.kind, term.weight) for term in distillation.terms or ()] == [("cwd", 3.0), ("feature", 10.0)]
        assert (distillation.enabled, distillation.alpha) == (True, 0.4)
    done = kdtui("train", "baseline", "--method", "cwd")
    assert done.code == 2
    assert "has no teacher" in done.err
    done = kdtui("train", "baseline", "--method", "cdw")
    assert done.code == 2
    assert "did you mean cwd?" in done.err


def test_distill_from_a_foreign_file_needs_a_profile(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    (here / "foreign.pth").write_text("weights")
    done = kdtui("distill", "--teacher", "foreign.pth", "--student", "resnet18")
    assert done.code == 2
    assert "--profile" in done.err
    done = kdtui(
        "distill", "--teacher", "foreign.pth", "--student", "resnet18", "--profile", "baseline", "--epochs", "1"
    )
    assert done.code == 0, done.err
    assert kdtui("distill", "--teacher", "nowhere.pth", "--student", "resnet18").code == 2


def test_skip_training_evaluates_the_newest_run_of_each_profile_and_compares(
    kdtui: Kdtui, store: RunStore, trained: Trained, here: Path
) -> None:
    trained("baseline")
    trained("demo-baseline", profile="demo-baseline")
    newest = trained("baseline")
    done = kdtui("train", "baseline", "demo-baseline", "--skip-training", "--json")
    assert done.code == 0, done.err
    assert newest.id in [row["id"] for row in done.json["rows"]]
    assert newest.evaluation("val").is_file()
    assert (here / "runs" / "experiment_comparison.csv").is_file()
    assert len(store.runs()) == 3
    assert kdtui("train", "camvid-baseline", "--skip-training").code == 2


def test_another_encoder_keeps_the_kind_of_network_of_a_profile(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "persons-demo-baseline", "--student", "resnet18", "--set", "student.head_channels=24")
    assert done.code == 0, done.err
    (run,) = store.runs()
    student = run.profile_table()["student"]
    assert (student["kind"], student["encoder"], student["head_channels"]) == ("roi", "resnet18", 24)


def test_demo_trains_three_and_prints_the_difference(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("demo", "--seed", "3")
    assert done.code == 0, done.err
    names = ["demo-teacher", "demo-fewlabels-baseline", "demo-fewlabels-distilled"]
    assert [row.name for row in store.summaries()] == names
    assert {row.seed for row in store.summaries()} == {3}
    assert "Δ +0.0200" in done.out
    assert "seed 3" in done.out
    assert "settings: " in done.out
    again = kdtui("demo", "--json").json["baseline"]  # a counter ends it when both demos began in one second
    assert "-demo-fewlabels-baseline" in again


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_asks_for_a_clean_stop_and_a_second_one_kills(store: RunStore, presses: int) -> None:
    argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", "train", "baseline"]
    argv += ["--name", "slow" if presses == 1 else "slower", "--epochs", "500"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as command:
        assert command.stdout is not None
        run = command.stdout.readline().strip()
        wait_for(store, run, State.RUNNING)
        for _ in range(presses):
            os.killpg(command.pid, signal.SIGINT)
            time.sleep(0.03)
        _, err = finished(command)
    assert command.returncode == 130, err
    assert "kdtui resume" in err
    summary = store.summary(store.find(run))
    assert summary.state is State.STOPPED
    assert ("killed" in summary.detail) is (presses == 2)
    if presses == 1:
        assert json.loads(store.find(run).last.read_text())["step"] >= 1


def test_a_killed_command_line_leaves_the_run_alone(store: RunStore) -> None:
    argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", "train", "baseline"]
    argv += ["--name", "slow", "--epochs", "8"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as command:
        assert command.stdout is not None
        run = command.stdout.readline().strip()
        wait_for(store, run, State.RUNNING)
        command.kill()
    wait_for(store, run, State.FINISHED)


def test_a_teacher_with_a_long_name_still_names_its_student(kdtui: Kdtui, trained: Trained) -> None:
    teacher = trained("t" * 78).manifest().name
    plan = kdtui("distill", "--teacher", teacher, "--student", "resnet18", "--dry-run", "--json").json
    assert plan["runs"][0]["name"] == f"resnet18-from-{teacher}"[:80]


def test_what_is_only_evaluated_needs_no_teacher_again(kdtui: Kdtui, trained: Trained) -> None:
    trained("teacher")
    trained("demo-distilled", profile="demo-distilled", teacher="teacher")
    done = kdtui("train", "demo-distilled", "--skip-training")
    assert done.code == 0, done.err
    assert "mIoU" in done.err


def test_a_finished_run_is_not_launched_for_nothing(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    run = trained("done")
    refused = kdtui("resume", "done")
    assert refused.code == 2
    assert "--total-epochs" in refused.err
    assert store.summary(run).attempt == 1


def test_a_teacher_that_cannot_be_inspected_is_reported(kdtui: Kdtui) -> None:
    refused = kdtui("train", "baseline", "--teacher", "/tmp/" + "t" * 300 + ".pth", "--dry-run")
    assert refused.code == 2
    assert "cannot access this path" in refused.err


def test_warnings_are_in_the_plan_the_progress_and_the_run(kdtui: Kdtui, store: RunStore, here: Path) -> None:
    (here / "doubtful.toml").write_text('extends = "baseline"\n')
    planned = kdtui("train", "doubtful.toml", "--dry-run")
    assert planned.code == 0
    assert "WARN the labels look wrong" in planned.out
    assert "next: look at them" in planned.out
    for options in ([], ["--dry-run"]):
        refused = kdtui("train", "doubtful.toml", "--strict", *options)
        assert refused.code == 4
        assert "--strict starts nothing" in refused.err and "1 warning" in refused.err
    assert kdtui("runs", "--json").json == []
    done = kdtui("train", "doubtful.toml", "--epochs", "1")
    assert done.code == 0
    assert "warning: the labels look wrong" in done.err
    (run,) = kdtui("runs", "--json").json
    assert run["warnings"] == [{"code": "a", "message": "the labels look wrong", "hint": "look at them"}]
    assert "the labels look wrong; look at them" in kdtui("show", "latest").out
    compared = kdtui("compare", "latest")
    assert "the labels look wrong" in compared.err
