"""Images of any number of channels and any depth: values as stored, and on the scale 0 to 255."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kdtui.engine.data.images import ImageFormat, eight_bit, extent, read_values
from kdtui.engine.data.pictures import as_rgb, open_picture, upright
from kdtui.errors import DataError
from kdtui.profile import FolderData
from tests.engine.data.makers import picture, tiff_file
from tests.engine.data.test_fuzz import pictures
from tests.engine.data.test_pictures import frames, png

TWELVE = np.array([[0, 1000], [2000, 4095]], dtype=np.uint16)


def values(channels: int, kind: str, height: int = 12, width: int = 7) -> NDArray[Any]:
    numbers = np.random.default_rng(channels).integers(0, 250, (height, width, channels))
    return (numbers * (1 if np.dtype(kind).itemsize == 1 else 16)).astype(kind)


@pytest.mark.parametrize("content", pictures()[:9])
def test_plain_images_are_read_as_pillow_converts_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    expected = np.asarray(as_rgb(upright(open_picture(tmp_path / "a.png")), tmp_path / "a.png"))
    assert np.array_equal(ImageFormat().image(read_values(tmp_path / "a.png"), tmp_path / "a.png"), expected)


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "i2"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
def test_a_tiff_of_any_shape_is_read_as_stored(
    tmp_path: Path, channels: int, kind: str, planar: bool, deflated: bool
) -> None:
    stored = values(channels, kind)
    (tmp_path / "a.tif").write_bytes(tiff_file(stored, planar=planar, deflated=deflated))
    found = read_values(tmp_path / "a.tif")
    assert np.array_equal(found.reshape(stored.shape), stored)
    image = ImageFormat(channels, (0, 4000)).image(found, tmp_path / "a.tif")
    assert image.dtype == np.float32 and image.shape == stored.shape and image.flags["C_CONTIGUOUS"]
    assert np.allclose(image, stored / 4000 * 255, atol=1e-3)


def test_sixteen_bit_colours_keep_their_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 16, 2, b"\0" + struct.pack(">6H", *range(0, 4095, 700))))
    assert read_values(path).tolist() == [[[0, 700, 1400], [2100, 2800, 3500]]]
    assert np.array_equal(ImageFormat().image(read_values(path), path), np.asarray(as_rgb(open_picture(path), path)))
    scaled = ImageFormat(value_range=(0, 4095)).image(read_values(path), path)
    assert np.allclose(scaled, read_values(path) / 4095 * 255)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_image_is_turned_upright(tmp_path: Path, turn: int, channels: int) -> None:
    stored = values(channels, "u2")
    path = tmp_path / "a.tif"
    content = tiff_file(stored)
    # The predictor's tag of 1 is the default: its place is taken by the orientation.
    path.write_bytes(content.replace(struct.pack("<HHIHH", 317, 3, 1, 1, 0), struct.pack("<HHIHH", 274, 3, 1, turn, 0)))
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored.astype(np.uint8)[..., 0]).save(tmp_path / "b.png", exif=exif)
    expected = upright(open_picture(tmp_path / "b.png"))
    found = read_values(path).reshape(*read_values(path).shape[:2], -1)
    assert np.array_equal(found[..., 0].astype(np.uint8), np.asarray(expected))
    if expected.size != (7, 12) and channels > 1:  # Pillow turns a TIFF itself
        assert np.array_equal(read_values(path, (7, 12)).reshape(stored.shape), stored)


@pytest.mark.parametrize("stored", [TWELVE, TWELVE.astype(np.int32), TWELVE.astype(np.float32)])
def test_a_value_range_scales_what_the_file_holds(tmp_path: Path, stored: NDArray[Any]) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(stored).save(path)
    seen = ImageFormat(value_range=(0, 4095), rounded=True).image(read_values(path), path)
    assert seen.dtype == np.uint8 and seen[..., 0].tolist() == [[0, 62], [125, 255]] and (seen == seen[..., :1]).all()
    exact = ImageFormat(value_range=(0, 4095)).image(read_values(path), path)
    assert exact.dtype == np.float32 and np.allclose(exact[..., 0], TWELVE / 4095 * 255)
    cut = ImageFormat(value_range=(1000, 2000)).image(read_values(path), path)
    assert cut[..., 0].tolist() == [[0, 0], [255, 255]]
    found = extent(read_values(path))
    assert (found.low, found.high) == (0, 4095)


def test_a_value_range_scales_eight_bits_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[[0, 1, 0], [1, 1, 1]]], dtype=np.uint8)).save(path)
    image = ImageFormat(value_range=(0, 1)).image(read_values(path), path)
    assert image.tolist() == [[[0, 255, 0], [255, 255, 255]]] and eight_bit(image) == (0, 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_one_channel_is_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    picture().convert(mode).save(path)
    grey = ImageFormat(channels=1).image(read_values(path), path)
    expected = np.asarray(as_rgb(open_picture(path), path).convert("L"))
    assert grey.shape == (40, 60, 1) and np.array_equal(grey[..., 0], expected)


@pytest.mark.parametrize(
    ("channels", "stored", "named"), [(4, 3, "3 channels"), (3, 5, "5 channels"), (2, 1, "1 channel")]
)
def test_channels_that_files_do_not_have_are_refused(tmp_path: Path, channels: int, stored: int, named: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_file(values(stored, "u2")))
    with pytest.raises(DataError) as caught:
        ImageFormat(channels).image(read_values(path), path)
    assert caught.value.found == named and caught.value.hint == f"--set data.channels={stored}"
    assert str(caught.value.where).endswith("a.tif")


def test_alpha_is_a_channel_only_if_four_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    stored = values(4, "u1")
    Image.fromarray(stored).save(path)
    assert np.array_equal(ImageFormat(4).image(read_values(path), path), stored)
    assert np.array_equal(ImageFormat(3).image(read_values(path), path), stored[..., :3])


def test_a_tiff_that_claims_too_much_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    content = tiff_file(values(5, "u2"), deflated=True)
    sizes = struct.pack("<HHII", 256, 4, 1, 7), struct.pack("<HHII", 257, 4, 1, 12)
    for width, message in ((2**27, "too large"), (5000, "incomplete"), (0, "cannot be read")):
        path.write_bytes(content.replace(sizes[0], struct.pack("<HHII", 256, 4, 1, width)))
        with pytest.raises(DataError, match=message):
            read_values(path)
    path.write_bytes(content.replace(struct.pack("<HHIHH", 259, 3, 1, 8, 0), struct.pack("<HHIHH", 259, 3, 1, 5, 0)))
    with pytest.raises(DataError, match="compression") as caught:
        read_values(path)
    assert "LZW, 5 channels" in str(caught.value.found) and "deflate" in str(caught.value.hint)


def test_a_tiff_of_several_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(frames("TIFF", [(8, 8), (8, 8)]))
    with pytest.raises(DataError, match="several frames"):
        read_values(tmp_path / "a.tif")


def test_the_format_of_a_profile_follows_its_pipeline() -> None:
    assert ImageFormat.of(FolderData(root="x", pipeline=1, value_range=(0, 9))) == (3, (0, 9), True)
    assert ImageFormat.of(FolderData(root="x", channels=4)) == (4, None, False)
