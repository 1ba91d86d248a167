"""Two sources that number the same classes differently: names decide, and what cannot be matched is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.engine.class_names import class_order, named_classes
from kdtui.engine.evaluate_file import assess
from kdtui.engine.export.source import of_checkpoint, of_run
from kdtui.engine.models import compose
from kdtui.engine.start_point import load_start
from kdtui.engine.teacher import load_teacher, reordered
from kdtui.errors import CheckpointError, TeacherError
from kdtui.events import Noted
from kdtui.profile import Profile, Teacher
from kdtui.store.run import Run
from tests.engine.data.makers import label_folder
from tests.engine.networks import own_payload, unet
from tests.engine.runs import TINY, events_of, fit, make_run

SKY_FIRST = ("sky", "road", "traffic sign")
ROAD_FIRST = ("road", "traffic sign", "sky")
IMAGES = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def folder_of(root: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The same labelled images, with the classes numbered in the order of ``names``."""
    data = label_folder(root, classes="".join(f"{number} {name}\n" for number, name in enumerate(names)), count=8)
    numbers = np.array([names.index(name) if name in names else 1 for name in SKY_FIRST], np.uint8)
    for path in sorted(root.glob("masks/*/*.png")):
        labels = np.array(Image.open(path))
        Image.fromarray(numbers[np.where(labels > 2, 0, labels)]).save(path)
    return data.model_dump(mode="json") | {"height": 32, "width": 32}


def profile_of(data: dict[str, Any], **tables: Any) -> Profile:
    return Profile.model_validate(TINY | {"data": data} | tables)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that knows the sky first."""
    root = tmp_path_factory.mktemp("sky")
    run = make_run(root / "runs", data=folder_of(root / "data", SKY_FIRST), training__epochs=1, name="teacher")
    assert fit(run) == "finished"
    return run


def of(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return network(IMAGES)  # type: ignore[no-any-return]


def write(path: Path, names: Any, *, classes: int = 3, **changes: Any) -> nn.Module:
    network = unet(classes=classes)
    checkpoint.save(path, own_payload(network, **({"task": "semantic", "classes": names} | changes)))
    return network


def test_a_teacher_with_its_classes_in_another_order_answers_in_that_of_the_run(tmp_path: Path) -> None:
    original = write(tmp_path / "a.pth", list(SKY_FIRST))
    loaded, report = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=3, names=ROAD_FIRST)
    assert torch.equal(of(loaded), of(original)[:, [1, 2, 0]])
    note = reordered(report, ROAD_FIRST)
    assert note is not None and "sky, road, traffic sign -> road, traffic sign, sky" in note
    same, report = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=3, names=SKY_FIRST)
    assert torch.equal(of(same), of(original))
    assert reordered(report, SKY_FIRST) is None


def test_the_four_channels_of_a_hierarchical_teacher_follow_the_names_of_its_three_classes(tmp_path: Path) -> None:
    ours = ("background", "target", "other")
    original = write(tmp_path / "a.pth", ["background", "other", "target"], classes=4, task="hierarchical")
    loaded, _ = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="hierarchical", classes=3, names=ours)
    theirs = compose(of(original), "hierarchical").main
    torch.testing.assert_close(compose(of(loaded), "hierarchical").main, theirs[:, [0, 2, 1]])
    write(tmp_path / "b.pth", ["other", "target", "background"], classes=4, task="hierarchical")
    with pytest.raises(TeacherError, match="the background class of this network differs"):
        load_teacher(tmp_path / "b.pth", teacher=Teacher(), task="hierarchical", classes=3, names=ours)


def test_classes_of_other_names_are_refused_unless_the_profile_names_them(tmp_path: Path) -> None:
    original = write(tmp_path / "a.pth", ["himmel", "strasse", "schild"])
    with pytest.raises(TeacherError, match="class names of this network differ") as refused:
        load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=3, names=ROAD_FIRST)
    assert "himmel, strasse, schild" in str(refused.value.found)
    assert "teacher.classes" in str(refused.value.hint)
    loaded, _ = load_teacher(
        tmp_path / "a.pth", teacher=Teacher(classes=SKY_FIRST), task="semantic", classes=3, names=ROAD_FIRST
    )
    assert torch.equal(of(loaded), of(original)[:, [1, 2, 0]])
    with pytest.raises(TeacherError, match=r"teacher\.classes") as refused:
        load_teacher(tmp_path / "a.pth", teacher=Teacher(classes=("a", "b")), task="semantic", classes=3)
    assert "3 names" in str(refused.value.allowed)


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": list(SKY_FIRST)},
        {"class_names": SKY_FIRST},
        {"meta": {"CLASSES": SKY_FIRST, "epoch": 3}},
        {"names": dict(enumerate(SKY_FIRST))},
        {"config": {"id2label": {str(number): name for number, name in enumerate(SKY_FIRST)}}},
        {"hyper_parameters": {"classes": ["Sky", "ROAD", "traffic_sign"]}},
        {"classes": ["too", "few"], "class_names": list(SKY_FIRST)},
    ],
)
def test_names_in_files_of_others_are_compared_too(tmp_path: Path, beside: dict[str, Any]) -> None:
    original = unet(classes=3)
    torch.save({"state_dict": original.state_dict()} | beside, tmp_path / "a.pth")
    loaded, _ = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=3, names=ROAD_FIRST)
    assert torch.equal(of(loaded), of(original)[:, [1, 2, 0]])


@pytest.mark.parametrize("classes", [3, ["LABEL_0", "LABEL_1", "LABEL_2"], ["0", "1", "2"], [1, 2, 3], ["a", "", "b"]])
def test_what_names_no_classes_is_not_compared(classes: Any) -> None:
    assert list(named_classes({"classes": classes})) == []


def test_long_lists_of_names_are_read_whole(tmp_path: Path) -> None:
    names = [f"a class with a rather long name, number {number}" for number in range(150)]
    write(tmp_path / "a.pth", names, classes=150)
    _, report = load_teacher(tmp_path / "a.pth", teacher=Teacher(), task="semantic", classes=150, names=names)
    assert report.class_names == names


def test_case_and_separators_do_not_tell_classes_apart_unless_nothing_else_does() -> None:
    assert class_order(["Traffic Sign", "road"], ["road", "traffic_sign"]) == [1, 0]
    assert class_order(["Road", "road"], ["road", "Road"]) == [1, 0]
    assert class_order(["Road", "road"], ["road", "ROAD"]) is None
    assert class_order(["road"], ["road", "sky"]) is None


def test_check_reports_that_the_teacher_is_reordered(tmp_path: Path, trained: Run) -> None:
    profile = profile_of(
        folder_of(tmp_path, ROAD_FIRST), distillation={"enabled": True}, teacher={"checkpoint": str(trained.best)}
    )
    teacher = next(line for line in check(profile)["checks"] if line["name"] == "teacher")
    assert teacher["ok"] and "reordered by name" in teacher["message"]


def test_a_distilled_run_is_taught_by_name_and_notes_it_once(tmp_path: Path, trained: Run) -> None:
    changes: dict[str, Any] = {"distillation": {"enabled": True}, "teacher": {"checkpoint": str(trained.best)}}
    run = make_run(tmp_path / "runs", data=folder_of(tmp_path / "data", ROAD_FIRST), training__epochs=1, **changes)
    assert fit(run) == "finished"
    assert fit(run, attempt=2, total_epochs=2) == "finished"
    notes = [event.message for event in events_of(run) if isinstance(event, Noted)]
    assert len([note for note in notes if "reordered by name" in note]) == 1
    told = assess(trained.profile(), str(trained.best), "val")
    started = next(event for event in events_of(run) if event.kind == "started")
    assert started.teacher["iou"] == pytest.approx(told["iou"])  # type: ignore[attr-defined]


def test_evaluation_on_data_in_another_order_gives_the_same_scores(tmp_path: Path, trained: Run) -> None:
    (tmp_path / "file").write_text("")
    own = assess(trained.profile(), str(trained.best), "val", out=tmp_path / "file" / "val.json")
    other = assess(profile_of(folder_of(tmp_path / "same", ROAD_FIRST)), str(trained.best), "val")
    assert own["note"].startswith("could not write the scores to the run: ") and "reordered by name" in other["note"]
    assert other["iou"] == pytest.approx(own["iou"])
    strange = profile_of(folder_of(tmp_path / "strange", ("road", "lamp", "sky")))
    with pytest.raises(CheckpointError, match="class names of this network differ") as refused:
        assess(strange, str(trained.best), "val")
    assert "--profile" in str(refused.value.hint)


def test_a_checkpoint_of_classes_in_another_order_is_not_resumed(trained: Run) -> None:
    start = checkpoint.load(trained.last)
    network = unet(TINY["student"]["encoder"], classes=3)
    load_start(network, start, trained.last, SKY_FIRST)
    for names, said in ((ROAD_FIRST, "another order"), (("sky", "road", "lamp"), "classes of this checkpoint differ")):
        with pytest.raises(CheckpointError, match=said) as refused:
            load_start(network, start, trained.last, names)
        assert "sky, road, traffic sign" in str(refused.value.found)


def test_an_export_is_scored_with_the_labels_of_its_own_order(tmp_path: Path, trained: Run) -> None:
    other = profile_of(folder_of(tmp_path / "data", ROAD_FIRST))
    own = of_run(trained, trained.best)
    foreign = of_checkpoint(trained.best, teacher=Teacher(), profile=other)
    assert own.note() is None
    assert "matched by name" in str(foreign.note())
    for mine, theirs in zip(own.validation() or (), foreign.validation() or (), strict=True):
        assert torch.equal(mine.masks, theirs.masks)
    strange = profile_of(folder_of(tmp_path / "strange", ("road", "lamp", "sky")))
    with pytest.raises(CheckpointError, match="classes of the data differ"):
        of_checkpoint(trained.best, teacher=Teacher(), profile=strange).note()
