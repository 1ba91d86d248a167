"""Read image files of any mode as RGB, with errors that name the file.

A picture is decoded by one of the decoders in :data:`FORMATS` (a mask also by that of GIF), which run in this process,
independent of the file name: some of Pillow's other decoders start programs (Ghostscript for PostScript). The size is
checked before decoding.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kdtui.engine.data.source import Needed, Size
from kdtui.errors import DataError
from kdtui.store.files import byte_count, reading

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MASK_FORMATS = (*FORMATS, "GIF")
MOST_PIXELS = 2**27
"""Largest picture in pixels: 134 million take half a gigabyte as RGB."""
MOST_BYTES = 2**30
"""Largest picture file."""

# Exceptions of Pillow for damaged or hostile files, found by changing bytes of valid ones.
PICTURE_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_OTHER_CONTENT = (
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"GIF8", "GIF"),
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a zip archive"),
    (b"version https://git-lfs", "a Git LFS pointer: `git lfs pull` fetches the image"),
    (b"<", "text in HTML, SVG or XML"),
)
_HEAD = 32  # bytes
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_COLOURS = ("RGB", "RGBA", "RGBX", "LA", "CMYK")
_ALPHA = ("RGBA", "LA", "PA")
_CUT_TO_A_BYTE = "cut_to_a_byte"
_WHOLE_SIZE = "whole_size"
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(path: Path, *, mask: bool = False, needed: Needed | None = None) -> Image.Image:
    """The decoded file, as stored (not turned, not converted).

    Args:
        path: The file.
        mask: Whether :data:`MASK_FORMATS` are read instead of :data:`FORMATS`.
        needed: The smallest size that is needed, for the size of the picture when upright. A JPEG file that is at
            least twice as large is decoded at a half, a quarter or an eighth of its size, which is faster.

    Raises:
        DataError: The file has another format, is damaged or too large, or has several frames.
    """
    try:
        with reading(path) as file, warnings.catch_warnings():
            # Pillow warns about damage that it skips, and about sizes that are rejected below.
            warnings.simplefilter("ignore")
            return _decoded(file, path, MASK_FORMATS if mask else FORMATS, needed)
    except FileNotFoundError:
        raise DataError("an image is missing", where=path, hint="is the folder of images the right one?") from None
    except PICTURE_ERRORS as error:
        raise DataError("an image cannot be read", where=path, found=brief(error)) from None


def _decoded(file: BinaryIO, path: Path, formats: tuple[str, ...], needed: Needed | None) -> Image.Image:
    head = file.read(_HEAD)
    check_bytes(file, path)
    try:
        picture = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise DataError(
            "an image has a format that is not read", where=path, found=_content(head), allowed=", ".join(formats)
        ) from None
    except Image.DecompressionBombError:
        raise DataError("an image is too large", where=path, allowed=f"at most {MOST_PIXELS:,} pixels") from None
    with picture:
        check_pixels(picture.width, picture.height, path)
        if _frames(picture):
            raise several_frames(picture.format, path)
        sixteen = any(_sixteen_bit_colour(picture.mode, tile[3]) for tile in picture.tile)
        if needed is not None and picture.format == "JPEG":
            _decode_smaller(picture, needed)
        picture.load()
        picture.info[_CUT_TO_A_BYTE] = sixteen
    return picture


def check_bytes(file: BinaryIO, path: Path) -> None:
    """Refuse a file larger than :data:`MOST_BYTES`, and go to its beginning."""
    size = file.seek(0, 2)
    file.seek(0)
    if size > MOST_BYTES:
        raise DataError(
            "an image file is too large",
            where=path,
            found=byte_count(size),
            allowed=f"at most {byte_count(MOST_BYTES)}",
        )


def check_pixels(width: int, height: int, path: Path) -> None:
    """Refuse a picture of more than :data:`MOST_PIXELS`."""
    if width * height > MOST_PIXELS:
        raise DataError(
            "an image is too large",
            where=path,
            found=f"{width}x{height} = {width * height:,} pixels",
            allowed=f"at most {MOST_PIXELS:,} pixels",
            hint="cut it into tiles or make it smaller: the network sees at most 4096x4096",
        )


def several_frames(kind: str | None, path: Path) -> DataError:
    """The error for a file with several pictures of one size."""
    return DataError(
        "an image holds several frames",
        where=path,
        found=f"{kind} with two frames or more",
        allowed="one picture per file",
        hint="save each frame as a file of its own",
    )


def _sixteen_bit_colour(mode: str, arguments: object) -> bool:
    """Whether a decoder reads 16 bits per channel, of which a colour picture keeps the upper byte."""
    layout = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return mode in _COLOURS and isinstance(layout, str) and ";16" in layout and not layout.startswith("BGR")


def _frames(picture: Image.Image) -> bool:
    """Whether a file holds several pictures of one size: smaller ones are thumbnails, those of an MPO other views."""
    if not getattr(picture, "is_animated", False) or picture.format == "MPO":
        return False
    if picture.format != "TIFF":
        return True
    first = picture.size
    picture.seek(1)
    second = picture.size
    picture.seek(0)
    return second == first


def _content(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp":
        return f"{head[8:12].decode('ascii', 'replace')} (HEIC, AVIF or video)"
    return next((name for magic, name in _OTHER_CONTENT if head.startswith(magic)), "no known image format")


def brief(error: BaseException) -> str:
    """A library's exception in one short line."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return (text or type(error).__name__)[:200]


def _decode_smaller(picture: Image.Image, needed: Needed) -> None:
    turned = orientation(picture) in _SIDEWAYS
    width, height = picture.size[::-1] if turned else picture.size
    picture.info[_WHOLE_SIZE] = Size(height, width)
    least = needed(Size(height, width))
    picture.draft(None, (least.height, least.width) if turned else (least.width, least.height))


def whole_size(picture: Image.Image) -> Size | None:
    """Size of the upright picture in the file, if it was decoded at a smaller one."""
    size: Size | None = picture.info.get(_WHOLE_SIZE)
    return size


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if the EXIF cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turn = picture.getexif().get(_ORIENTATION, 1)
    except PICTURE_ERRORS:  # the pixels are valid, only the orientation is unknown
        return 1
    return turn if turn in _TURNS else 1


def upright(picture: Image.Image) -> Image.Image:
    """The picture with its EXIF orientation applied; as stored if the EXIF cannot be read."""
    turn = _TURNS.get(orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def has_sixteen_bit_colours(picture: Image.Image) -> bool:
    """Whether the file has 16 bits per channel, of which the decoded colour picture has the upper byte."""
    return bool(picture.info.get(_CUT_TO_A_BYTE))


def as_rgb(picture: Image.Image, path: Path) -> Image.Image:
    """Any mode as 8-bit RGB, without transparency; of 16-bit values the upper byte.

    Args:
        picture: As :func:`open_picture` returns it.
        path: Its file, for messages.

    Raises:
        DataError: The mode has no meaning in RGB.
    """
    if picture.mode == "RGB":
        return picture
    if picture.mode in _SIXTEEN_BIT:
        values = np.asarray(picture)
        # Mode I also carries 8-bit values and, from some PNGs, 16-bit ones.
        grey = values >> 8 if picture.mode != "I" or values.max(initial=0) > 255 else values
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Pillow warns when converting directly to RGB
    try:
        return picture.convert("RGB")
    except PICTURE_ERRORS as error:
        raise DataError(
            "an image cannot be turned into RGB", where=path, found=f"mode {picture.mode}: {brief(error)}"
        ) from None


def as_labels(picture: Image.Image, path: Path) -> NDArray[np.integer]:
    """A mask's values: grey levels, palette indices, or the first channel where all colour channels agree.

    Raises:
        DataError: The mask has colours or fractions, or only its alpha channel varies.
    """
    values = np.asarray(picture)
    if picture.mode == "1":
        return values.astype(np.uint8)
    if values.ndim == 2 and np.issubdtype(values.dtype, np.integer):
        return values
    if picture.mode == "F" and (values == np.round(values)).all():  # also false for nan
        return values.clip(-(2**31), 2**31 - 1).astype(np.int64)
    if picture.mode in _ALPHA and _constant(values[..., :-1]) and not _constant(values[..., -1:]):
        raise DataError(
            "a mask has one class everywhere, but its alpha channel has not",
            where=path,
            found=f"mode {picture.mode}, colour {values[0, 0, :-1].tolist()}, alpha {values[..., -1].min()} to "
            f"{values[..., -1].max()}",
            allowed="one channel of class numbers (grey or palette)",
            hint="if the alpha channel is the mask, save that channel as a grey PNG",
        )
    if values.ndim == 3 and picture.mode in ("RGB", *_ALPHA):
        colours = values[..., : 3 if picture.mode in ("RGB", "RGBA") else 1]
        if (colours == colours[..., :1]).all():
            return np.ascontiguousarray(colours[..., 0])
    raise DataError(
        "a mask holds fractions instead of class numbers"
        if picture.mode == "F"
        else "a mask holds colours instead of class numbers",
        where=path,
        found=f"mode {picture.mode}",
        allowed="one channel of class numbers (grey or palette)",
    )


def _constant(values: NDArray[np.uint8]) -> bool:
    return bool((values == values[:1, :1]).all())
