from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from kdtui.engine.data import IGNORE_INDEX, SegmentationDataset, build_dataset
from kdtui.engine.data.coco import held_out
from kdtui.engine.data.instances import expand
from kdtui.errors import DataError
from tests.engine.data.makers import HEIGHT, WIDTH, annotation, coco, counts, instances, picture, rectangle

# Two people side by side that share columns 25..29, and a crowd over both and beyond.
LEFT = annotation(1, (10, 5, 20, 30))
RIGHT = annotation(2, (25, 5, 20, 30))
CROWD = annotation(
    3, (20, 0, 30, 10), iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": counts(20, 0, 30, 10)}
)


def built(folder: Path, *annotations: dict[str, Any], split: str = "val", **keys: Any) -> SegmentationDataset:
    return build_dataset(coco(folder, instances(*annotations), **keys), split, stride=1)


def labels(dataset: SegmentationDataset, index: int, height: int, width: int) -> np.ndarray[Any, Any]:
    return dataset.render(index, height, width)[1]


def test_a_shared_pixel_is_the_targets_in_its_own_crop(tmp_path: Path) -> None:
    both = built(tmp_path, LEFT, RIGHT)
    assert len(both) == 2
    left, right = labels(both, 0, 30, 20), labels(both, 1, 30, 20)
    assert (left == 1).all()
    assert (right == 1).all()
    wide = labels(built(tmp_path, LEFT, RIGHT, padding=0.25), 0, 40, 30)  # x 5..35, y 0..40
    assert (wide[5:35, 5:25] == 1).all() and (wide[5:35, 25:] == 2).all() and (wide[:5] == 0).all()


def test_crowd_is_ignored_unless_it_is_the_target(tmp_path: Path) -> None:
    crop = labels(built(tmp_path, LEFT, RIGHT, CROWD, padding=0.25), 0, 40, 30)
    assert (crop[5:35, 5:25] == 1).all()
    assert (crop[:5, 15:] == IGNORE_INDEX).all()
    assert (crop[5:10, 25:] == IGNORE_INDEX).all() and (crop[10:35, 25:] == 2).all()


def test_a_crowd_makes_no_crop_nor_does_a_small_box_or_another_category(tmp_path: Path) -> None:
    small, bicycle = annotation(4, (0, 0, 4, 30)), annotation(5, (0, 0, 20, 20), category_id=2)
    assert len(built(tmp_path, LEFT, CROWD, small, bicycle)) == 2
    kept = built(tmp_path, LEFT, CROWD, small, bicycle, minimum_size=5)
    assert [kept.name(i) for i in range(len(kept))] == ["seven.png annotation 1"]
    assert len(built(tmp_path, LEFT, bicycle, category="bicycle")) == 1


def test_small_people_are_still_other_people(tmp_path: Path) -> None:
    small = annotation(4, (28, 6, 4, 4))
    crop = labels(built(tmp_path, LEFT, small, padding=0.25, minimum_size=10), 0, 40, 30)
    assert (crop[6:10, 25:27] == 2).all()


def test_polygons_and_both_kinds_of_runs_say_the_same(tmp_path: Path) -> None:
    runs = {"size": [HEIGHT, WIDTH], "counts": counts(10, 5, 20, 30)}
    packed = coco_mask.frPyObjects(runs, HEIGHT, WIDTH)
    compressed = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
    crops = [
        labels(built(tmp_path, annotation(1, (10, 5, 20, 30), segmentation=s), padding=0.25), 0, 40, 30)
        for s in (rectangle(10, 5, 20, 30), runs, compressed)
    ]
    assert (crops[0] == 1).sum() == 600
    assert np.array_equal(crops[0], crops[1]) and np.array_equal(crops[0], crops[2])


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_compressed_runs_expand_to_what_they_were(pixels: list[bool]) -> None:
    mask = np.asfortranarray(np.array(pixels, dtype=np.uint8)[:, None])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask[:, 0].astype(int)]))).tolist()
    assert expand(coco_mask.encode(mask)["counts"].decode()) == np.diff([0, *edges, len(pixels)]).tolist()


def test_the_crop_shows_the_pixels_under_its_labels(tmp_path: Path) -> None:
    image, _ = built(tmp_path, LEFT).render(0, 30, 20)
    assert np.array_equal(image, np.asarray(picture())[5:35, 10:30])
    clipped, _ = built(tmp_path, annotation(1, (40, 0, 20, 40)), padding=0.5).render(0, 40, 30)
    assert np.array_equal(clipped, np.asarray(picture())[:, 30:])


@pytest.mark.parametrize("name", ["turned.png", "turned.tiff"])
def test_annotations_are_read_in_the_orientation_their_size_fits(tmp_path: Path, name: str) -> None:
    stored = picture().transpose(Image.Transpose.ROTATE_90)  # orientation 6 turns it back
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images" / name, exif=exif)
    content = instances(LEFT)
    content["images"][0]["file_name"] = name
    image, _ = build_dataset(coco(tmp_path, content), "val").render(0, 30, 20)
    assert np.array_equal(image, np.asarray(picture())[5:35, 10:30])
    if name.endswith("png"):  # pillow turns a tiff while it reads it
        content = instances(annotation(1, (5, 10, 30, 20)), width=HEIGHT, height=WIDTH)
        content["images"][0]["file_name"] = name
        image, _ = build_dataset(coco(tmp_path, content), "val").render(0, 20, 30)
        assert np.array_equal(image, np.asarray(stored)[10:30, 5:35])


def test_without_a_val_split_images_are_held_out_by_their_id(tmp_path: Path) -> None:
    content = instances()
    content["images"] = [{**content["images"][0], "id": i} for i in range(200)]
    content["annotations"] = [annotation(1000 * i + j, (0, 0, 20, 20), image_id=i) for i in range(200) for j in (0, 1)]
    data = coco(tmp_path, content, val=None, holdout=0.25)
    train, val = build_dataset(data, "train"), build_dataset(data, "val")
    assert len(train) + len(val) == 400 and 60 < len(val) < 140

    def images(dataset: SegmentationDataset) -> set[int]:
        return {int(dataset.name(i).split()[-1]) // 1000 for i in range(len(dataset))}

    assert images(train).isdisjoint(images(val))
    assert images(val) == {i for i in range(200) if held_out(i, 0.25)}
    more = build_dataset(data.model_copy(update={"holdout": 0.5}), "val")
    assert images(val) < images(more)


def test_no_test_split_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no test split[\s\S]*data\.test"):
        built(tmp_path, LEFT, split="test")


def test_a_category_that_is_not_there_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        built(tmp_path, LEFT, category="persons")
    assert caught.value.hint == "--set data.category=person"
    assert "bicycle" in caught.value.message


def without(path: str) -> Callable[[dict[str, Any]], None]:
    *way, last = path.split(".")

    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        del place[last]

    return change


@pytest.mark.parametrize(
    "key",
    [
        "images",
        "annotations",
        "categories",
        "images.0.id",
        "images.0.width",
        "images.0.file_name",
        "annotations.0.bbox",
        "annotations.0.segmentation",
        "annotations.0.category_id",
        "annotations.0.image_id",
        "annotations.0.id",
    ],
)
def test_a_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    content = copy.deepcopy(instances(LEFT))
    without(key)(content)
    with pytest.raises(DataError) as caught:
        build_dataset(coco(tmp_path, content), "val")
    assert key.split(".")[-1] in caught.value.message
    assert "instances.json" in caught.value.message


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4, 5, "six"]],
        [[1, 2, 3, 4, 5, None]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, 1e12]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[[1, 2], [3, 4], [5, 6], [7, 8], [9, 1], [1, 1]]],
        [7],
        7,
        {"size": [HEIGHT, WIDTH]},
        {"counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [5, 5]},
        {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 5, -5]},
        {"size": [HEIGHT, WIDTH], "counts": [0.5]},
        {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT, WIDTH], "counts": "zz"},
        {"size": [HEIGHT, WIDTH], "counts": "\x00é"},
    ],
)
def test_a_segmentation_that_makes_no_sense_is_named(tmp_path: Path, segmentation: Any) -> None:
    dataset = built(tmp_path, annotation(41, (10, 5, 20, 30), segmentation=segmentation))
    with pytest.raises(DataError, match="annotation 41"):
        dataset[0, 0]


@pytest.mark.parametrize("box", [[1, 2, 3], [0, 0, float("inf"), 4], [0, 0, -5, 5], "box", None])
def test_a_box_that_makes_no_sense_is_named(tmp_path: Path, box: Any) -> None:
    with pytest.raises(DataError, match="annotations"):
        built(tmp_path, annotation(1, (0, 0, 20, 20), bbox=box))


def test_a_box_outside_its_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="annotation 9"):
        built(tmp_path, annotation(9, (400, 0, 20, 20)))


def test_polygons_that_enclose_nothing_do_not_count(tmp_path: Path) -> None:
    thin = [[1.0, 2.0, 3.0, 4.0], *rectangle(10, 5, 20, 30)]  # pycocotools would take four numbers for a box
    crop = labels(built(tmp_path, annotation(1, (10, 5, 20, 30), segmentation=thin)), 0, 30, 20)
    assert (crop == 1).all()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"images": {}}', "\x80", '{"images": [1], "annotations": []}'])
def test_a_file_that_is_no_instance_json_is_named(tmp_path: Path, text: str) -> None:
    data = coco(tmp_path, instances(LEFT))
    (tmp_path / "instances.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"instances\.json"):
        build_dataset(data, "val")


def test_a_truncated_json_is_named_at_any_length(tmp_path: Path) -> None:
    data = coco(tmp_path, instances(LEFT, RIGHT))
    whole = json.dumps(instances(LEFT, RIGHT))
    for length in range(0, len(whole), 37):
        (tmp_path / "instances.json").write_text(whole[:length])
        with pytest.raises(DataError, match=r"instances\.json"):
            build_dataset(data, "val")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    data = coco(tmp_path, instances(LEFT))
    dataset = build_dataset(data, "val")
    (tmp_path / "images" / "seven.png").unlink()
    with pytest.raises(DataError, match=r"seven\.png"):
        dataset[0, 0]
    (tmp_path / "instances.json").unlink()
    with pytest.raises(DataError, match=r"instances\.json"):
        build_dataset(data, "val")
    gone = data.model_copy(update={"val": data.train.model_copy(update={"images": str(tmp_path / "gone")})})
    with pytest.raises(DataError, match="gone"):
        build_dataset(gone, "val")


def test_an_annotation_of_an_unlisted_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotation 9[\s\S]*image_id 8"):
        built(tmp_path, LEFT, annotation(9, (0, 0, 20, 20), image_id=8))


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    dataset = built(tmp_path, LEFT, image=picture(33, 44))
    with pytest.raises(DataError, match=r"seven\.png[\s\S]*33x44[\s\S]*60x40"):
        dataset[0, 0]


def test_nobody_to_crop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="minimum_size"):
        built(tmp_path, LEFT, minimum_size=50)
