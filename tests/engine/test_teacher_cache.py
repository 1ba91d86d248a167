from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdtui.engine.metrics import Scores
from kdtui.engine.teacher_cache import TeacherCache
from kdtui.profile import CocoData, CocoSplit

SCORES = Scores(miou=0.5, iou={"background": 0.5}, dice=0.6, pixel_accuracy=0.7)

SHAPE = (3, 4, 5)


def cache(folder: Path) -> TeacherCache:
    return TeacherCache(folder, teacher_sha256="0", fingerprint="{}", precision="fp32", rank=0, world_size=1)


def fill(predictions: np.ndarray) -> Scores:
    predictions[:] = 2
    return SCORES


def test_an_answer_is_read_back(tmp_path: Path) -> None:
    assert cache(tmp_path).read(SHAPE) is None
    cache(tmp_path).write(SHAPE, fill, last=True)
    kept = cache(tmp_path).read(SHAPE)
    assert kept is not None
    assert kept[0] == SCORES
    assert (kept[1] == 2).all()


@pytest.mark.parametrize("size", [0, 3, 100, 150])
def test_a_file_that_is_not_whole_is_no_answer(tmp_path: Path, size: int) -> None:
    cache(tmp_path).write(SHAPE, fill, last=True)
    (predictions,) = tmp_path.glob("*.npy")
    predictions.write_bytes(predictions.read_bytes()[:size])
    assert cache(tmp_path).read(SHAPE) is None


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        '{"miou": "0.5", "iou": {}, "dice": 0.6, "pixel_accuracy": 0.7, "agreement": null}',
        '{"miou": NaN, "iou": {}, "dice": 0.6, "pixel_accuracy": 0.7, "agreement": null}',
        '{"miou": 0.5, "iou": {"a": []}, "dice": 0.6, "pixel_accuracy": 0.7, "agreement": null}',
    ],
)
def test_scores_of_other_types_are_no_answer(tmp_path: Path, body: str) -> None:
    cache(tmp_path).write(SHAPE, fill, last=True)
    (scores,) = tmp_path.glob("*.json")
    scores.write_text(body)
    assert cache(tmp_path).read(SHAPE) is None


def test_predictions_of_another_size_or_type_are_no_answer(tmp_path: Path) -> None:
    cache(tmp_path).write(SHAPE, fill, last=True)
    assert cache(tmp_path).read((3, 5, 4)) is None
    (predictions,) = tmp_path.glob("*.npy")
    np.save(predictions, np.zeros(SHAPE, np.float64))
    assert cache(tmp_path).read(SHAPE) is None


def test_a_store_that_cannot_keep_it_still_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    scores, predictions = cache(tmp_path / "file").write(SHAPE, fill, last=True)
    assert scores == SCORES
    assert (predictions == 2).all()
    assert "are not cached" in capsys.readouterr().err


def coco(folder: Path) -> CocoData:
    def split(name: str) -> CocoSplit:
        return CocoSplit(images=str(folder), annotations=str(folder / f"{name}.json"))

    return CocoData(kind="coco", train=split("train"), val=split("val"), test=split("test"))


def test_the_validation_set_does_not_depend_on_the_files_of_other_splits(tmp_path: Path) -> None:
    data = coco(tmp_path)
    (tmp_path / "val.json").write_text("{}")
    alone = data.fingerprint("val")  # neither train nor test is there
    (tmp_path / "test.json").write_text("{}")
    assert data.fingerprint("val") == alone
    (tmp_path / "val.json").write_text("{ }")
    assert data.fingerprint("val") != alone


def test_a_held_out_validation_set_depends_on_the_training_file(tmp_path: Path) -> None:
    data = coco(tmp_path).model_copy(update={"val": None})
    (tmp_path / "train.json").write_text("{}")
    before = data.fingerprint("val")
    (tmp_path / "train.json").write_text("{ }")
    assert data.fingerprint("val") != before
