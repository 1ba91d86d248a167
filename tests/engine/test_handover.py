"""What a check leaves to the training of the same process: taken once, and only if what it came from is unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdtui.engine import checkpoint, handover
from kdtui.engine.check import check
from kdtui.engine.data import build_dataset, survey
from kdtui.engine.handover import leaving, made_once
from kdtui.engine.setup import set_up
from kdtui.engine.teacher import LoadedTeacher, teacher_of
from kdtui.profile import Profile
from tests.engine.runs import fit, make_run, record, tiny_profile


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_left", {})


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """The weights of a run of the same network."""
    return set_up_weights(tmp_path / "teachers")


def set_up_weights(root: Path) -> Path:
    run = make_run(root)
    set_up(run, record(run), world_size=1)
    return run.untrained


def distilled(teacher: Path, **changes: Any) -> dict[str, Any]:
    return {"teacher__checkpoint": str(teacher), "distillation__enabled": True} | changes


def loaded(profile: Profile) -> LoadedTeacher:
    teacher = teacher_of(profile, build_dataset(profile.data, "val"))
    assert teacher is not None
    return teacher


def test_a_result_is_taken_once() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    assert made_once("x", lambda: 1, make) == 0
    assert made_once("x", lambda: 1, make) == 1
    with leaving():
        assert made_once("x", lambda: 1, make) == 2
    assert made_once("x", lambda: 1, make) == 2
    assert made_once("x", lambda: 1, make) == 3


def test_a_result_of_something_else_is_not_taken() -> None:
    with leaving():
        made_once("x", lambda: 1, lambda: "old")
    assert made_once("x", lambda: 2, lambda: "new") == "new"


@pytest.mark.parametrize(
    "change",
    [
        lambda teacher: os.utime(teacher, ns=(0, 0)),
        lambda teacher: teacher.write_bytes(teacher.read_bytes()),
        lambda teacher: set_up_weights(teacher.parents[2] / "others").replace(teacher),
    ],
    ids=["time", "written again", "another file"],
)
def test_a_teacher_whose_file_changed_is_loaded_again(teacher: Path, change: Callable[[Path], None]) -> None:
    profile = tiny_profile(**distilled(teacher))
    with leaving():
        former = loaded(profile)
    change(teacher)
    assert loaded(profile) is not former


def test_a_teacher_for_other_images_or_settings_is_loaded_again(teacher: Path) -> None:
    for changes in ({"data__height": 64}, {"teacher__scale": 2.0}):
        with leaving():
            former = loaded(tiny_profile(**distilled(teacher)))
        assert loaded(tiny_profile(**distilled(teacher, **changes))) is not former
    with leaving():
        former = loaded(tiny_profile(**distilled(teacher)))
    assert loaded(tiny_profile(**distilled(teacher))) is former


def test_a_survey_is_that_of_the_same_split() -> None:
    data = tiny_profile().data
    with leaving():
        surveys = [survey(build_dataset(data, split)) for split in ("train", "val")]
    assert survey(build_dataset(data, "val")) is surveys[1]
    assert survey(build_dataset(data.model_copy(update={"train_limit": 8}), "train")).total == 8


def test_a_training_after_its_check_equals_one_without(teacher: Path, tmp_path: Path) -> None:
    """Weights, and all other numbers of the last checkpoint, bit for bit."""

    def trained(root: Path, *, checked: bool) -> tuple[dict[str, Any], list[str]]:
        run = make_run(root, **distilled(teacher))
        if checked:
            with leaving():
                assert all(answer["ok"] for answer in check(run.profile(), store=root)["checks"])
        names = [*handover._left]
        fit(run)
        return checkpoint.load(run.last), names

    alone, nothing = trained(tmp_path / "a", checked=False)
    after, left = trained(tmp_path / "b", checked=True)
    assert not nothing
    assert {"teacher", "survey of train", "survey of val"} <= {*left} and not handover._left
    for key, value in alone["student"].items():
        assert torch.equal(value, after["student"][key]), key
    ours, theirs = alone["resume"]["optimizer"]["state"], after["resume"]["optimizer"]["state"]
    assert all(torch.equal(ours[place][key], theirs[place][key]) for place in ours for key in ours[place])
