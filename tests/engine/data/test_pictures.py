"""Pictures are decoded by a few decoders of this process, bounded before a pixel is decoded, and named when refused."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdtui.engine.data.pictures import MOST_BYTES, MOST_PIXELS, as_labels, as_rgb, open_picture, upright
from kdtui.errors import DataError
from tests.engine.data.makers import picture


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file with this header, whatever its rows are."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def frames(kind: str, sizes: list[tuple[int, int]]) -> bytes:
    """A file of several pictures."""
    first, *others = (Image.effect_noise(size, 50).convert("RGB") for size in sizes)
    written = BytesIO()
    first.save(written, kind, save_all=True, append_images=others)
    return written.getvalue()


def test_postscript_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, started = tmp_path / "gs", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "3.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"not read[\s\S]*3\.png[\s\S]*PostScript[\s\S]*PNG, JPEG, BMP, TIFF, WEBP"):
        open_picture(path)
    assert not started.exists()


@pytest.mark.parametrize("kind", ["GIF", "ICO", "PPM", "TGA", "PCX", "SGI", "ICNS", "JPEG2000", "PDF"])
def test_no_other_format_is_read(tmp_path: Path, kind: str) -> None:
    picture(32, 32).save(tmp_path / "a.png", kind)
    with pytest.raises(DataError, match=r"format that is not read"):
        open_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b"\x00\x00\x00\x1cftypheic\x00\x00", "HEIC"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=named):
        open_picture(tmp_path / "a.png")


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_picture_of_too_many_pixels_is_refused_before_one_is_decoded(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png(side, side, 8, 2, b""))
    with pytest.raises(DataError, match=rf"too large[\s\S]*a\.png[\s\S]*at most {MOST_PIXELS:,} pixels"):
        open_picture(tmp_path / "a.png")


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", MOST_BYTES + 1)
    with pytest.raises(DataError, match=r"too large[\s\S]*a\.png[\s\S]*at most 1\.0 GiB"):
        open_picture(tmp_path / "a.png")


def test_a_pipe_in_place_of_a_picture_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png[\s\S]*a pipe"):
        open_picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"b\.png[\s\S]*a device"):
        open_picture(tmp_path / "b.png")
    with pytest.raises(DataError, match="cannot be read"):
        open_picture(tmp_path / "a\0.png")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_file_of_several_pictures_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(frames(kind, [(32, 32), (32, 32), (32, 32)]))
    with pytest.raises(DataError, match=rf"several frames[\s\S]*{kind}"):
        open_picture(tmp_path / "a.png")


def test_a_smaller_copy_in_the_same_file_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(frames("TIFF", [(32, 24), (16, 12), (8, 6)]))
    assert open_picture(tmp_path / "a.tif").size == (32, 24)
    (tmp_path / "b.jpg").write_bytes(frames("MPO", [(32, 24), (32, 24)]))
    assert open_picture(tmp_path / "b.jpg").size == (32, 24)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0broken", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_picture_with_broken_exif_is_read_as_stored(tmp_path: Path, kind: str, exif: bytes) -> None:
    picture().save(tmp_path / "a.png", kind, **({} if kind == "TIFF" else {"exif": exif}))
    if kind == "TIFF":  # its EXIF is a part of its own directory
        (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes().replace(b"II*\0", b"II*\0", 1) + exif)
    assert upright(open_picture(tmp_path / "a.png")).size == picture().size


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("LAB", "TIFF"), ("YCbCr", "JPEG")])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, kind: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "a.png", kind)
    assert as_rgb(open_picture(tmp_path / "a.png"), tmp_path / "a.png").mode == "RGB"


def test_a_mode_without_meaning_in_rgb_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png[\s\S]*mode La"):
        as_rgb(Image.new("La", (8, 8)), tmp_path / "a.png")


def shape(fill: int) -> np.ndarray:
    values = np.zeros((6, 8), np.uint8)
    values[2:4, 2:5] = fill
    return values


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_mask_in_the_alpha_channel_is_seen(mode: str, colour: int) -> None:
    mask = Image.new(mode, (8, 6), colour if mode != "RGBA" else (colour,) * 3 + (0,))
    mask.putalpha(Image.fromarray(shape(255)))
    with pytest.raises(DataError, match=r"alpha channel[\s\S]*a\.png[\s\S]*grey PNG"):
        as_labels(mask, Path("a.png"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGB", "L", "P", "I", "F"])
def test_a_grey_mask_is_read_whatever_its_mode(mode: str) -> None:
    grey = Image.fromarray(shape(1))
    if mode in ("P", "PA"):
        mask = Image.new("P", (8, 6))
        mask.putpalette([7] * 768)
        mask.putdata(shape(1).ravel().tolist())
        mask = mask if mode == "P" else mask.convert("PA")
    else:
        mask = grey.convert(mode)
    if mode in ("RGBA", "LA"):
        mask.putalpha(Image.fromarray(shape(255)))
    assert np.array_equal(as_labels(mask, Path("a.png")), shape(1))


def test_a_mask_of_fractions_is_refused() -> None:
    with pytest.raises(DataError, match="fractions"):
        as_labels(Image.fromarray(np.array([[0.0, 0.5]], np.float32)), Path("a.tif"))
    with pytest.raises(DataError, match="fractions"):
        as_labels(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), Path("a.tif"))
