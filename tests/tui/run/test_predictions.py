"""Pictures of a run are files that another program may have written."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from textual.geometry import Size

from kdtui.store.run import Run
from kdtui.tui.screens.run.predictions import PictureRequest, read_gallery
from tests.tui.pictures import picture


def header(width: int, height: int) -> bytes:
    """A PNG file of this size, without a pixel."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))


def gif() -> bytes:
    written = BytesIO()
    picture(5).save(written, "GIF")
    return written.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        gif(),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        header(9_300, 9_300),
        header(60_000, 60_000),
    ],
    ids=["gif", "postscript", "many pixels", "a bomb"],
)
def test_only_png_files_of_a_size_that_the_engine_writes_are_drawn(tmp_path: Path, content: bytes) -> None:
    run = Run(tmp_path)
    run.visualization(1).mkdir(parents=True)
    (run.visualization(1) / "000.png").write_bytes(content)
    found = read_gallery(run, PictureRequest(room=Size(80, 20)))
    assert "The picture cannot be read" in found.trouble and found.drawn == ()


def test_a_picture_of_the_engine_is_drawn(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.visualization(1).mkdir(parents=True)
    picture(5).save(run.visualization(1) / "000.png")
    assert read_gallery(run, PictureRequest(room=Size(80, 20))).drawn
    (run.visualization(1) / "000.png").unlink()
    os.mkfifo(run.visualization(1) / "000.png")
    assert "a pipe" in read_gallery(run, PictureRequest(room=Size(80, 20))).trouble
