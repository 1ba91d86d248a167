"""Runs whose data or teacher were moved: refused before anything changes; `--set` says where they are now."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained


@pytest.fixture
def data(here: Path) -> Path:
    folder = here / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def run(trained: Trained, data: Path) -> Run:
    """A finished run whose data were moved away."""
    run = trained("mine", "data.kind=folder", f"data.root={data}", "data.augmentation=light")
    data.rename(data.with_name("elsewhere"))
    return run


VERBS = {
    "resume": ["resume", "mine", "--total-epochs", "2"],
    "evaluate": ["evaluate", "mine"],
    "export": ["export", "mine"],
}


def snapshot(run: Run) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_without_its_data_is_refused_unchanged_with_the_option_in_the_hint(
    kdtui: Kdtui, store: RunStore, run: Run, data: Path, verb: str
) -> None:
    before = snapshot(run)
    refused = kdtui(*VERBS[verb])
    assert refused.code == 4
    assert "data are not at the recorded location" in refused.err
    assert str(data) in refused.err
    assert f"kdtui {verb} {run.id} --set data.root=FOLDER" in refused.err
    assert snapshot(run) == before
    assert store.summary(run).state is State.FINISHED


@pytest.mark.parametrize("verb", VERBS)
def test_where_the_data_are_now_is_said_once_and_kept(
    kdtui: Kdtui, store: RunStore, run: Run, data: Path, verb: str
) -> None:
    profile = run.profile_path.read_bytes()
    done = kdtui(*VERBS[verb], "--set", "data.root=elsewhere")
    assert done.code == 0, done.err
    assert run.profile_path.read_bytes() == profile
    assert run.overrides() == {"data": {"root": str(data.with_name("elsewhere"))}}
    assert run.profile_table()["data"]["root"] == str(data.with_name("elsewhere"))
    for words in VERBS.values():
        if words[0] != "resume" or verb != "resume":
            assert kdtui(*words).code == 0
    assert kdtui("show", "mine", "--json").json["profile"]["data"]["root"] == str(data.with_name("elsewhere"))


def test_training_images_that_are_gone_keep_int8_alone_from_being_exported(
    kdtui: Kdtui, trained: Trained, here: Path
) -> None:
    sets = ["data.kind=coco"]
    for split in ("train", "val"):
        images, annotations = here / split, here / f"{split}.json"
        images.mkdir()
        annotations.write_text("{}")
        sets += [f"data.{split}.images={images}", f"data.{split}.annotations={annotations}"]
    run = trained("mine", *sets)
    (here / "train").rmdir()
    done = kdtui("export", "mine", "--precision", "int8", "--precision", "fp32", "--json")
    assert (done.code, [row.get("error") for row in done.json]) == (4, ["DataError", None])
    assert done.err.count("data are not at the recorded location") == 1
    assert run.exports() == [run.best.with_suffix(".onnx")]


def test_boxes_of_a_detector_are_for_one_evaluation(kdtui: Kdtui, trained: Trained, here: Path) -> None:
    (here / "images").mkdir()
    for name in ("train.json", "boxes.json"):
        (here / name).write_text("{}")
    place = [f"data.train.images={here / 'images'}", f"data.train.annotations={here / 'train.json'}"]
    run = trained("mine", "data.kind=coco", *place, "data.sample=image", "data.augmentation=light", "student.kind=roi")
    before = snapshot(run)
    done = kdtui("evaluate", "mine", "--split", "val", "--set", "data.boxes=boxes.json", "--json")
    assert (done.code, done.json["boxes"]) == (0, str(here / "boxes.json"))
    assert snapshot(run) == before  # neither the key nor the scores are kept
    refused = kdtui("evaluate", "mine", "--split", "val", "--set", "data.boxes=nowhere.json")
    assert refused.code == 4 and "nowhere.json" in refused.err
    for words in (VERBS["resume"], VERBS["export"]):
        assert "data.boxes cannot be changed" in kdtui(*words, "--set", "data.boxes=boxes.json").err


def test_a_place_that_is_wrong_is_not_kept(kdtui: Kdtui, run: Run) -> None:
    for words in VERBS.values():
        refused = kdtui(*words, "--set", "data.root=nowhere")
        assert refused.code == 4
        assert "nowhere" in refused.err
    assert run.overrides() == {}


@pytest.mark.parametrize(
    "setting", ["data.height=64", "seed=3", "training.batch_size=2", "data.val.images=x", "distillation.alpha=0.1"]
)
def test_what_is_trained_cannot_be_set_for_a_run_that_exists(kdtui: Kdtui, run: Run, setting: str) -> None:
    key = setting.partition("=")[0]
    for words in VERBS.values():
        refused = kdtui(*words, "--set", setting)
        assert refused.code == 2
        assert f"{key} cannot be changed for an existing run" in refused.err
        assert "data.root, " in refused.err
    assert run.overrides() == {}


def test_another_teacher_is_refused_and_a_copy_of_the_same_is_kept(
    kdtui: Kdtui, store: RunStore, trained: Trained, here: Path
) -> None:
    teacher, copy, other = here / "teacher.pth", here / "copy.pth", here / "other.pth"
    teacher.write_text("weights")
    copy.write_text("weights")
    other.write_text("other weights")
    trained("pupil", profile="distill-b0-from-b3", teacher=str(teacher))
    teacher.unlink()
    resume = ["resume", "pupil", "--total-epochs", "2"]
    gone = kdtui(*resume)
    assert gone.code == 4
    assert "--set teacher.checkpoint=FILE" in gone.err
    refused = kdtui(*resume, "--set", f"teacher.checkpoint={other}")
    assert refused.code == 2
    assert "not the teacher that the run was created with" in refused.err
    assert store.summary(store.find("pupil")).state is State.FINISHED
    assert kdtui(*resume, "--set", "teacher.checkpoint=copy.pth").code == 0
    assert store.find("pupil").profile().teacher.checkpoint == str(copy)


def test_damaged_overrides_are_one_message(kdtui: Kdtui, run: Run) -> None:
    run.overrides_path.write_text("[data\n")
    refused = kdtui("evaluate", "mine")
    assert refused.code == 3
    assert "overrides.toml is damaged" in refused.err
    assert "delete that file" in refused.err


def test_a_horizon_behind_the_run_is_refused_before_it_changes(kdtui: Kdtui, store: RunStore, trained: Trained) -> None:
    run = trained("done", epochs=2)
    before = snapshot(run)
    for words in ([], ["--dry-run"], ["--detach"]):
        refused = kdtui("resume", "done", "--total-epochs", "2", *words)
        assert refused.code == 2
        assert "2 epochs are trained already" in refused.err
    assert snapshot(run) == before
    assert store.summary(run).state is State.FINISHED


def test_a_dry_run_shows_where_a_run_would_continue(kdtui: Kdtui, trained: Trained) -> None:
    run = trained("lost")
    before = snapshot(run)
    looked = kdtui("resume", "lost", "--total-epochs", "2", "--dry-run")
    assert looked.code == 0
    assert "resume: resumes after epoch 1" in looked.out
    assert "WARN last.pth is missing" in looked.out
    assert snapshot(run) == before
    assert "WARN last.pth is missing" in kdtui("resume", "lost", "--total-epochs", "2").err
