"""Where images and masks are: patterns, lists, splits, and what is reported about files that do not fit."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kdtui.errors import DataError
from kdtui.profile import FolderData
from kdtui.profile.patterns import Pattern


def tree(root: Path, *paths: str, texts: Mapping[str, str] | None = None) -> None:
    for path, text in {**dict.fromkeys(paths, ""), **(texts or {})}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def pairs(root: Path, split: str = "train", **keys: Any) -> list[tuple[str, str]]:
    """The pairs of a split, relative to the root."""
    layout = FolderData(root=str(root), **keys).layout()
    found = layout.pairs(split).pairs
    return [(pair.image.relative_to(root).as_posix(), pair.mask.relative_to(root).as_posix()) for pair in found]


def refused(root: Path, split: str = "train", **keys: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        pairs(root, split, **keys)
    return caught.value


CITY = {
    "images": "leftImg8bit/{split}/*/{name}_leftImg8bit.png",
    "masks": "gtFine/{split}/*/{name}_gtFine_labelIds.png",
}
EXPECTED: dict[str, tuple[dict[str, Any], list[str], list[tuple[str, str]]]] = {
    "default": ({}, ["images/train/b.png", "images/train/a.JPG", "masks/train/a.png", "masks/train/b.gif"],
                [("images/train/a.JPG", "masks/train/a.png"), ("images/train/b.png", "masks/train/b.gif")]),
    "a folder for each city": (
        CITY,
        [f"{kind}/train/{city}/{city}_0{end}" for city in ("bonn", "aachen") for kind, end in (
            ("leftImg8bit", "_leftImg8bit.png"), ("gtFine", "_gtFine_labelIds.png"), ("gtFine", "_gtFine_color.png"))],
        [(f"leftImg8bit/train/{city}/{city}_0_leftImg8bit.png", f"gtFine/train/{city}/{city}_0_gtFine_labelIds.png")
         for city in ("aachen", "bonn")],
    ),
    "one name in two folders": (
        {"images": "i/{split}/**/{name}", "masks": "m/{split}/**/{name}"},
        ["i/train/x/1/a.png", "i/train/x/2/a.png", "i/train/a.png", "m/train/x/1/a.png", "m/train/x/2/a.png",
         "m/train/a.png"],
        [("i/train/a.png", "m/train/a.png"), ("i/train/x/1/a.png", "m/train/x/1/a.png"),
         ("i/train/x/2/a.png", "m/train/x/2/a.png")],
    ),
    "nested images and flat masks": (
        {"images": "i/{split}/*/{name}.jpg", "masks": "m/{split}/{name}.png"},
        ["i/train/x/a.jpg", "i/train/y/b.jpg", "m/train/a.png", "m/train/b.png"],
        [("i/train/x/a.jpg", "m/train/a.png"), ("i/train/y/b.jpg", "m/train/b.png")],
    ),
    "a suffix and an ending in upper case": (
        {"images": "{split}/{name}.jpg", "masks": "{split}_masks/{name}_mask.*"},
        ["train/a.JPG", "train/b.jpg", "train_masks/a_mask.GIF", "train_masks/b_mask.png", "train_masks/b_edge.png"],
        [("train/a.JPG", "train_masks/a_mask.GIF"), ("train/b.jpg", "train_masks/b_mask.png")],
    ),
    "images and masks in one folder": (
        {"images": "{split}/{name}.png", "masks": "{split}/{name}_mask.png"},
        ["train/a.png", "train/a_mask.png", "train/b.png", "train/b_mask.png"],
        [("train/a.png", "train/a_mask.png"), ("train/b.png", "train/b_mask.png")],
    ),
    "a mask named after the image's file": (
        {"masks": "masks/{split}/{name}.jpg.*"}, ["images/train/a.jpg", "masks/train/a.jpg.png"],
        [("images/train/a.jpg", "masks/train/a.jpg.png")],
    ),
    "names in two normalisations": (
        {"images": "straße/{split}/{name}", "masks": "maské/{split}/{name}"},
        ["straße/train/" + unicodedata.normalize("NFC", "Köln é.png"),
         unicodedata.normalize("NFD", "maské/train/Köln é.png")],
        [("straße/train/" + unicodedata.normalize("NFC", "Köln é.png"),
          unicodedata.normalize("NFD", "maské/train/Köln é.png"))],
    ),
    "other folder names": (
        {"splits": {"train": "training"}}, ["images/training/a.png", "masks/training/a.png"],
        [("images/training/a.png", "masks/training/a.png")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EXPECTED)
def test_images_and_masks_are_paired(tmp_path: Path, case: str) -> None:
    keys, files, expected = EXPECTED[case]
    tree(tmp_path, *files)
    assert pairs(tmp_path, **keys) == expected
    data = FolderData(root=str(tmp_path), **keys)
    assert {tmp_path / path for pair in expected for path in pair} <= {*data.layout().files("train")}
    pattern = Pattern(data.images, data.layout().folders.get("train", "train"))
    for match in pattern.listing(tmp_path).matches:
        assert pattern.matched(tmp_path, match.path) == match


LISTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "names": ({}, "l/train.txt", "b\na\n\n"),
    "names with their ending": ({}, "l/train.txt", "b.jpg\r\na.jpg\r\n"),
    "paths": ({}, "l/train.txt", "/in/b.jpg\n./in/a.jpg\n"),
    "paths from another root": ({}, "l/train.txt", "in/b\nin/a"),
    "two columns": ({}, "l/train.txt", "in/b.jpg out/b.png\nin/a.jpg out/a.png\n"),
    "columns with tabs": ({}, "l/train.txt", "in/b.jpg\tout/b.png\nin/a.jpg\tout/a.png\n"),
    "CSV with a header": (
        {"list": "pairs.csv"},
        "pairs.csv",
        'image,mask\n"in/b.jpg", out/b.png\nin/a.jpg,out/a.png,x\n',
    ),
    "CSV with a mark": ({"list": "{split}.csv"}, "train.csv", "\ufeffb\na\n"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_selects_images_in_its_order(tmp_path: Path, case: str) -> None:
    keys, path, text = LISTS[case]
    tree(tmp_path, "in/a.jpg", "in/b.jpg", "in/c.jpg", "out/a.png", "out/b.png", texts={path: text})
    found = pairs(tmp_path, **{"images": "in/{name}.jpg", "masks": "out/{name}.png", "list": "l/{split}.txt", **keys})
    assert found == [("in/b.jpg", "out/b.png"), ("in/a.jpg", "out/a.png")]


def test_an_entry_may_name_the_folder_that_distinguishes_images(tmp_path: Path) -> None:
    tree(tmp_path, "in/x/a.jpg", "in/y/a.jpg", "out/x/a.png", "out/y/a.png", "in/x/two words.jpg",
         "out/x/two words.png", texts={"train.txt": "y/a\nx/two words\n", "val.txt": "a\n"})  # fmt: skip
    keys = {"images": "in/*/{name}", "masks": "out/*/{name}", "list": "{split}.txt"}
    assert pairs(tmp_path, **keys) == [("in/y/a.jpg", "out/y/a.png"), ("in/x/two words.jpg", "out/x/two words.png")]
    error = refused(tmp_path, "val", **keys)
    assert "several files" in error.what and "in/x/a.jpg" in str(error.found)


def test_a_list_that_names_a_missing_file_says_which_and_where(tmp_path: Path) -> None:
    texts = {"train.txt": "a\nb\nc\n", "val.txt": "in/a.jpg out/b.png\n", "test.txt": "\n"}
    tree(tmp_path, "in/a.jpg", "in/b.jpg", "out/a.png", texts=texts)
    keys = {"images": "in/{name}", "masks": "out/{name}", "list": "{split}.txt"}
    error = refused(tmp_path, **keys)
    assert error.what == "2 of 3 entries of a list have no file" and str(error.where).endswith("train.txt")
    assert "the mask of b.jpg (line 2)" in str(error.found) and "c (line 3)" in str(error.found)
    assert "out/b.png (line 1)" in str(refused(tmp_path, "val", **keys).found)
    assert "empty" in refused(tmp_path, "test", **keys).what
    moved = refused(tmp_path, **{**keys, "images": "pictures/{name}"})
    assert moved.hint is not None and "pictures" in moved.hint
    other = refused(tmp_path, "val", **{**keys, "list": "lists/{split}.txt"})
    assert "missing" in other.what and "train.txt" in str(other.found) and "data.holdout" in str(other.hint)
    tree(tmp_path, texts={"latin.csv": ""})
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe,")
    assert "UTF-8" in str(refused(tmp_path, **{**keys, "list": "latin.csv"}).found)


def many(root: Path, count: int = 40) -> None:
    tree(root, *[f"{kind}/film{n % 8}_frame{n}.png" for kind in ("images", "masks") for n in range(count)])


FLAT = {"images": "images/{name}", "masks": "masks/{name}"}


def test_held_out_images_are_a_stable_part_of_the_training_split(tmp_path: Path) -> None:
    many(tmp_path)
    every = pairs(tmp_path, **FLAT)
    train, val = (pairs(tmp_path, split, holdout=0.25, **FLAT) for split in ("train", "val"))
    assert len(every) == 40 and len(val) == 10 and {*train} | {*val} == {*every} and not {*train} & {*val}
    moved = tmp_path / "elsewhere"
    many(moved)
    assert pairs(moved, "val", holdout=0.25, **FLAT) == val
    assert {*pairs(tmp_path, "val", holdout=0.1, **FLAT)} < {*val}


@pytest.mark.parametrize("group", [r"film\d", r"/(film\d+)_"])
def test_frames_of_a_group_are_held_out_together(tmp_path: Path, group: str) -> None:
    many(tmp_path)
    train, val = (pairs(tmp_path, split, holdout=0.2, group=group, **FLAT) for split in ("train", "val"))
    films = [{image.split("_")[0] for image, _ in part} for part in (train, val)]
    assert not films[0] & films[1] and 1 <= len(films[1]) <= 2 and len(train) + len(val) == 40
    for expression, message in ((r"frame1\d", "do not match data.group"), (r"film", "can be held out")):
        error = refused(tmp_path, "val", holdout=0.2, group=expression, **FLAT)
        assert message in error.what and error.where == "data.group"


def test_data_without_splits_have_no_other_split_than_training(tmp_path: Path) -> None:
    many(tmp_path)
    error = refused(tmp_path, "val", **FLAT)
    assert "no val split" in error.what and "data.holdout" in str(error.hint)
    error = refused(tmp_path, "test", holdout=0.2, **FLAT)
    assert "no test split" in error.what and error.hint == "`kdtui evaluate RUN --split val`"


def test_a_validation_split_that_holdout_leaves_unused_is_noted(tmp_path: Path) -> None:
    tree(tmp_path, *[f"{k}/{s}/{n}.png" for k in ("images", "masks") for s in ("train", "val") for n in range(4)])
    layout = FolderData(root=str(tmp_path), holdout=0.25).layout()
    assert [note.code for note in layout.pairs("val").notes] == ["unused-split"]
    assert layout.pairs("train").notes == []
    assert all("train" in str(pair.image) for pair in layout.pairs("val").pairs)


def test_a_folder_that_is_missing_is_named_with_what_exists_instead(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "images/validation/b.png", "masks/train/a.png", "masks/Test/c.png")
    error = refused(tmp_path, "val")
    assert error.where == str(tmp_path / "images/val") and error.found == "in images: train, validation"
    assert error.hint is not None and "--set data.splits.val=validation" in error.hint and "data.holdout" in error.hint
    elsewhere = refused(tmp_path, images="pictures/{split}/{name}")
    assert elsewhere.where == str(tmp_path / "pictures") and "images, masks" in str(elsewhere.found)
    assert str(elsewhere.hint).startswith("--set data.images=PATTERN")
    assert "data.images" in str(refused(tmp_path, "val", images="pictures/{split}/{name}").hint)
    nothing = refused(tmp_path, images="images/{split}/{name}_rgb.png")
    assert nothing.where == str(tmp_path / "images/train") and nothing.found == "a.png"
    assert "images/train/{name}_rgb.png" in str(nothing.allowed)


def test_an_image_without_mask_is_named_with_the_most_similar_mask(tmp_path: Path) -> None:
    tree(tmp_path, *[f"images/train/{n}.png" for n in "abc"], *[f"masks/train/{n}_mask.png" for n in "abc"])
    error = refused(tmp_path)
    assert error.what == "3 of 3 images have no mask"
    assert "the most similar mask of a.png is a_mask.png" in str(error.found)
    assert error.hint == "--set data.masks=masks/{split}/{name}_mask"
    assert len(pairs(tmp_path, masks="masks/{split}/{name}_mask")) == 3


def test_names_that_are_not_unique_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "images/train/a.jpg", "masks/train/a.png")
    assert "a.jpg, a.png" in str(refused(tmp_path).found)
    tree(tmp_path, "i/x/a.png", "i/y/a.png", "m/a.png")
    error = refused(tmp_path, images="i/*/{name}", masks="m/{name}")
    assert "different folders" in error.what and "same number of *" in str(error.allowed)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    tree(tmp_path, "store/a.png", "store/b.png", "masks/train/a.png", "masks/train/b.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/train").symlink_to(tmp_path / "store")
    (tmp_path / "masks/train/again").symlink_to(tmp_path / "masks")
    assert len(pairs(tmp_path)) == 2
    assert len(pairs(tmp_path, masks="masks/{split}/**/{name}")) == 2
    (tmp_path / "store/c.png").symlink_to(tmp_path / "nowhere.png")
    assert "c.png" in str(refused(tmp_path).found)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"images": "images/{split}"}, "images/{split}/{name}"),
        ({"images": "/data/{name}"}, "below data.root"),
        ({"images": "../{name}"}, "below data.root"),
        ({"images": "{city}/{name}"}, "only {split} and {name}"),
        ({"masks": "{name}/{name}.png"}, "more than one"),
        ({"masks": "{name}/mask.png"}, "folder name"),
        ({"masks": "x**/{name}.png"}, "folder of its own"),
        ({"list": "{name}.txt"}, "without {name}"),
        ({"images": "a/{name}", "masks": "a/{name}"}, "two patterns"),
        ({"group": "(", "holdout": 0.1}, "regular expression"),
        ({"classes": ["a", "a"]}, "distinct"),
        ({"classes": ["a", "b\x1b"]}, "printable"),
        ({"classes": ["a"]}, "at least 2"),
        ({"labels": "binary", "classes": ["a", "b", "c"]}, "two classes"),
        ({"labels": "binary", "ignore": [1]}, "ignore with"),
        ({"threshold": 3}, "threshold with"),
        ({"label_map": {"road": ["#112233"]}}, "numbers"),
        ({"labels": "colour", "ignore": [3]}, "colours"),
        ({"label_map": {"road": [1, 2], "car": [2]}}, "2 twice"),
        ({"label_map": {"1": "road"}, "ignore": [1]}, "1 twice"),
        ({"label_map": {"1": "road"}, "classes": ["rode", "car"]}, "'road' in label_map"),
        ({"label_map": {"road": [1.5]}}, "label_map"),
        ({"holdout": 1.0}, "less than 1"),
    ],
)  # fmt: skip
def test_a_table_with_a_mistake_is_refused_with_what_is_allowed(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FolderData.model_validate({"root": "x", **keys})
    assert named in str(caught.value)


def test_both_notations_of_a_map_mean_the_same() -> None:
    by_value = FolderData(root="x", label_map={"7": "road", "8": "road", "-1": "car"}, classes=("road", "car"))
    by_class = FolderData(root="x", label_map={"road": (7, 8), "car": -1})
    assert by_value.mapped_values() == by_class.mapped_values() == {"road": (7, 8), "car": (-1,)}
    assert by_class.class_names() == by_value.class_names() == ("road", "car")
    colours = FolderData(root="x", labels="colour", label_map={"#FF0000": "a", "#00ff00": "b"}, classes=("a", "b"))
    assert colours.mapped_values() == {"a": ("#ff0000",), "b": ("#00ff00",)}


def test_keys_with_their_default_are_not_written() -> None:
    plain = FolderData(root="x")
    assert not plain.unwritten & plain.model_dump().keys()
    assert not plain.unwritten & plain.model_dump(mode="json").keys()
    changed = FolderData(root="x", list="a", labels="binary", threshold=3)
    assert changed.model_dump().keys() - plain.model_dump().keys() == {"list", "labels", "threshold"}
    assert FolderData.model_validate(changed.model_dump()) == changed
