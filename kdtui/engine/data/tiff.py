"""TIFF files that Pillow does not read completely: any number of channels, of 8 to 64 bits, in planes or interleaved.

Pillow parses the directory of the file. Strips and tiles without compression or with deflate are read here, with a
bound for what they decompress to; OpenCV decodes other compressions of three or four channels.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from kdtui.errors import DataError
from kdtui.store.files import byte_count

# Damage is reported by an exception; OpenCV would also print it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MOST_CHANNELS = 64
_MOST_BYTES = 2**31
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NONE, _DEFLATE = (1,), (8, 32946)
_COMPRESSIONS = {
    5: "LZW",
    7: "JPEG",
    32773: "PackBits",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
}
_SEPARATED = 5  # CMYK
_KINDS = {1: "u", 2: "i", 3: "f"}


@dataclass(frozen=True)
class TiffDirectory:
    """The first picture of a file.

    Attributes:
        dtype: Type of a value, in the byte order of the file.
        planar: Whether each channel is stored separately.
        orientation: As in EXIF.
        several: Whether the file has a second picture of the same size.
        tags: All tags by number.
    """

    width: int
    height: int
    channels: int
    dtype: np.dtype[Any]
    planar: bool
    orientation: int
    several: bool
    tags: Any

    @property
    def is_complete_in_pillow(self) -> bool:
        """Whether Pillow reads every channel as stored, or converts colours that are not red, green and blue."""
        extra = _list(self.tags, 338, 0)
        separated = int(self.tags.get(262, 1)) == _SEPARATED
        alpha = (self.channels == 4 and (separated or 1 in extra)) or (self.channels == 2 and extra != [0])
        eight = self.dtype.itemsize == 1 and (self.channels in (1, 3) or alpha)
        return eight or (self.channels == 1 and not self.planar)


def directory_of(file: BinaryIO, head: bytes) -> TiffDirectory | None:
    """The directory of a TIFF file; None if it is of another format or has values of another type.

    Raises:
        OSError, SyntaxError, ValueError, TypeError, KeyError: It is damaged.
    """
    if not head.startswith(_MAGIC):
        return None
    tags = _tags(file, head, None)
    bits, kinds = {*_list(tags, 258, 1)}, {*_list(tags, 339, 1)}
    kind = _KINDS.get(next(iter(kinds), 0))
    if len(bits) != 1 or len(kinds) != 1 or kind is None or not bits <= {8, 16, 32, 64}:
        return None
    (depth,) = bits
    if kind == "f" and depth == 8:
        return None
    order = "<" if head.startswith(b"II") else ">"
    return TiffDirectory(
        width=int(tags[256]),
        height=int(tags[257]),
        channels=int(tags.get(277, 1)),
        dtype=np.dtype(f"{order}{kind}{depth // 8}"),
        planar=tags.get(284, 1) == 2,
        orientation=int(tags.get(274, 1)),
        several=_has_second(file, head, tags),
        tags=tags,
    )


def _tags(file: BinaryIO, head: bytes, place: int | None) -> Any:
    """The tags of the picture at a place; of the first one without a place."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(head[: 16 if b"+" in head[2:4] else 8])
    file.seek(tags.next if place is None else place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tags that cannot be read
        tags.load(file)
    return tags


def _has_second(file: BinaryIO, head: bytes, tags: Any) -> bool:
    if not tags.next:
        return False
    second = _tags(file, head, tags.next)
    return (second.get(256), second.get(257)) == (tags[256], tags[257])


def read_tiff(file: BinaryIO, directory: TiffDirectory, path: Path) -> NDArray[Any]:
    """The values [h,w,C] of the first picture, as stored.

    Raises:
        DataError: It is too large, or has a compression that is not read.
        OSError, ValueError, KeyError, zlib.error: It is damaged.
    """
    size = directory.width * directory.height * directory.channels * directory.dtype.itemsize
    if size > _MOST_BYTES or not 1 <= directory.channels <= MOST_CHANNELS:
        raise DataError(
            "an image is too large",
            where=path,
            found=f"{directory.width}x{directory.height} with {directory.channels} channels, {byte_count(size)}",
            allowed=f"at most {byte_count(_MOST_BYTES)} and {MOST_CHANNELS} channels",
        )
    compression = int(directory.tags.get(259, 1))
    if compression in (*_NONE, *_DEFLATE) and int(directory.tags.get(317, 1)) in (1, 2):
        return _segments(file, directory, deflated=compression in _DEFLATE)
    if not directory.planar and directory.channels in (3, 4):
        return decoded_by_opencv(file)
    raise DataError(
        "an image has a compression that is not read",
        where=path,
        found=f"{_COMPRESSIONS.get(compression, f'number {compression}')}, {directory.channels} channels",
        allowed="no compression, or deflate without floating-point predictor",
        hint="save it with deflate, such as `gdal_translate -co COMPRESS=DEFLATE`",
    )


def decoded_by_opencv(file: BinaryIO) -> NDArray[Any]:
    """The values [h,w,C] of a picture with three or four channels, red first.

    Raises:
        ValueError: It is damaged.
    """
    file.seek(0)
    try:
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError("it cannot be decoded") from error
    if values is None or values.ndim != 3 or values.shape[2] not in (3, 4):
        raise ValueError("it cannot be decoded")
    return values[..., [2, 1, 0, 3][: values.shape[2]]]


def _segments(file: BinaryIO, directory: TiffDirectory, *, deflated: bool) -> NDArray[Any]:
    tags, dtype = directory.tags, directory.dtype
    height, width = directory.height, directory.width
    planes, per_pixel = (directory.channels, 1) if directory.planar else (1, directory.channels)
    tiled = 322 in tags
    across = int(tags[322]) if tiled else width
    down = int(tags[323]) if tiled else min(int(tags.get(278, height)), height)
    starts, counts = (_list(tags, 324 if tiled else 273, 0), _list(tags, 325 if tiled else 279, 0))
    values = np.zeros((planes, height, width, per_pixel), dtype.newbyteorder("="))
    places = list(_places(planes, height, width, down, across))
    if len(starts) != len(places) or len(counts) != len(places) or min(across, down) < 1:
        raise ValueError("its number of strips or tiles does not match its size")
    for (plane, top, left), start, count in zip(places, starts, counts, strict=True):
        rows = down if tiled else min(down, height - top)
        expected = rows * across * per_pixel * dtype.itemsize
        if expected > _MOST_BYTES:
            raise ValueError("a tile is too large")
        file.seek(start)
        data = file.read(min(count, 2 * expected + 1024))
        if deflated:
            data = zlib.decompressobj().decompress(data, expected)
        if len(data) < expected:
            raise ValueError("a strip or tile is incomplete")
        part = np.frombuffer(data, dtype, rows * across * per_pixel).reshape(rows, across, per_pixel)
        if int(tags.get(317, 1)) == 2:
            part = np.cumsum(part, axis=1, dtype=values.dtype)
        block = values[plane, top : top + rows, left : left + across]
        block[:] = part[: block.shape[0], : block.shape[1]]
    return np.moveaxis(values[..., 0], 0, -1) if directory.planar else values[0]


def _places(planes: int, height: int, width: int, down: int, across: int) -> Iterator[tuple[int, int, int]]:
    if min(down, across) < 1:
        return
    for plane in range(planes):
        for top in range(0, height, down):
            for left in range(0, width, across):
                yield plane, top, left


def _list(tags: Any, number: int, default: int) -> list[int]:
    values = tags.get(number, default)
    return [int(value) for value in values] if isinstance(values, tuple) else [int(values)]
