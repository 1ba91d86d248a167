"""Masks as labels: numbers, colours and thresholds, and what is said about values that are no class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdtui.engine.data import IGNORE_INDEX, build_dataset
from kdtui.engine.data.folder import read_classes
from kdtui.engine.data.labels import JPEG_NOISE, LabelReader
from kdtui.errors import DataError
from kdtui.profile import FolderData
from kdtui.profile.class_list import Classes, inline_classes
from tests.engine.data.makers import label_folder, picture
from tests.engine.data.miniatures import HEIGHT, WIDTH, saved, stripes

COLOURED = ("sky #0080ff", "road #804080", "car #000080")
TABLE = np.array([[0, 128, 255], [128, 64, 128], [0, 0, 128]], np.uint8)


def reader(classes: tuple[str, ...] = COLOURED, **keys: Any) -> LabelReader:
    return LabelReader(FolderData(root="x", classes=classes, **keys), inline_classes(classes))


def masks() -> dict[str, Image.Image]:
    """A mask with foreground in its lower half, in the ways in which binary masks are stored."""
    grey = stripes(0, 255)
    alpha = np.dstack([np.full_like(grey, 30), np.full_like(grey, 60), np.full_like(grey, 90), grey])
    bilevel = Image.frombytes("P", (WIDTH, HEIGHT), (grey // 255).tobytes())
    bilevel.putpalette([0, 0, 0, 255, 255, 255])
    return {
        "grey.png": Image.fromarray(grey),
        "bits.png": Image.fromarray(grey).convert("1"),
        "colour.png": Image.fromarray(np.repeat(grey[..., None], 3, axis=2)),
        "red.png": Image.fromarray(np.dstack([grey, np.zeros_like(grey), np.zeros_like(grey)])),
        "lossy.jpg": Image.fromarray(grey),
        "alpha.png": Image.fromarray(alpha),
        "grey_alpha.png": Image.fromarray(np.dstack([np.full_like(grey, 7), grey])),
        "palette.gif": bilevel,
        "sixteen.png": Image.fromarray(grey.astype(np.uint16) * 257),
    }


@pytest.mark.parametrize("name", masks())
def test_a_binary_mask_is_foreground_above_a_threshold(tmp_path: Path, name: str) -> None:
    saved(masks()[name], tmp_path / name)
    threshold = 60 if name == "red.png" else 127  # pure red has the grey value 76
    labels = reader(("no", "yes"), labels="binary", threshold=threshold)(tmp_path / name)
    assert labels.dtype == np.uint8 and np.array_equal(labels, stripes(0, 1))


def test_binary_data_need_no_class_list(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=1, labels="binary", threshold=0)
    with pytest.raises(DataError, match="two classes"):
        build_dataset(data, "val")
    (tmp_path / "classes.txt").unlink()
    dataset = build_dataset(data, "val")
    assert dataset.classes == data.class_names() == ("background", "foreground")
    assert dataset.look(0).labels.max() == 1
    (tmp_path / "classes.txt").write_text("0 road\n1 lane #ff0000\n")
    assert build_dataset(data, "val").classes == data.class_names() == ("road", "lane")


def test_colours_are_matched_exactly(tmp_path: Path) -> None:
    saved(TABLE[stripes(0, 1, 2)], tmp_path / "a.png")
    assert np.array_equal(reader(labels="colour")(tmp_path / "a.png"), stripes(0, 1, 2))
    strange = TABLE[stripes(0, 1, 2)]
    strange[:2, :3], strange[5, 5] = (9, 9, 9), (0, 128, 254)
    saved(strange, tmp_path / "b.png")
    with pytest.raises(DataError) as caught:
        reader(labels="colour")(tmp_path / "b.png")
    assert caught.value.found == "#090909 (6 pixels), #0080fe (1 pixels)"
    assert str(caught.value.where).endswith("b.png") and "#0080ff sky" in str(caught.value.allowed)
    ignoring = reader(labels="colour", ignore=("#090909", "#0080FE"))(tmp_path / "b.png")
    assert (ignoring == IGNORE_INDEX).sum() == 7


def test_jpeg_masks_take_the_nearest_colour_unless_colours_are_close(tmp_path: Path) -> None:
    saved(TABLE[stripes(0, 1, 2)], tmp_path / "a.jpg", quality=80, subsampling=0)
    labels = reader(labels="colour")(tmp_path / "a.jpg")
    assert (labels == stripes(0, 1, 2)).mean() > 0.95
    near = (f"one #{10:02x}0000", f"two #{10 + 2 * JPEG_NOISE - 1:02x}0000")
    with pytest.raises(DataError, match="noise") as caught:
        reader(near, labels="colour")(tmp_path / "a.jpg")
    assert "differ by 95" in str(caught.value.found) and "PNG" in str(caught.value.hint)


def test_classes_without_colours_or_of_one_colour_are_refused() -> None:
    with pytest.raises(DataError, match="2 of 3 classes have no colour") as caught:
        reader(("a #000000", "b", "c"), labels="colour")
    assert caught.value.found == "b, c" and caught.value.where == "data.classes"
    with pytest.raises(DataError, match="one colour"):
        reader(("a #000000", "b #000000"), labels="colour")
    both = reader(("a", "b"), labels="colour", label_map={"#000000": "a", "#ffffff": "a", "#ff0000": "b"})
    assert both is not None


def test_a_map_takes_several_values_to_a_class_and_ignores_others(tmp_path: Path) -> None:
    saved(stripes(7, 8, 0, 26), tmp_path / "a.png")
    keys: dict[str, Any] = {"label_map": {"flat": (7, 8), "car": 26}}
    assert np.array_equal(
        reader(("car", "flat"), ignore=(0,), **keys)(tmp_path / "a.png"), stripes(1, 1, IGNORE_INDEX, 0)
    )
    with pytest.raises(DataError, match="leaves out") as caught:
        reader(("car", "flat"), **keys)(tmp_path / "a.png")
    assert caught.value.found == "0" and str(caught.value.where).endswith("a.png")
    assert "data.ignore" in str(caught.value.hint) and "7, 8 flat" in str(caught.value.allowed)
    negative = np.full((4, 4), -1, np.int32)
    saved(negative, tmp_path / "b.tif")
    assert (reader(("car", "flat"), ignore=(-1,), **keys)(tmp_path / "b.tif") == IGNORE_INDEX).all()


def test_a_map_names_every_class_of_the_list() -> None:
    classes = Classes(("a", "b"), (0, 1), None, ("", ""))
    for label_map, named in (({"a": 1}, "leaves classes out"), ({"a": 1, "b": 2, "c": 3}, "do not exist")):
        with pytest.raises(DataError, match=named) as caught:
            LabelReader(FolderData(root="x", label_map=label_map), classes)
        assert caught.value.where == "data.label_map"


def test_large_numbers_are_classes_too(tmp_path: Path) -> None:
    saved(np.array([[0, 70_000], [2**31 - 1, 0]], np.int32), tmp_path / "a.tif")
    classes = Classes(("a", "b", "c"), (0, 70_000, 2**31 - 1), None, ("", "", ""))
    assert LabelReader(FolderData(root="x"), classes)(tmp_path / "a.tif").tolist() == [[0, 1], [2, 0]]


def test_a_mask_of_colours_names_the_key_that_reads_it(tmp_path: Path) -> None:
    saved(picture(), tmp_path / "a.png")
    with pytest.raises(DataError, match="colours") as caught:
        reader()(tmp_path / "a.png")
    assert "--set data.labels=colour" in str(caught.value.hint)
    with pytest.raises(DataError) as caught:
        reader(("a", "b"))(tmp_path / "a.png")
    assert "data.labels=colour" not in str(caught.value.hint)


def test_binary_masks_read_as_numbers_name_the_key_that_reads_them(tmp_path: Path) -> None:
    saved(stripes(0, 255), tmp_path / "a.png")
    with pytest.raises(DataError) as caught:
        reader(("a", "b"))(tmp_path / "a.png")
    assert "--set data.labels=binary" in str(caught.value.hint)


def test_the_ignored_colour_is_read_with_and_without_a_name(tmp_path: Path) -> None:
    for line in ("ignore_index 255 void #010203", "ignore_index 255 #010203"):
        (tmp_path / "classes.txt").write_text(f"0 a #000000\n1 b #ffffff\n{line}\n")
        classes = read_classes(tmp_path / "classes.txt")
        assert classes.ignored == 255 and classes.ignored_colour == "#010203"
    saved(np.full((4, 4, 3), (1, 2, 3), np.uint8), tmp_path / "a.png")
    data = FolderData(root="x", labels="colour")
    assert (LabelReader(data, classes)(tmp_path / "a.png") == IGNORE_INDEX).all()


def test_a_gif_is_read_as_a_mask_of_one_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(stripes(0, 255)), Image.fromarray(stripes(255, 0))]
    saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="several frames"):
        reader(("a", "b"), labels="binary")(tmp_path / "a.gif")
