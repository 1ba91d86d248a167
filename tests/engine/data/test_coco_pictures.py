"""Whole pictures of COCO files, with boxes and label maps cut from the annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine.data import IGNORE_INDEX, build_dataset, survey
from kdtui.engine.data.instances import PictureSamples
from kdtui.engine.roi.align import roi_align
from kdtui.errors import DataError
from kdtui.profile import CocoData
from tests.engine.data.makers import annotation, coco, counts, instances, picture, rectangle

KEYS: dict[str, Any] = {"sample": "image", "minimum_size": 10, "padding": 0.25, "height": 40, "width": 60}
KEYS |= {"mask_size": (20, 12), "min_box": 1, "roi_padding": 0.0}
PERSON, CROWD = (10, 5, 20, 30), (40, 0, 10, 40)


def pictures(folder: Path, *annotations: dict[str, Any], split: str = "val", **keys: Any) -> PictureSamples:
    """The picture of 60x40 pixels with these annotations."""
    dataset = build_dataset(coco(folder, instances(*annotations), **KEYS | keys), split)
    assert isinstance(dataset, PictureSamples)
    return dataset


def only_mask(dataset: PictureSamples) -> np.ndarray[Any, Any]:
    (mask,) = dataset[0, 0].mask.numpy()
    return np.asarray(mask)


def ellipse(x: float, y: float, across: float, down: float) -> list[list[float]]:
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    return [np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], axis=1).ravel().tolist()]


def test_the_label_map_is_the_shape_at_the_centres_of_the_cells(tmp_path: Path) -> None:
    size = {"width": 600, "height": 400}
    shape = annotation(1, (100, 50, 300, 200), segmentation=ellipse(250, 150, 150, 100))
    content = instances(shape, **size)
    data = coco(tmp_path, content, picture(**size), **KEYS | {"roi_padding": 0.2, "mask_size": (160, 120)})
    dataset = build_dataset(data, "val")
    sample = dataset[0, 0]
    (_, left, top, right, bottom), mask = sample.extras["rois"][0].tolist(), sample.mask[0].numpy()
    assert (left, top, right, bottom) == pytest.approx((4, 1, 46, 29))  # a tenth of the file's pixels
    x = 10 * (left + (np.arange(120) + 0.5) * (right - left) / 120)
    y = 10 * (top + (np.arange(160) + 0.5) * (bottom - top) / 160)
    distance = np.hypot((x[None] - 250) / 150, (y[:, None] - 150) / 100)
    certain = np.abs(distance - 1) > 0.012  # more than a pixel of the file from the outline
    assert certain.mean() > 0.98
    assert np.array_equal((mask == 1)[certain], (distance < 1)[certain])


def test_the_label_map_is_roi_align_of_a_label_image_at_full_resolution(tmp_path: Path) -> None:
    size = {"width": 600, "height": 400}
    shape = ellipse(250, 150, 150, 100)
    content = instances(annotation(1, (100, 50, 300, 200), segmentation=shape), **size)
    keys = KEYS | {"roi_padding": 0.4, "mask_size": (80, 60)}
    dataset = build_dataset(coco(tmp_path, content, picture(**size), **keys), "val")
    sample, whole = dataset[0, 0], torch.from_numpy(dataset.read(0).labels == 1)
    assert whole.sum() == pytest.approx(np.pi * 150 * 100, rel=0.01)
    share = roi_align(whole[None, None].double(), sample.extras["rois"].double(), (80, 60), scale=10.0)[0, 0]
    seen = sample.mask[0] != IGNORE_INDEX
    assert not seen.all()  # the enlarged box reaches out of the picture
    certain = seen & ((share < 0.01) | (share > 0.99))
    assert certain.sum() > 0.95 * seen.sum()
    assert torch.equal((sample.mask[0] == 1)[certain], (share > 0.5)[certain])


def test_a_whole_picture_keeps_its_aspect_and_is_padded_right_and_below(tmp_path: Path) -> None:
    dataset = pictures(tmp_path, annotation(1, PERSON), height=64, width=48)
    sample = dataset[0, 0]
    scale = 48 / 60
    assert sample.extras["rois"].tolist() == [pytest.approx([0, 10 * scale, 5 * scale, 30 * scale, 35 * scale])]
    assert sample.image.shape == (3, 64, 64)
    foreground = sample.extras["foreground"]
    assert foreground.shape == (1, 64, 64) and foreground.dtype == torch.uint8
    assert (foreground[0, :32, :48] != IGNORE_INDEX).all()
    assert (foreground[0, 32:] == IGNORE_INDEX).all() and (foreground[0, :, 48:] == IGNORE_INDEX).all()
    assert (foreground == 1).sum() == pytest.approx(20 * 30 * scale**2, rel=0.1)
    assert sample.image[:, 40:].abs().max() < 0.01  # the mean colour
    assert sample.image[:, :32, :48].abs().amax(dim=0).min() > 0.1


def test_overlaps_belong_to_the_target_and_crowds_are_ignored(tmp_path: Path) -> None:
    other = annotation(2, (20, 5, 20, 30))
    crowd = annotation(3, CROWD, segmentation={"counts": counts(*CROWD), "size": [40, 60]}, iscrowd=1)
    dataset = pictures(tmp_path, annotation(1, PERSON), other, crowd, roi_padding=1.0, mask_size=(90, 60))
    assert dataset.label_maps(0) == 2
    first, second = dataset[0, 0].mask.numpy()
    columns = np.arange(60) - 10 + 0.5  # of the first, in pixels
    row = first[45]
    assert (row[(columns > 10) & (columns < 30)] == 1).all()
    assert (row[(columns > 30) & (columns < 40)] == 2).all()
    assert (row[(columns > 40) & (columns < 50)] == IGNORE_INDEX).all()
    assert (row[columns < 0] == IGNORE_INDEX).all() and (row[(columns > 0) & (columns < 10)] == 0).all()
    assert (second[45] == 1).sum() == 20 and (second[45] == 2).sum() == 10
    seen = dataset[0, 0].extras["foreground"][0, 20, :60]
    assert seen.tolist() == [0] * 10 + [1] * 30 + [IGNORE_INDEX] * 10 + [0] * 10


def test_boxes_without_a_mask_have_no_label_map_and_teach_no_background(tmp_path: Path) -> None:
    bare = annotation(2, (20, 5, 20, 30), segmentation=[])
    dataset = pictures(tmp_path, annotation(1, PERSON), bare, roi_padding=0.5, mask_size=(40, 40))
    mask = only_mask(dataset)
    assert (mask[20, 31:39] == IGNORE_INDEX).all() and (mask[20, 11:29] == 1).all()
    assert [note.code for note in dataset.notes()] == ["annotations-without-mask"]
    assert "ignored" in (dataset.notes()[0].hint or "")


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-10, 5, 30, 30), (0, 5, 20, 35)),
        ((50, 30, 100, 100), (50, 30, 60, 40)),
        ((70, 5, 10, 10), None),
        ((10, 10, 0, 10), None),
        ((10, 10, 10, 0), None),
    ],
)
def test_boxes_at_the_edge_are_cut_and_those_without_area_left_out(
    tmp_path: Path, box: tuple[int, int, int, int], expected: tuple[int, ...] | None
) -> None:
    odd = annotation(2, box, segmentation=rectangle(*PERSON))
    dataset = pictures(tmp_path, annotation(1, PERSON), odd)
    rois = dataset[0, 0].extras["rois"][:, 1:].tolist()
    assert rois[1:] == ([] if expected is None else [pytest.approx(expected)])


def test_pictures_without_a_box_are_left_out_but_have_a_foreground(tmp_path: Path) -> None:
    content = instances(annotation(1, PERSON), annotation(2, CROWD, image_id=9, iscrowd=1))
    content["images"] += [{"id": id, "file_name": f"{id}.png", "width": 60, "height": 40} for id in (8, 9)]
    data = coco(tmp_path, content, **KEYS)
    for id in (8, 9):
        picture().save(tmp_path / "images" / f"{id}.png")
    dataset = build_dataset(data, "val")
    assert len(dataset) == 1
    assert dataset.describe() == "1 picture with 1 instance of person, 2 pictures without one left out"
    whole = build_dataset(
        CocoData.model_validate({"sample": "foreground", "height": 40, "width": 60}
                                | data.model_dump(include={"kind", "train", "val", "augmentation"})), "val"
    )  # fmt: skip
    assert whole.classes == ("background", "person") and whole.task == "semantic"
    labels = [np.unique(whole[index, 0].mask[:40, :60], return_counts=True) for index in range(3)]
    assert [dict(zip(*map(list, found), strict=True)) for found in labels] == [
        {0: 1800, 1: 600},
        {0: 2400},
        {0: 2000, IGNORE_INDEX: 400},
    ]
    assert [whole.label_maps(index) for index in range(3)] == [1, 1, 1]
    assert whole.collate([whole[0, 0], whole[1, 0]]).masks.shape == (2, 64, 64)
    assert whole.describe() == "3 pictures, 2 without person"
    assert np.array_equal(whole.labels(0), whole.read(0).labels)
    assert survey(whole).void_masks == ()
    none = instances(annotation(1, CROWD, iscrowd=1))
    with pytest.raises(DataError, match="no picture with a box of 'person'"):
        build_dataset(coco(tmp_path, none, **KEYS), "val")


def test_small_boxes_are_left_out_at_the_size_of_the_network(tmp_path: Path) -> None:
    people = [annotation(1, PERSON), annotation(2, (40, 5, 9, 30))]
    assert pictures(tmp_path, *people, min_box=9).label_maps(0) == 2
    dataset = pictures(tmp_path, *people, min_box=10)
    assert dataset.label_maps(0) == len(dataset[0, 0].mask) == 1
    assert dataset.describe() == "1 picture with 1 instance of person, 1 under 10 px left out"
    assert pictures(tmp_path, *people, min_box=10, height=80, width=120).label_maps(0) == 2
    with pytest.raises(DataError, match="no picture with a box of 'person'") as refused:
        pictures(tmp_path, *people, min_box=30)
    assert refused.value.hint == "lower data.min_box"
    cropped: dict[str, Any] = {"geometry": "crop", "scale": (0.5, 2.0), "min_box": 22, "split": "train"}
    dataset = pictures(tmp_path, *people, **cropped)  # large enough where the picture is magnified
    counts_of_boxes = {len(dataset[0, view].mask) for view in range(20)}
    assert 0 in counts_of_boxes and len(counts_of_boxes) > 1
    batch = dataset.collate([next(sample for view in range(20) if not len((sample := dataset[0, view]).mask))] * 2)
    assert batch.images.shape[0] == 2 and batch.masks.shape == (0, 20, 12)
    assert batch.extras["foreground"].shape == (2, 64, 64)


def test_any_category_can_be_segmented(tmp_path: Path) -> None:
    bicycle = annotation(2, (30, 10, 20, 20), category_id=2)
    dataset = pictures(tmp_path, annotation(1, PERSON), bicycle, category="bicycle", roi_padding=1.0)
    assert dataset[0, 0].extras["rois"].tolist() == [pytest.approx([0, 10, -10, 70, 50])]
    assert set(np.unique(only_mask(dataset))) == {0, 1, IGNORE_INDEX}  # people are background


def test_a_held_out_split_and_a_limit_choose_pictures(tmp_path: Path) -> None:
    content = instances(*(annotation(id, PERSON, image_id=id) for id in range(1, 21)))
    content["images"] = [{"id": id, "file_name": "seven.png", "width": 60, "height": 40} for id in range(1, 21)]
    data = coco(tmp_path, content, **KEYS | {"val": None, "holdout": 0.4})
    train, val = (build_dataset(data, split) for split in ("train", "val"))
    assert len(train) + len(val) == 20 and len(val) > 2
    few = build_dataset(data.model_copy(update={"train_limit": 5}), "train")
    assert len(few) == 5
    assert val.unit(0) == "seven.png" and val.resampled == "images"


def test_pictures_without_a_file_are_one_message(tmp_path: Path) -> None:
    content = instances(annotation(1, PERSON), *(annotation(id, PERSON, image_id=id) for id in (8, 9)))
    content["images"] += [{"id": id, "file_name": f"sub/{id}.png", "width": 60, "height": 40} for id in (8, 9)]
    (tmp_path / "images" / "sub").mkdir(parents=True)
    with pytest.raises(DataError, match="the annotations list pictures that have no file") as refused:
        build_dataset(coco(tmp_path, content, **KEYS), "train")
    assert refused.value.found == "no file for 2 of 3 pictures: sub/8.png, sub/9.png"
    (tmp_path / "images" / "sub").rmdir()
    with pytest.raises(DataError, match="a folder of images cannot be read") as refused:
        build_dataset(coco(tmp_path, content, **KEYS), "train")
    assert refused.value.hint is None or "kdtui" not in refused.value.hint


@pytest.mark.parametrize("sample", ["image", "crop"])
def test_normalised_boxes_are_recognised(tmp_path: Path, sample: str) -> None:
    shares = [annotation(id, (0, 0, 1, 1), bbox=[0.1, 0.2, 0.3, 0.5]) for id in (1, 2)]
    keys = KEYS if sample == "image" else {}
    with pytest.raises(DataError, match="the boxes are normalised") as refused:
        build_dataset(coco(tmp_path, instances(*shares), **keys), "train")
    assert refused.value.found == "'bbox' of all 2 within 0 and 1"
    assert refused.value.allowed == "x, y, width, height in pixels of the picture"


def test_a_negative_width_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="entries of the annotations cannot be used") as refused:
        pictures(tmp_path, annotation(1, PERSON, bbox=[30, 5, -20, 30]))
    assert "'bbox' is not x, y, width, height in pixels" in str(refused.value.found)


def test_sixteen_bits_and_facts_are_those_of_the_file(tmp_path: Path) -> None:
    values = (np.arange(60 * 40).reshape(40, 60) * 20).astype(np.uint16)
    deep = Image.fromarray(values)
    dataset = build_dataset(coco(tmp_path, instances(annotation(1, PERSON)), deep, **KEYS), "val")
    facts = dataset.look(0)
    assert (facts.stored.full, facts.pixels, facts.stored.high) == (65535.0, 2400, float(values.max()))
    assert dataset.stored(0).channels == 1
    assert facts.labels.shape == (20, 12)
    assert json.dumps(survey(dataset).pixels)


def test_cells_that_the_network_does_not_see_are_ignored(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"geometry": "crop", "scale": (2.0, 2.0), "roi_padding": 0.5, "split": "train"}
    dataset = pictures(tmp_path, annotation(1, PERSON), **keys)
    unseen = 0
    for view in range(8):
        sample = dataset[0, view]
        for (left, top, right, bottom), mask in zip(sample.extras["rois"][:, 1:].tolist(), sample.mask, strict=True):
            x = left + (torch.arange(12) + 0.5) * (right - left) / 12
            y = top + (torch.arange(20) + 0.5) * (bottom - top) / 20
            outside = ((y < 0) | (y >= 40))[:, None] | ((x < 0) | (x >= 60))[None]
            assert (mask[outside] == IGNORE_INDEX).all()
            assert (mask == 1).any()
            unseen += int(outside.sum())
    assert unseen > 100


def test_a_check_of_the_data_reads_the_boxes_of_the_training(tmp_path: Path) -> None:
    """At the default size they would be too small."""
    keys = KEYS | {"min_box": 20, "height": 400, "width": 600}
    table = coco(tmp_path, instances(annotation(1, (10, 5, 20, 8))), **keys)
    assert [len(build_dataset(one, "val").boxes(0)) for one in (table, table.as_stored())] == [1, 1]
