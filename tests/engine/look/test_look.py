"""Each layout is recognised: its profiles load, and every sample is read with the right labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdtui.engine.data import IGNORE_INDEX, build_dataset, survey
from kdtui.engine.data_check import DataRequest, check_data
from kdtui.engine.look import look
from kdtui.engine.look.class_files import class_file
from kdtui.engine.look.masks import MaskValues, guess_labels
from kdtui.errors import DataError
from kdtui.launch.new_profiles import FolderGuess, profile_texts
from kdtui.profile import Profile, load
from tests.engine.data.makers import annotation, coco, instances
from tests.engine.data.miniatures import MINIATURES, image, indexed, saved, stripes

Layout = Callable[[Path], tuple[int, Any]]


def images_and_masks(root: Path) -> tuple[int, Any]:
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            saved(image(number), root / f"images/{split}/{number}.png")
            saved(stripes(0, 1, 2, 255), root / f"masks/{split}/{number}.png")
    return 3, stripes(0, 1, 2, IGNORE_INDEX)


def splits_above(root: Path) -> tuple[int, Any]:
    for split, count in (("train", 4), ("valid", 2), ("test", 1)):
        for number in range(count):
            saved(image(number), root / f"{split}/images/{number}.jpg")
            saved(stripes(0, 1, 2), root / f"{split}/labels/{number}.png")
    (root / "labels.txt").write_text("sky\nroad\ntraffic light\n")
    return 3, stripes(0, 1, 2)


def masks_beside(root: Path) -> tuple[int, Any]:
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            saved(image(number), root / f"{split}/s_{number:03d}.png")
            saved(stripes(0, 1, 2), root / f"{split}_labels/s_{number:03d}_L.png")
    return 3, stripes(0, 1, 2)


def attached_word(root: Path) -> tuple[int, Any]:
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            saved(image(number), root / f"{split}/{number}.png")
            saved(stripes(0, 7, 90), root / f"{split}annot/{number}.png")
    return 3, stripes(0, 1, 2)


def flat_with_suffix(root: Path) -> tuple[int, Any]:
    for number in range(6):
        saved(image(number), root / f"{number}.jpg")
        saved(stripes(0, 255), root / f"{number}_mask.png")
    return 2, stripes(0, 1)


def flat_by_ending(root: Path) -> tuple[int, Any]:
    for number in range(6):
        saved(image(number), root / f"{number}.jpg")
        saved(stripes(0, 1, 2), root / f"{number}.png")
    return 3, stripes(0, 1, 2)


def prefixes(root: Path) -> tuple[int, Any]:
    for number in range(6):
        saved(image(number), root / f"data/img_{number:03d}.jpg")
        saved(stripes(0, 1), root / f"data/mask_{number:03d}.png")
    return 2, stripes(0, 1)


def img_and_ann(root: Path) -> tuple[int, Any]:
    """Numbers, with names from a colour map; not every class occurs."""
    for number in range(6):
        saved(image(number), root / f"img/{number}.jpg")
        saved(stripes(0, 1, 4), root / f"ann/{number}.png")
    (root / "class_dict.csv").write_text("name,r,g,b\na,1,2,3\nb,4,5,6\nc c,0,0,0\nd,9,9,9\ne,8,8,8\n")
    return 5, stripes(0, 1, 4)


def colour_map(root: Path) -> tuple[int, Any]:
    table = np.array([[64, 0, 128], [64, 64, 0], [0, 0, 0]], np.uint8)
    for number in range(6):
        saved(image(number), root / f"photos/{number}.jpg")
        saved(table[stripes(0, 1, 2)], root / f"masks/{number}.png")
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncar:64,0,128::\nman:64,64,0::\nvoid:0,0,0::\n")
    return 2, stripes(0, 1, IGNORE_INDEX)


def palette_masks(root: Path) -> tuple[int, Any]:
    for number in range(6):
        saved(image(number), root / f"images/{number}.jpg")
        saved(indexed(stripes(0, 1, 2), [0, 0, 0, 128, 0, 0, 0, 128, 0]), root / f"masks/{number}.png")
    return 3, stripes(0, 1, 2)


def jpeg_masks(root: Path) -> tuple[int, Any]:
    for number in range(6):
        saved(image(number), root / f"imgs/{number}.jpg")
        saved(stripes(0, 255), root / f"masks/{number}.jpg", quality=50)
    return 2, stripes(0, 1)


def three_images(root: Path) -> tuple[int, Any]:
    for number in range(3):
        saved(image(number), root / f"images/{number}.jpg")
        saved(stripes(0, 1), root / f"masks/{number}.png")
    return 2, stripes(0, 1)


def lists_of_two_kinds_of_masks(root: Path) -> tuple[int, Any]:
    """Lists of names, images without masks, and masks of classes and of instances."""
    for number in range(6):
        saved(image(number), root / f"JPEGImages/{number}.jpg")
        if number:
            saved(stripes(0, 1, 2), root / f"SegmentationClass/{number}.png")
            saved(stripes(0, 1, 2, 3), root / f"SegmentationObject/{number}.png")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n2\n3\n")
    (lists / "val.txt").write_text("4\n5\n")
    return 3, stripes(0, 1, 2)


LAYOUTS: dict[str, Layout] = {
    make.__name__: make
    for make in (
        *(images_and_masks, splits_above, masks_beside, attached_word, flat_with_suffix, flat_by_ending, prefixes),
        *(img_and_ann, colour_map, palette_masks, jpeg_masks, three_images, lists_of_two_kinds_of_masks),
    )
}


def guesses(root: Path) -> list[FolderGuess]:
    report = look(root)
    json.dumps(report)
    return [FolderGuess(**{**guess, "names": tuple(guess["names"])}) for guess in report["guesses"]]


def profiles(root: Path, folder: Path, guess: FolderGuess) -> dict[str, Profile]:
    texts = profile_texts("own", root, guess, teacher=None, on="the CPU")
    for stem, text in texts.items():
        (folder / f"{stem}.toml").write_text(text, encoding="utf-8")
    return {stem: load(folder / f"{stem}.toml") for stem in texts}


@pytest.mark.parametrize("name", [*LAYOUTS, *MINIATURES])
def test_a_layout_is_recognised(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    if name in LAYOUTS:
        classes, labels = LAYOUTS[name](root)
    else:
        miniature = MINIATURES[name](root)
        classes, labels = miniature.classes, miniature.labels
    if name == "list_of_pairs":  # two of its values are one class, which nothing in the folder says
        classes, labels = 3, stripes(0, 1, 2)
    guess = guesses(root)[0]
    made = profiles(root, tmp_path, guess)
    assert [*made] == ["own-teacher", "own-baseline", "own-distilled"]
    data = made["own-baseline"].data
    assert made["own-distilled"].data == made["own-teacher"].data == data
    splits = [build_dataset(data, split) for split in ("train", "val")]
    assert {dataset.split: len(dataset) for dataset in splits}.items() <= guess.counts.items()
    assert len(splits[0]) >= made["own-baseline"].training.batch_size
    for dataset in splits:
        assert dataset.classes == guess.names and len(dataset.classes) == classes
        assert survey(dataset).checked == len(dataset)
        assert np.array_equal(dataset.look(0).labels, labels)
    assert data.height % 32 == data.width % 32 == 0


def test_coco_files_are_recognised(tmp_path: Path) -> None:
    table: Any = coco(tmp_path / "data", instances(annotation(1, (5, 5, 20, 30)), annotation(2, (30, 5, 20, 30))))
    (guess,) = guesses(tmp_path / "data")
    data: Any = profiles(tmp_path / "data", tmp_path, guess)["own-baseline"].data
    assert (data.kind, data.category, data.train) == ("coco", "person", table.train)


def test_what_was_guessed_passes_the_check_of_all_files(tmp_path: Path) -> None:
    root = tmp_path / "data"
    flat_with_suffix(root)
    profiles(root, tmp_path, guesses(root)[0])
    request = DataRequest(str(tmp_path / "own-baseline.toml"), str(tmp_path / "runs"))
    report = check_data(request, lambda *step: None)
    assert report["ok"] and report["samples"] == 6 and report["splits"]["val"]["samples"] == 1


def test_masks_of_classes_are_preferred_to_those_of_instances(tmp_path: Path) -> None:
    lists_of_two_kinds_of_masks(tmp_path)
    assert [guess.keys["masks"] for guess in guesses(tmp_path)] == [
        "SegmentationClass/{name}",
        "SegmentationObject/{name}",
    ]


def test_missing_masks_do_not_hide_a_layout(tmp_path: Path) -> None:
    images_and_masks(tmp_path)
    (tmp_path / "masks/train/1.png").unlink()
    assert guesses(tmp_path)[0].keys["images"] == "images/{split}/{name}"


@pytest.mark.parametrize("files", [[], ["a.jpg"], ["a/1.jpg", "b/2.jpg", "c/3.jpg"]])
def test_a_folder_without_masks_is_refused(tmp_path: Path, files: list[str]) -> None:
    for number, file in enumerate(files):
        saved(image(number), tmp_path / file)
    with pytest.raises(DataError, match="no images with masks are recognised"):
        look(tmp_path)


def test_masks_of_many_values_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        saved(image(number), tmp_path / f"images/{number}.png")
        smooth = np.linspace(0, 65535, 32 * 48).reshape(32, 48).astype(np.uint16)
        saved(Image.fromarray(smooth), tmp_path / f"masks/{number}.png")
    with pytest.raises(DataError):
        look(tmp_path)


CLASS_FILES = {
    "classes.txt": ("0 sky\n1 traffic light #ff0000\n", ["sky", "traffic light"], True),
    "labels.txt": ("sky\ntraffic light 2\n", ["sky", "traffic light 2"], False),
    "class_dict.csv": ("name, r, g, b\nsky, 1, 2, 3\ntraffic light, 255, 0, 0\n", ["sky", "traffic light"], False),
    "label_colors.txt": ("1 2 3\tsky\n255 0 0\ttraffic light\n", ["sky", "traffic light"], False),
    "labelmap.txt": ("# label:color\nsky:1,2,3::\ntraffic light:255,0,0::\n", ["sky", "traffic light"], False),
    "names.json": ('["sky", "traffic light"]', ["sky", "traffic light"], False),
    "labels.json": ('{"0": "sky", "1": "traffic light"}', ["sky", "traffic light"], False),
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_lists_of_classes(tmp_path: Path, name: str) -> None:
    text, names, own = CLASS_FILES[name]
    (tmp_path / name).write_text(text)
    listed = class_file(tmp_path)
    assert listed is not None and listed.own_format == own
    assert [entry.name for entry in listed.classes] == names
    if "255" in text:
        assert [entry.colour for entry in listed.classes] == ["#010203", "#ff0000"]


def test_the_ignored_value_of_a_list_is_no_class(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("0 sky\nignore_index 1 void\n2 road\n3 car\n")
    listed = class_file(tmp_path)
    assert listed is not None and (listed.ignored, len(listed.classes)) == (1, 3)
    values = MaskValues()
    values.grey.update([0, 1, 2, 3])
    assert guess_labels(values, listed).keys["ignore"] == [1]


@pytest.mark.parametrize("name", ["void", "Void", "UNLABELLED", "unlabeled", "ignore", "ignored", "unknown"])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels.csv", "id,class\n0,sky\n1,road\n11,{}\n"),
        ("classes.txt", "0 sky\n1 road\n11 {}\n"),
        ("labels.json", '{{"0": "sky", "1": "road", "11": "{}"}}'),
    ],
)
def test_a_class_that_is_called_void_is_an_ignored_value(tmp_path: Path, file: str, text: str, name: str) -> None:
    (tmp_path / file).write_text(text.format(name))
    values = MaskValues()
    values.grey.update([0, 1, 11])
    guess = guess_labels(values, class_file(tmp_path))
    assert guess.keys == {"classes": ["sky", "road"], "ignore": [11]} and guess.named
    assert guess.ignored == f"{name} (11)"


@pytest.mark.parametrize("names", [["void deck", "unknownness"], ["void", "car"]])
def test_other_words_and_one_of_two_names_are_classes(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "names.json").write_text(json.dumps(names))
    listed = class_file(tmp_path)
    assert listed is not None and [entry.name for entry in listed.classes] == names and listed.void == ()


def test_positions_count_from_an_ignored_first_name(tmp_path: Path) -> None:
    for number in range(6):
        saved(image(number), tmp_path / f"images/{number}.jpg")
        saved(stripes(0, 1, 2), tmp_path / f"masks/{number}.png")
    (tmp_path / "labels.txt").write_text("void\nsky\nroad\n")
    guess = guesses(tmp_path)[0]
    assert guess.keys["label_map"] == {"1": "sky", "2": "road"} and guess.keys["ignore"] == [0]
    assert guess.ground["ignored"] == "void (0)"


@pytest.mark.parametrize("text", ["", "one\n", "a\na\n", "\x07\nb\n", "{", "[1, 2]"])
def test_other_files_list_no_classes(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    assert class_file(tmp_path) is None
