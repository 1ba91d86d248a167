from __future__ import annotations

import copy
import json
import os
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
from kdtui.engine.data.coco import expand, held_out
from kdtui.engine.data.coco_entries import MOST_BYTES
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
    assert (kept.unit(0), kept.resampled) == ("seven.png", "images")
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


def test_a_split_without_instances_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="minimum_size"):
        built(tmp_path, LEFT, minimum_size=50)


@pytest.mark.parametrize("segmentation", [[], None, [[1, 2, 3, 4]], "missing"])
def test_annotations_of_boxes_alone_are_refused_and_counted(tmp_path: Path, segmentation: Any) -> None:
    boxes = [annotation(number, (10, 5, 20, 30), segmentation=segmentation) for number in range(12)]
    if segmentation == "missing":
        for box in boxes:
            del box["segmentation"]
    with pytest.raises(DataError, match=r"12 of 12 annotations of 'person' have no mask[\s\S]*instances\.json"):
        built(tmp_path, *boxes)


def test_some_annotations_without_mask_are_counted_in_a_note(tmp_path: Path) -> None:
    dataset = built(tmp_path, LEFT, annotation(4, (30, 5, 20, 30), segmentation=[]), RIGHT)
    (note,) = dataset.notes()
    assert note.code == "annotations-without-mask" and "1 of 3 annotations" in note.message and "4" in note.message


def test_run_lengths_inside_a_list_are_read(tmp_path: Path) -> None:
    runs = {"size": [HEIGHT, WIDTH], "counts": counts(10, 5, 20, 30)}
    packed = coco_mask.frPyObjects(runs, HEIGHT, WIDTH)["counts"].decode()
    left, right = counts(10, 5, 10, 30), rectangle(20, 5, 10, 30)
    for segmentation in (
        [runs],
        [{"size": [HEIGHT, WIDTH], "counts": packed}],
        {"size": [float(HEIGHT), str(WIDTH)], "counts": [float(run) for run in runs["counts"]]},
        [{"size": [HEIGHT, WIDTH], "counts": left}, *right],
        rectangle(10, 5, 20, 30)[0],
    ):
        crop = labels(
            built(tmp_path, annotation(1, (10, 5, 20, 30), segmentation=segmentation), padding=0.25), 0, 40, 30
        )
        assert (crop == 1).sum() == 600 and (crop[5:35, 5:25] == 1).all()


def test_two_images_of_one_id_are_refused_with_both_files(tmp_path: Path) -> None:
    content = instances(LEFT)
    content["images"].append({**content["images"][0]})
    assert len(build_dataset(coco(tmp_path, content), "val")) == 1  # the same entry twice says nothing else
    content["images"].append({**content["images"][0], "file_name": "eight.png"})
    with pytest.raises(DataError, match=r"1 of 3 images: an id that another image has[\s\S]*seven\.png and eight\.png"):
        build_dataset(coco(tmp_path, content), "val")


def test_flaws_are_counted_and_reported_at_once(tmp_path: Path) -> None:
    flawed = [annotation(number, (0, 0, 20, 20), bbox=[1, 2, 3]) for number in range(10, 17)]
    with pytest.raises(DataError) as caught:
        built(
            tmp_path,
            LEFT,
            *flawed,
            annotation(9, (0, 0, 20, 20), image_id=8),
            annotation(5, (0, 0, 9, 9), iscrowd="no"),
        )
    message = caught.value.message
    for part in (
        "7 of 10 annotations: 'bbox' is not the four numbers x, y, width, height",
        "annotation 10, annotation 11, annotation 12 and 4 more",
        "1 of 10 annotations: an image_id that no image has (annotation 9: image_id 8)",
        "'iscrowd' is a text where a number belongs (annotation 5: 'no')",
    ):
        assert part in message
    assert "minimum_size" not in str(caught.value)


def test_numbers_written_as_text_or_fractions_are_read(tmp_path: Path) -> None:
    text = annotation(1, (10, 5, 20, 30), category_id="1", iscrowd="0", image_id="7", bbox=["10", "5", "20.0", 30])
    crowd = CROWD | {"category_id": 1.0, "iscrowd": "1", "image_id": 7.0}
    content = instances(text, crowd)
    content["images"][0] |= {"width": str(WIDTH), "height": float(HEIGHT)}
    content["categories"][0]["id"] = "1"
    dataset = build_dataset(coco(tmp_path, content), "val")
    assert [dataset.name(i) for i in range(len(dataset))] == ["seven.png annotation 1"]
    assert (labels(dataset, 0, 30, 20) == 1).all()


@pytest.mark.parametrize("write", [float, str])
def test_what_is_held_out_does_not_depend_on_how_an_id_is_written(tmp_path: Path, write: Callable[[int], Any]) -> None:
    content = instances()
    content["images"] = [{**content["images"][0], "id": i} for i in range(40)]
    content["annotations"] = [annotation(i, (0, 0, 20, 20), image_id=i) for i in range(40)]
    whole = build_dataset(coco(tmp_path, content, val=None), "val")
    content["annotations"] = [entry | {"image_id": write(entry["image_id"])} for entry in content["annotations"]]
    again = build_dataset(coco(tmp_path, content, val=None), "val")
    assert [again.name(i) for i in range(len(again))] == [whole.name(i) for i in range(len(whole))]


def test_ids_that_are_texts_stay_texts(tmp_path: Path) -> None:
    content = instances(annotation(1, (0, 0, 20, 20), image_id="007"), annotation(2, (0, 0, 20, 20), image_id="7"))
    content["images"] = [
        {**content["images"][0], "id": "007"},
        {**content["images"][0], "id": "7", "file_name": "b.png"},
    ]
    dataset = build_dataset(coco(tmp_path, content), "val")
    assert [dataset.name(i) for i in (0, 1)] == ["seven.png annotation 1", "b.png annotation 2"]
    content["annotations"].append(annotation(3, (0, 0, 20, 20), image_id=7))
    with pytest.raises(DataError, match="annotation 3: image_id 7"):  # either of the two could be meant
        build_dataset(coco(tmp_path, content), "val")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("images.0.width", float("inf")),
        ("images.0.width", float("nan")),
        ("images.0.width", 10**400),
        ("images.0.width", 10_000_000),
        ("images.0.height", [40]),
        ("images.0.height", True),
        ("images.0.id", [7]),
        ("images.0.id", {"a": 7}),
        ("images.0.id", None),
        ("images.0.id", 10**40),
        ("images.0.file_name", ["seven.png"]),
        ("images.0.file_name", ""),
        ("images.0.file_name", 1001 * "x"),
        ("images.0", 7),
        ("annotations.0.id", [1]),
        ("annotations.0.image_id", [7]),
        ("annotations.0.image_id", {}),
        ("annotations.0.category_id", [1]),
        ("annotations.0.category_id", float("nan")),
        ("annotations.0.bbox", {"x": 1}),
        ("annotations.0.bbox", [0, 0, "wide", 4]),
        ("annotations.0.bbox", [1e300, 0, 4, 4]),
        ("annotations.0.bbox", [0, 0, -5, 5]),
        ("annotations.0.bbox", [0, 0, 5, -5]),
        ("annotations.0.iscrowd", [0]),
        ("annotations.0", [1]),
        ("categories.0.id", [1]),
        ("categories.0.id", None),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(tmp_path: Path, place: str, value: Any) -> None:
    content = copy.deepcopy(instances(LEFT))
    *way, last = place.split(".")
    part: Any = content
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    part[int(last) if last.isdigit() else last] = value
    with pytest.raises(DataError) as caught:
        build_dataset(coco(tmp_path, content), "val")
    group, key = place.split(".")[0], place.split(".")[-1]
    assert f"1 of {len(content[group])} {group}" in caught.value.message
    assert "instances.json" in caught.value.message and len(caught.value.message) < 600
    assert key in caught.value.message or key.isdigit() or "size outside" in caught.value.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"images": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"images": [' + "9" * 5000 + '], "annotations": [], "categories": []}', "thousands of digits"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ],
)
def test_hostile_json_is_one_message(tmp_path: Path, text: str, named: str) -> None:
    data = coco(tmp_path, instances(LEFT))
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(DataError, match=r"instances\.json") as caught:
        build_dataset(data, "val")
    assert named in caught.value.message and len(caught.value.message) < 500


def test_annotations_are_bounded_and_must_be_a_file(tmp_path: Path) -> None:
    data = coco(tmp_path, instances(LEFT))
    path = tmp_path / "instances.json"
    os.truncate(path, MOST_BYTES + 1)
    with pytest.raises(DataError, match=r"instances\.json[\s\S]*1\.0 GiB"):
        build_dataset(data, "val")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"instances\.json[\s\S]*a pipe"):
        build_dataset(data, "val")


def test_a_run_length_of_endless_digits_and_an_outline_of_endless_length_are_refused(tmp_path: Path) -> None:
    endless = {"size": [HEIGHT, WIDTH], "counts": "o" * 100_000}
    with pytest.raises(DataError, match=r"annotation 1[\s\S]*digits"):
        built(tmp_path, annotation(1, (10, 5, 20, 30), segmentation=endless)).render(0, 30, 20)
    zigzag = [[0.0, 0.0, 200.0, 200.0] * 30_000]
    with pytest.raises(DataError, match=r"annotation 1[\s\S]*outline"):
        built(tmp_path, annotation(1, (10, 5, 20, 30), segmentation=zigzag)).render(0, 30, 20)


def test_ids_and_files_that_occur_twice_are_noted(tmp_path: Path) -> None:
    content = instances(LEFT, RIGHT | {"id": 1}, annotation(8, (0, 0, 20, 20), image_id=70))
    content["images"].append({**content["images"][0], "id": 70})
    notes = {note.code: note.message for note in build_dataset(coco(tmp_path, content), "val").notes()}
    assert "1 ids" in notes["repeated-annotation-ids"]
    assert "seven.png" in notes["images-listed-twice"]


def test_most_boxes_left_out_is_noted(tmp_path: Path) -> None:
    small = [annotation(number, (number, 0, 4, 30)) for number in range(10, 13)]
    dataset = built(tmp_path, LEFT, *small, minimum_size=5)
    assert dataset.describe() == "1 person crops from 1 images, 3 boxes under 5 px left out"
    assert [note.code for note in dataset.notes()] == ["boxes-left-out"]


def test_a_value_range_scales_the_crops(tmp_path: Path) -> None:
    dark = Image.fromarray((np.asarray(picture()) // 16).astype(np.uint8))
    seen, _ = built(tmp_path, LEFT, image=dark, value_range=[0, 15]).read(0)
    assert np.abs(seen.astype(int) - np.asarray(picture())[5:35, 10:30]).max() <= 17
