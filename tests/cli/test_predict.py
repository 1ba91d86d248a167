"""predict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Kdtui, Trained


@pytest.fixture
def pictures(here: Path) -> Path:
    for name in ("pictures/1.png", "pictures/deep/2.jpg"):
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    return here / "pictures"


def test_a_folder_is_segmented_into_another(kdtui: Kdtui, trained: Trained, pictures: Path) -> None:
    trained("city")
    done = kdtui("predict", "city", str(pictures), "-o", "out")
    assert (done.code, done.out) == (0, "2 pictures in out\n")
    assert "resize, 64x48, auto, 12.0 pictures per second" in done.err
    assert {str(path.relative_to("out")) for path in Path("out").rglob("*.png")} == {"1.png", "deep/2.png"}


def test_options_reach_the_engine(kdtui: Kdtui, trained: Trained, pictures: Path) -> None:
    best = trained("city").best
    done = kdtui("predict", str(best), "pictures/*.png", "--to", "out", "--slide", "--device", "cpu", "--json")
    assert (done.json["mode"], done.json["device"], done.json["pictures"]) == ("slide", "cpu", 1)


def test_skipped_pictures_are_named_and_end_in_an_error(kdtui: Kdtui, trained: Trained, pictures: Path) -> None:
    trained("city")
    (pictures / "empty.png").touch()
    done = kdtui("predict", "city", "pictures", "-o", "out", "--json")
    assert done.code == 4
    assert [entry["picture"] for entry in done.json["skipped"]] == [str(pictures / "empty.png")]
    assert "an image cannot be read" in done.err
    assert len(list(Path("out").rglob("*.png"))) == 2


def test_boxes_reach_the_engine_and_instances_are_counted(kdtui: Kdtui, trained: Trained, pictures: Path) -> None:
    trained("people")
    Path("boxes.json").write_text("[1, 2, 3]")
    done = kdtui("predict", "people", "pictures", "-o", "out", "--boxes", "boxes.json")
    assert (done.code, done.out) == (0, "2 pictures, 2 instances in out\n")
    assert "1 picture without a box\n" in done.err and "boxes of other pictures: 1\n" in done.err
    assert Path("out/instances.json").read_text() == "[1, 2]"


def test_the_results_never_replace_the_boxes(kdtui: Kdtui, trained: Trained, pictures: Path) -> None:
    trained("people")
    Path("out").mkdir()
    Path("out/instances.json").write_text("[]")
    done = kdtui("predict", "people", "pictures", "-o", "out", "--boxes", "out/instances.json")
    assert done.code == 4 and "the results would replace the file of boxes" in done.err
    assert Path("out/instances.json").read_text() == "[]"


def test_modes_that_exclude_each_other(kdtui: Kdtui, trained: Trained, pictures: Path) -> None:
    trained("city")
    done = kdtui("predict", "city", "pictures", "-o", "out", "--slide", "--evaluation", "whole")
    assert done.code == 2
    assert "--slide and --evaluation whole exclude each other" in done.err
    done = kdtui("predict", "city", "pictures", "-o", "out", "--evaluation", "whole", "--overlap", "0.5")
    assert "--overlap is for windows" in done.err
