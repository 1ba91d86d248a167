from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine.data import (
    IGNORE_INDEX,
    Batch,
    UnlabelledImages,
    build_dataset,
    build_unlabelled,
    train_loader,
)
from kdtui.engine.data.unlabelled import files_of
from kdtui.engine.sanity import unlabelled_warnings
from kdtui.errors import DataError
from kdtui.profile import DataTable, SyntheticData, Training
from tests.engine.data.makers import label_folder
from tests.engine.data.miniatures import image, saved

CROPS = SyntheticData.model_validate(
    {"height": 32, "width": 24, "train_samples": 20, "train_limit": 5, "unlabelled": {}, "augmentation": "heavy"}
)


def unlabelled_of(data: DataTable, **changes: Any) -> UnlabelledImages:
    """The images without labels of a table with other keys in ``unlabelled``."""
    assert data.unlabelled is not None
    data = data.model_copy(update={"unlabelled": data.unlabelled.model_copy(update=changes)})
    images = build_unlabelled(data, build_dataset(data, "train"))
    assert images is not None
    return images


def folder(root: Path, unlabelled: Path, **keys: Any) -> DataTable:
    """A folder of labelled images, and ``unlabelled``."""
    return label_folder(root, unlabelled={"images": str(unlabelled)}, **keys)


def pictures(root: Path, count: int = 4) -> Path:
    for number in range(count):
        saved(image(100 + number), root / f"city{number % 2}/{number}.png")
    return root


@pytest.mark.parametrize(("limit", "labelled"), [(5, 5), (0.1, 2), (0.01, 1)])
def test_training_samples_beyond_the_limit_are_without_labels(limit: float, labelled: int) -> None:
    data = CROPS.model_copy(update={"train_limit": limit, "augmentation": "none", "seed": 3})
    train_set, images = build_dataset(data, "train"), unlabelled_of(data)
    everything = build_dataset(data.model_copy(update={"train_limit": None}), "train")
    assert len(train_set) == labelled and len(images) == 20 - labelled
    used = [train_set.read(index).image for index in range(labelled)]
    used += [images.image(index) for index in range(len(images))]
    expected = sorted(everything.read(index).image.tobytes() for index in range(20))
    assert sorted(one.tobytes() for one in used) == expected


def test_no_sample_without_labels_is_an_error() -> None:
    with pytest.raises(DataError, match="no training sample is left") as caught:
        unlabelled_of(CROPS.model_copy(update={"train_limit": 20}))
    assert (caught.value.where, caught.value.found) == ("data.train_limit", "20 of 20 samples")


def test_steps_take_every_image_once_before_one_returns_in_another_view() -> None:
    images = unlabelled_of(CROPS)
    keys = [key for step in range(10) for key in images.keys(step, 6)]
    for turn in range(4):
        own = keys[turn * 15 : (turn + 1) * 15]
        assert sorted(index for index, _ in own) == list(range(15))
        assert {view for _, view in own} == {turn}
    assert keys[:15] != [(index, 0) for index, _ in keys[15:30]]
    assert {view for _, view in unlabelled_of(CROPS.model_copy(update={"views": 2})).keys(7, 6)} == {0, 1}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_workers_micro_batches_or_where_they_start(workers: int) -> None:
    train_set, images = build_dataset(CROPS.model_copy(update={"train_limit": 10}), "train"), unlabelled_of(CROPS)

    def pictures_of(start_step: int = 0, **settings: Any) -> list[torch.Tensor]:
        training = Training(batch_size=4, **settings)
        loader = train_loader(train_set, training, seed=0, epoch=2, start_step=start_step, unlabelled=images)
        steps = [batch for batch in loader if batch.weak is not None]
        return [value for batch in steps for pair in zip(batch.images, weak_of(batch), strict=True) for value in pair]

    whole = pictures_of()
    assert len(whole) == 2 * 2 * 4
    for other in (pictures_of(workers=workers, micro_batch_size=2), [*whole[:8], *pictures_of(1, workers=workers)]):
        assert all(torch.equal(one, two) for one, two in zip(whole, other, strict=True))


def weak_of(batch: Batch) -> torch.Tensor:
    assert batch.weak is not None
    return batch.weak


def test_the_labelled_batches_are_those_of_the_baseline() -> None:
    train_set, training = build_dataset(CROPS, "train"), Training(batch_size=4, micro_batch_size=2)
    plans = [
        train_loader(train_set, training, seed=0, epoch=1, unlabelled=images).plan
        for images in (None, unlabelled_of(CROPS, share=0.75))
    ]
    assert plans[0] == [part for part in plans[1] if part[0][0] < len(train_set)]
    assert len(plans[1]) == 4 * len(plans[0])


def test_epochs_go_on_where_the_last_one_ended() -> None:
    train_set, images = build_dataset(CROPS, "train"), unlabelled_of(CROPS)
    plans = [
        train_loader(train_set, Training(batch_size=5), seed=0, epoch=epoch, unlabelled=images).plan
        for epoch in range(1, 4)
    ]
    taken = [index - len(train_set) for plan in plans for index, _ in plan[0]]
    assert sorted(taken) == list(range(15))


def test_both_networks_see_the_same_crop_in_colours_of_their_own() -> None:
    same = unlabelled_of(CROPS, colours="none")[3, 1]
    other = unlabelled_of(CROPS, colours="heavy")[3, 1]
    assert same.weak is not None and other.weak is not None
    assert torch.equal(same.image, same.weak) and torch.equal(same.weak, other.weak)
    assert not torch.equal(other.image, other.weak)
    assert torch.equal(same.mask, other.mask)


@pytest.mark.parametrize("geometry", [{"keep_aspect": True}, {"geometry": "crop", "scale": [0.5, 0.5]}])
def test_what_shows_no_picture_is_ignored(tmp_path: Path, geometry: dict[str, Any]) -> None:
    saved(np.full((20, 60, 3), 255, np.uint8), tmp_path / "more/white.png")
    images = unlabelled_of(folder(tmp_path / "data", tmp_path / "more", **geometry))
    sample = images[0, 0]
    assert sample.weak is not None
    assert {*sample.mask.unique().tolist()} == {0, IGNORE_INDEX}
    white = images.image(0)[0, 0, 0] / 255 - torch.tensor((0.485, 0.456, 0.406))
    counted = sample.mask == 0
    inner = sample.weak.permute(1, 2, 0)[counted] * torch.tensor((0.229, 0.224, 0.225))
    assert (inner - white).abs().median() < 0.01
    # Nearly all of what is filled with the mean colour is ignored; a border is interpolated.
    filled = (sample.weak.abs() < 0.02).all(dim=0)
    assert not (filled & counted).any() and filled.any()


def test_images_may_have_any_size_and_be_grey(tmp_path: Path) -> None:
    more = pictures(tmp_path / "more", 2)
    saved(np.full((11, 90), 7, np.uint8), more / "grey.png")
    images = unlabelled_of(folder(tmp_path / "data", more))
    shapes = {images[index, 0].image.shape for index in range(3)}
    assert len(images) == 3 and len(shapes) == 1


def test_images_are_a_folder_a_pattern_or_a_list(tmp_path: Path) -> None:
    more = pictures(tmp_path / "more")
    (more / "notes.txt").write_text("city0/0.png\n\ncity1/3.png\n")

    def names(text: str) -> list[str]:
        return [path.name for path in files_of(str(more / text))]

    assert names("") == ["0.png", "2.png", "1.png", "3.png"]
    assert names("city1") == names("city1/*.png") == names("*1/{name}") == names("*1/**") == ["1.png", "3.png"]
    assert names("**/*2.png") == ["2.png"]
    assert names("notes.txt") == ["0.png", "3.png"]


@pytest.mark.parametrize("text", ["absent", "empty", "more/*.jpg", "more/absent.txt"])
def test_no_image_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty").mkdir()
    pictures(tmp_path / "more")
    with pytest.raises(DataError, match="there are no images without labels") as caught:
        unlabelled_of(folder(tmp_path / "data", tmp_path / text))
    assert caught.value.where == "data.unlabelled.images"
    assert str(tmp_path / text) in str(caught.value.found)


def test_unreadable_images_are_named_and_replaced_by_the_next(tmp_path: Path) -> None:
    more = pictures(tmp_path / "more", 20)
    (more / "city0/10.png").write_bytes(b"no picture")
    data = folder(tmp_path / "data", more)
    images = unlabelled_of(data)
    (warning,) = unlabelled_warnings(images, data, build_dataset(data, "val"))
    assert warning.code == "unreadable-image" and "10.png" in warning.message
    broken = next(index for index, path in enumerate(images.files) if path.name == "10.png")
    replaced = images[broken, 0]
    assert [("10.png" in text) for text in replaced.skipped] == [True]
    assert torch.equal(replaced.image, images[broken + 1, 0].image)


def test_too_many_unreadable_images_are_an_error(tmp_path: Path) -> None:
    more = pictures(tmp_path / "more", 4)
    for path in more.rglob("*.png"):
        path.write_bytes(b"no picture")
    data = folder(tmp_path / "data", more)
    images = unlabelled_of(data)
    with pytest.raises(DataError, match="4 of 4 looked-at images without labels cannot be read"):
        unlabelled_warnings(images, data, build_dataset(data, "val"))
    with pytest.raises(DataError, match="4 of 4"):
        images[0, 0]


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluated_images_are_refused_by_their_content(tmp_path: Path, split: str) -> None:
    more = pictures(tmp_path / "more")
    data = folder(tmp_path / "data", more)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind / "val").rename(tmp_path / "data" / kind / "kept")
        (tmp_path / "data" / kind / "kept").rename(tmp_path / "data" / kind / split)
    if split == "test":
        label_folder(tmp_path / "data")
        for number in range(3):
            saved(image(number), tmp_path / f"data/images/{split}/{number}.png")
    evaluated = tmp_path / f"data/images/{split}/1.png"
    (more / "another name.png").write_bytes(evaluated.read_bytes())
    images = unlabelled_of(data)
    with pytest.raises(DataError, match=f"images of the {split} split are among those without labels") as caught:
        unlabelled_warnings(images, data, build_dataset(data, "val"))
    assert "1.png" in str(caught.value.found)


def test_where_crops_are_does_not_depend_on_labels() -> None:
    """Crops around rare classes would tell where they are."""
    images = unlabelled_of(CROPS)
    source = images._read(0, lambda size: size)
    assert not source.labels.any()
    assert Image.fromarray(np.asarray(source.image)).size == (source.labels.shape[1], source.labels.shape[0])
