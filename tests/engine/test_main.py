from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kdtui import events
from kdtui.compare.bootstrap import read_counts
from kdtui.engine.__main__ import main
from kdtui.engine.check import learn
from kdtui.errors import EngineError
from kdtui.profile import Profile, dump
from kdtui.store.run import Run
from tests.engine.runs import curve, events_of, fit, make_run, record, same_counts, tiny_profile


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("trained"), training__precision="fp32")
    fit(run)
    return run


def ask(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and the one JSON object on stdout."""
    capfd.readouterr()
    code = main([str(argument) for argument in arguments])
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 1
    answer: dict[str, Any] = json.loads(lines[0])
    return code, answer


def test_evaluating_the_best_checkpoint_repeats_what_training_measured(
    trained: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluations" / "val.json"
    code, answer = ask(capfd, "evaluate", trained.profile_path, trained.best, "val", "--out", out)
    assert code == 0
    best = max(miou for _, miou in curve(trained, "val", "miou"))
    assert answer["miou"] == pytest.approx(best, abs=1e-6)
    assert json.loads(out.read_text()) == answer
    assert same_counts(trained, Run(tmp_path))
    assert read_counts(trained).miou == pytest.approx(best, abs=1e-9)
    assert set(answer["iou"]) == {"background", "target", "other"}
    _, test = ask(capfd, "evaluate", trained.profile_path, trained.best, "test")
    assert (test["split"], test["samples"]) == ("test", 6)


def test_a_checkpoint_that_is_none_is_one_object_and_the_errors_code(
    trained: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    code, answer = ask(capfd, "evaluate", trained.profile_path, trained.profile_path, "val")
    assert code == 4
    assert answer["error"]["error"] == "CheckpointError"
    assert str(trained.profile_path) in answer["error"]["message"]


def test_check_reports_every_failed_check(trained: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.toml"
    wrong = tiny_profile(
        teacher__checkpoint=str(tmp_path / "missing.pth"),
        distillation__enabled=True,
        training__precision="fp16",
        training__accelerator="cpu",
    )
    path.write_bytes(dump(wrong))
    code, answer = ask(capfd, "check", path)
    verdicts = {look["name"]: look["ok"] for look in answer["checks"]}
    assert code == 0
    assert verdicts == {
        "training data": True,
        "validation data": True,
        "student": True,
        "precision": False,
        "teacher": False,
    }
    path.write_bytes(dump(tiny_profile(teacher__checkpoint=str(trained.best), distillation__enabled=True)))
    _, answer = ask(capfd, "check", path)
    assert all(look["ok"] for look in answer["checks"])


def test_check_reports_the_progress_of_a_state(trained: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "more.toml"

    def look(profile: Profile, state: Path, *flags: str) -> dict[str, Any]:
        path.write_bytes(dump(profile))
        _, answer = ask(capfd, "check", path, "--resume-from", state, *flags)
        found: dict[str, Any] = answer["checks"][-1]
        assert found["name"] == "resume"
        return found

    more = tiny_profile(training__epochs=5)
    assert look(more, trained.last)["epochs_done"] == 2
    assert look(more, trained.untrained)["epochs_done"] == 0
    done = look(tiny_profile(), trained.last)
    assert (done["ok"], done["hint"]) == (False, "--total-epochs 4")
    assert look(tiny_profile(), trained.last, "--total-epochs", "3")["ok"]
    other = look(tiny_profile(student__decoder_channels=[8, 8, 4]), trained.last)
    assert not other["ok"]
    assert "belong to another network" in other["message"]


def test_inspect_names_a_checkpoint_of_ours(trained: Run, capfd: pytest.CaptureFixture[str]) -> None:
    code, answer = ask(capfd, "inspect", trained.best)
    assert code == 0
    assert (answer["architecture"], answer["encoder"], answer["classes"]) == ("Unet", "tu-test_resnet", 3)
    assert answer["task"] == "hierarchical"


def test_train_writes_why_it_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, data__train_samples=3)
    run.write_launch_record(record(run))
    code, answer = ask(capfd, "train", run.path)
    assert code == 4
    (failed,) = events_of(run)
    assert isinstance(failed, events.Failed)
    assert failed.error == answer["error"]["error"] == "DataError"
    assert "batch" in failed.message


def test_doctor_learns_in_a_few_steps(capfd: pytest.CaptureFixture[str]) -> None:
    code, answer = ask(capfd, "doctor")
    assert code == 0
    assert all(look["ok"] for look in answer["checks"])
    assert "torch" in answer["versions"]
    (learnt,) = [look["message"] for look in answer["checks"] if look["name"] == "torch"]
    first, last = (float(number) for number in re.findall(r"\d\.\d{3}", learnt))
    assert 0 < last < first / 2


def test_a_torch_that_does_not_learn_fails_the_doctor() -> None:
    with pytest.raises(EngineError, match="did not decrease"):
        learn(learning_rate=0.0)
