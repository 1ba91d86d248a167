from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine.data import IGNORE_INDEX, build_dataset, survey
from kdtui.engine.data.folder import read_classes
from kdtui.engine.data.source import Size
from kdtui.errors import DataError
from kdtui.profile import FolderData
from tests.engine.data.makers import HEIGHT, WIDTH, label_folder, labels, picture


def test_labels_names_and_the_ignored_value_are_read(tmp_path: Path) -> None:
    dataset = build_dataset(label_folder(tmp_path), "val", stride=1)
    assert dataset.classes == ("sky", "road", "traffic sign") and dataset.task == "semantic" and len(dataset) == 3
    mask = dataset[0, 0].mask
    assert [mask[y, 0].item() for y in (0, 10, 20, 30)] == [0, 1, 2, IGNORE_INDEX]
    image, _ = dataset.render(0, HEIGHT, WIDTH)
    assert np.array_equal(image, np.asarray(picture()))


def test_frames_of_a_group_are_one_clip(tmp_path: Path) -> None:
    clips = build_dataset(label_folder(tmp_path, count=3, group=r"val/([01])"), "val")
    assert [clips.unit(index) for index in range(3)] == ["0", "1", "2.png"] and clips.resampled == "clips"
    alone = build_dataset(label_folder(tmp_path, count=3), "val")
    assert [alone.unit(index) for index in range(3)] == ["0.png", "1.png", "2.png"] and alone.resampled == "images"


def test_numbers_with_gaps_become_classes_in_their_order(tmp_path: Path) -> None:
    data = label_folder(tmp_path, classes="2 two\n0 nought\n1 one\nignore_index 11\n7 seven\n")
    dataset = build_dataset(data, "val")
    assert dataset.classes == ("nought", "one", "two", "seven")
    values = labels()
    values[0, 0] = 7
    Image.fromarray(values).save(tmp_path / "masks/val/0.png")
    assert dataset.render(0, HEIGHT, WIDTH)[1][0, 0] == 3


def mask_forms() -> dict[str, Image.Image]:
    values = labels()
    grey = Image.fromarray(values)
    indexed = Image.new("P", (WIDTH, HEIGHT))
    indexed.putpalette([number % 251 for number in range(768)])
    indexed.putdata(values.ravel().tolist())
    transparent = indexed.copy()
    transparent.info["transparency"] = 0
    return {
        "grey.png": grey,
        "indexed.png": indexed,
        "transparent.png": transparent,
        "sixteen.png": Image.fromarray(values.astype(np.uint16)),
        "sixteen.tif": Image.fromarray(values.astype(np.uint16)),
        "thirtytwo.tiff": Image.fromarray(values.astype(np.int32)),
        "colour.png": Image.fromarray(np.repeat(values[..., None], 3, axis=2)),
        "alpha.png": Image.fromarray(np.dstack([values, values, values, np.full_like(values, 255)])),
    }


@pytest.mark.parametrize("name", mask_forms())
def test_a_mask_may_be_stored_in_many_ways(tmp_path: Path, name: str) -> None:
    dataset = build_dataset(label_folder(tmp_path, count=1), "val")
    expected = dataset.render(0, HEIGHT, WIDTH)[1]
    (tmp_path / "masks/val/0.png").unlink()
    mask_forms()[name].save(tmp_path / f"masks/val/0{Path(name).suffix}")
    again = build_dataset(label_folder_data(tmp_path), "val")
    assert np.array_equal(again.render(0, HEIGHT, WIDTH)[1], expected)


def label_folder_data(root: Path) -> FolderData:
    return FolderData(kind="folder", root=str(root), height=HEIGHT, width=WIDTH)


def image_forms() -> dict[str, Image.Image]:
    colours = picture()
    clear = colours.convert("RGBA")
    clear.putalpha(128)
    indexed = colours.quantize(255)
    transparent = indexed.copy()
    transparent.info["transparency"] = bytes([0, 128, 255])
    grey = np.asarray(colours.convert("L"))
    return {
        "rgba.png": clear,
        "rgba.tif": clear,
        "palette.png": indexed,
        "transparent.png": transparent,
        "photo.JPG": colours,
        "cmyk.jpeg": colours.convert("CMYK"),
        "grey.png": colours.convert("L"),
        "grey_alpha.png": colours.convert("LA"),
        "sixteen.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "sixteen.tiff": Image.fromarray(grey.astype(np.uint16) * 257),
        "two.png": colours.convert("1"),
    }


@pytest.mark.parametrize("name", image_forms())
def test_an_image_may_be_stored_in_many_ways(tmp_path: Path, name: str) -> None:
    label_folder(tmp_path, count=1)
    (tmp_path / "images/val/0.png").unlink()
    image_forms()[name].save(tmp_path / f"images/val/0{Path(name).suffix}")
    seen, _ = build_dataset(label_folder_data(tmp_path), "val").render(0, HEIGHT, WIDTH)
    grey = name.startswith(("grey", "sixteen", "two"))
    expected = np.asarray(picture().convert("L").convert("RGB") if grey else picture()).astype(int)
    if not name.startswith("two"):
        assert np.abs(seen - expected).mean() < 6
    assert seen.dtype == np.uint8 and seen.shape == (HEIGHT, WIDTH, 3)


def test_an_image_and_its_mask_are_both_turned_upright(tmp_path: Path) -> None:
    label_folder(tmp_path, count=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = picture().transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "images/val/0.png", exif=exif)
    seen, _ = build_dataset(label_folder_data(tmp_path), "val").render(0, HEIGHT, WIDTH)
    assert np.array_equal(seen, np.asarray(picture()))


def test_resizing_invents_no_labels(tmp_path: Path) -> None:
    dataset = build_dataset(label_folder(tmp_path, height=31, width=77), "val", stride=32)
    assert dataset[0, 0].mask.shape == (32, 96)
    assert set(dataset.render(0, 31, 77)[1].ravel().tolist()) == {0, 1, 2, IGNORE_INDEX}


def test_a_strange_value_is_named_with_its_file_and_what_is_allowed(tmp_path: Path) -> None:
    data = label_folder(tmp_path)
    values = labels()
    values[3, 3], values[4, 4] = 77, 255
    Image.fromarray(values).save(tmp_path / "masks/val/1.png")
    with pytest.raises(DataError) as caught:
        build_dataset(data, "val")[1, 0]
    for part in ("masks/val/1.png", "77, 255", "2 traffic sign", "ignored 11"):
        assert part in caught.value.message
    build_dataset(data, "val")[0, 0]


def test_a_mask_of_colours_is_refused(tmp_path: Path) -> None:
    data = label_folder(tmp_path)
    picture().save(tmp_path / "masks/val/0.png")
    with pytest.raises(DataError, match=r"colours[\s\S]*0\.png"):
        build_dataset(data, "val")[0, 0]


def test_sizes_that_differ_are_named(tmp_path: Path) -> None:
    data = label_folder(tmp_path)
    picture(20, 30).save(tmp_path / "images/val/2.png")
    with pytest.raises(DataError, match=r"2\.png[\s\S]*20x30[\s\S]*60x40"):
        build_dataset(data, "val")[2, 0]


def test_images_without_masks_are_listed(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=9)
    for number in range(2, 9):
        (tmp_path / f"masks/val/{number}.png").unlink()
    with pytest.raises(DataError) as caught:
        build_dataset(data, "val")
    assert "7 of 9" in caught.value.message
    assert "2.png, 3.png, 4.png, 5.png, 6.png and 2 more" in caught.value.message
    assert len(build_dataset(data, "train")) == 9


def test_an_empty_a_missing_split_and_a_missing_root_are_named(tmp_path: Path) -> None:
    data = label_folder(tmp_path)
    with pytest.raises(DataError, match=r"images/test[\s\S]*train, val"):
        build_dataset(data, "test")
    for kind in ("images", "masks"):
        (tmp_path / kind / "test").mkdir()
    with pytest.raises(DataError, match="empty"):
        build_dataset(data, "test")
    with pytest.raises(DataError, match="nowhere"):
        build_dataset(data.model_copy(update={"root": str(tmp_path / "nowhere")}), "val")
    with pytest.raises(DataError, match="no such split"):
        build_dataset(data, "vla")


@pytest.mark.filterwarnings("ignore::UserWarning")  # pillow also warns of what it then cannot read
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    label_folder(tmp_path, count=1)
    (tmp_path / "images/val/0.png").unlink()
    path = tmp_path / f"images/val/0.{suffix}"
    picture().save(path)
    whole = path.read_bytes()
    dataset = build_dataset(label_folder_data(tmp_path), "val")
    for damaged in (b"", b"no image", whole[: len(whole) // 2], whole[:30]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"0\.{suffix}"):
            dataset.render(0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 sky\n",
        "0\n1 road\n",
        "sky 0\n1 road\n",
        "0 sky\n0 road\n",
        "0 sky\n1 sky\n",
        "-1 sky\n1 road\n",
        "0 sky\n1 road\nignore_index\n",
        "0 sky\n1 road\nignore_index 1 void\n",
        "0 sky\n1 road\nignore_index 8 void\nignore_index 9 void\n",
        "0 sky\n1 road\nignore_index void\n",
        "".join(f"{i} c{i}\n" for i in range(300)),
    ],
)
def test_a_class_list_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=r"classes\.txt"):
        read_classes(tmp_path / "classes.txt")


def test_a_class_list_may_hold_comments_and_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeff# names\r\n0 sky\r\n1 road\r\n".encode())
    assert read_classes(path).names == ("sky", "road") and read_classes(path).ignored is None
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"classes\.txt"):
        read_classes(path)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        read_classes(path)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    data = label_folder(tmp_path)
    picture().save(tmp_path / "images/val/0.jpg")
    with pytest.raises(DataError, match=r"0\.jpg, 0\.png"):
        build_dataset(data, "val")


def test_the_survey_looks_at_some_and_says_what_is_there(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=20)
    assert survey(build_dataset(data, "val")).described() == "all 20 checked, values 0 to 177"
    (tmp_path / "images/val/0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"0\.png"):
        survey(build_dataset(data, "val"))


def test_samples_are_read_once(tmp_path: Path) -> None:
    dataset = build_dataset(label_folder(tmp_path), "val")
    first = dataset[0, 0]
    (tmp_path / "images/val/0.png").unlink()
    assert torch.equal(dataset[0, 0].image, first.image)


def test_a_class_name_that_a_terminal_would_obey_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be shown") as caught:
        build_dataset(label_folder(tmp_path, classes="0 sky\n1 \x1b[31mroad\n"), "val")
    assert "\x1b" not in str(caught.value)


def test_a_mask_of_0_and_255_is_offered_what_keeps_the_foreground(tmp_path: Path) -> None:
    data = label_folder(tmp_path, classes="0 background\n1 foreground\n", count=1)
    for values, line in (({0, 255}, "'255 foreground'"), ({0, 128}, "'128 foreground'"), ({255}, "'255 foreground'")):
        mask = np.resize(np.array(sorted(values), np.uint8), (HEIGHT, WIDTH))
        Image.fromarray(mask).save(tmp_path / "masks/val/0.png")
        with pytest.raises(DataError) as caught:
            build_dataset(data, "val")[0, 0]
        assert caught.value.hint is not None and line in caught.value.hint and "'0 background'" in caught.value.hint
        assert "ignore_index" not in caught.value.hint


def test_a_value_of_255_beside_the_classes_is_offered_to_be_ignored(tmp_path: Path) -> None:
    data = label_folder(tmp_path, classes="0 background\n1 foreground\n", count=1)
    Image.fromarray(np.resize(np.array([0, 1, 255], np.uint8), (HEIGHT, WIDTH))).save(tmp_path / "masks/val/0.png")
    with pytest.raises(DataError) as caught:
        build_dataset(data, "val")[0, 0]
    assert caught.value.hint is not None and "'ignore_index 255 void'" in caught.value.hint


def test_a_jpeg_mask_is_known_by_its_content(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=1)
    Image.effect_noise((WIDTH, HEIGHT), 90).save(tmp_path / "masks/val/0.png", "JPEG")
    with pytest.raises(DataError) as caught:
        build_dataset(data, "val")[0, 0]
    assert caught.value.hint == "save masks as PNG: JPEG changes the values"


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".BMP", ".WebP", ".TIF", ".jpeg"])
def test_images_of_every_ending_beside_png_are_read(tmp_path: Path, suffix: str) -> None:
    data = label_folder(tmp_path, count=1)
    picture().save(tmp_path / f"images/val/1{suffix}")
    Image.fromarray(labels()).save(tmp_path / f"masks/val/1{'.bmp' if suffix == '.BMP' else '.png'}")
    dataset = build_dataset(data, "val")
    assert len(dataset) == 2 and dataset.notes() == []
    assert dataset.render(1, HEIGHT, WIDTH)[0].shape == (HEIGHT, WIDTH, 3)


def test_files_that_are_skipped_are_counted_by_their_ending(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=2)
    for name in ("3.gif", "4.gif", "notes.txt", ".DS_Store", "Thumbs.db"):
        (tmp_path / "images/val" / name).write_bytes(b"")
    (tmp_path / "images/val/more").mkdir()
    Image.fromarray(labels()).save(tmp_path / "masks/val/9.png")
    notes = {note.code: note for note in build_dataset(data, "val").notes()}
    assert notes["skipped-files"].message.startswith("4 entries of images/val are skipped: 2 .gif")
    assert "1 .txt" in notes["skipped-files"].message and "1 without ending" in notes["skipped-files"].message
    assert notes["masks-without-image"].message == "1 of 3 masks of the val split have no image: 9.png"
    assert build_dataset(data, "train").notes() == []


def test_masks_of_a_kind_that_is_not_read_are_named_where_images_have_none(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=2)
    for number in range(2):
        (tmp_path / f"masks/val/{number}.png").rename(tmp_path / f"masks/val/{number}.npy")
    (tmp_path / "masks/val/other.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 2 images[\s\S]*without image: other\.png; skipped: 2 \.npy"):
        build_dataset(data, "val")


def test_the_class_list_is_bounded_and_must_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    for text, named in (
        ("0 sky\n" + "9" * 5000 + " road\n", "too large a number"),
        ("0 sky\n4294967296 road\n", "too large a number"),
        ("0 sky\n1 " + "x" * 5000 + "\n", "cannot be shown"),
        ("0 sky\n1 road\n" + "#" * 2**20, r"1\.0 MiB"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=named) as caught:
            read_classes(path)
        assert len(str(caught.value)) < 900
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"classes\.txt[\s\S]*a pipe"):
        read_classes(path)


def test_a_root_that_cannot_be_a_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        build_dataset(label_folder_data(tmp_path / "a\0b"), "val")


def test_a_value_range_scales_the_images(tmp_path: Path) -> None:
    data = label_folder(tmp_path, count=1, value_range=[0, 4095])
    (tmp_path / "images/val/0.png").unlink()
    twelve = np.linspace(0, 4095, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    Image.fromarray(twelve).save(tmp_path / "images/val/0.tiff")
    seen = build_dataset(data, "val").read(0).image
    assert seen.dtype == np.float32 and seen.min() == 0 and seen.max() == 255
    bytes_of_it, _ = build_dataset(data.model_copy(update={"pipeline": 1}), "val").render(0, HEIGHT, WIDTH)
    assert bytes_of_it.dtype == np.uint8 and np.array_equal(bytes_of_it, seen.round())
    dark = build_dataset(label_folder_data(tmp_path), "val").read(0).image
    assert dark.max() == 15


def test_a_class_may_have_a_colour_of_its_own(tmp_path: Path) -> None:
    label_folder(tmp_path, count=1)
    file = tmp_path / "classes.txt"
    lines = [line for line in file.read_text().splitlines() if line.strip()]
    plain = build_dataset(label_folder_data(tmp_path), "val")
    assert plain.own_colours == ("",) * len(plain.classes)
    file.write_text("\n".join([f"{lines[0]} #804080", *lines[1:]]))
    coloured = build_dataset(label_folder_data(tmp_path), "val")
    assert coloured.classes == plain.classes
    assert coloured.own_colours == ("#804080", *plain.own_colours[1:])


def test_what_is_no_colour_is_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("0 #112233\n1 car #12345\n2 a #AABBCC #00ff00\n")
    classes = read_classes(tmp_path / "classes.txt")
    assert classes.names == ("#112233", "car #12345", "a #AABBCC")
    assert classes.colours == ("", "", "#00ff00")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_jpeg_is_decoded_smaller_and_shows_the_same(tmp_path: Path, orientation: int) -> None:
    data = label_folder(tmp_path, count=1).model_copy(update={"height": 32, "width": 48, "augmentation": "none"})
    shades = np.linspace(20, 220, 4 * 160 * 210).reshape(320, 420)
    picture = Image.fromarray(np.dstack([shades, shades.T.reshape(320, 420), 240 - shades]).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = picture.size if orientation in (1, 3) else picture.size[::-1]
    (tmp_path / "images/train/0.png").unlink()
    picture.save(tmp_path / "images/train/0.jpg", exif=exif, quality=95)
    Image.new("L", size, 1).save(tmp_path / "masks/train/0.png")
    dataset = build_dataset(data, "train")
    least = [lambda size: Size(32, 48), lambda size: size]
    small, whole = (dataset.read_reduced(0, needed) for needed in least)
    assert whole.image.shape[:2] == whole.labels.shape == small.labels.shape == size[::-1]
    assert small.image.shape[0] >= 32 and small.image.shape[1] >= 48 and small.image.size < whole.image.size / 10
    assert np.abs(small.image.mean(axis=(0, 1)) - whole.image.mean(axis=(0, 1))).max() < 1
    assert (dataset[0, 0].mask[:32, :48] == 1).all()
    Image.new("L", (size[0] - 1, size[1]), 1).save(tmp_path / "masks/train/0.png")
    with pytest.raises(DataError, match=f"image {size[0]}x{size[1]}, mask {size[0] - 1}x{size[1]}"):
        build_dataset(data, "train")[0, 0]
