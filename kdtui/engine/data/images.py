"""Images as arrays: any number of channels and any depth, as stored and as the pipelines take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdtui.engine.data.pictures import (
    PICTURE_ERRORS,
    as_rgb,
    brief,
    check_bytes,
    check_pixels,
    has_sixteen_bit_colours,
    open_picture,
    orientation,
    several_frames,
    whole_size,
)
from kdtui.engine.data.protocol import Extent
from kdtui.engine.data.source import Needed, Pixels, Size, Values
from kdtui.engine.data.tiff import TiffDirectory, decoded_by_opencv, directory_of, read_tiff
from kdtui.errors import DataError
from kdtui.profile.data_tables import ImageData
from kdtui.store.files import reading

_HEAD = 16
_LUMINANCE = (19595, 38470, 7471)
"""Weights of red, green and blue in grey, times 65536, as in Pillow."""
_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F", "L", "RGB", "RGBA")


class ImageFormat(NamedTuple):
    """How the values of files become those of images.

    Attributes:
        channels: Number of channels of the images.
        value_range: The values in files that become 0 and 255; None leaves 8-bit values unchanged, and takes the upper
            byte of 16-bit ones.
        rounded: Whether scaled values are rounded to 8 bits.
    """

    channels: int = 3
    value_range: tuple[float, ...] | None = None
    rounded: bool = False

    @classmethod
    def of(cls, data: ImageData) -> ImageFormat:
        """The format of a profile."""
        return cls(data.channels, data.value_range, rounded=data.pipeline == 1)

    def image(self, stored: NDArray[Any], path: Path) -> NDArray[Any]:
        """Image [h,w,C], uint8, or f32 on the scale 0 to 255.

        Args:
            stored: Values [h,w] or [h,w,C] of a file.
            path: The file, for messages.

        Raises:
            DataError: It has another number of channels.
        """
        values = self._in_channels(stored, path)
        scaled = _bytes(values) if self.value_range is None else self._scaled(values, *self.value_range)
        if self.channels == 3 and scaled.shape[2] == 1:
            scaled = np.repeat(scaled, 3, axis=2)
        return np.ascontiguousarray(scaled)

    def _in_channels(self, stored: NDArray[Any], path: Path) -> NDArray[Any]:
        values = stored[..., None] if stored.ndim == 2 else stored
        channels = values.shape[2]
        if channels == self.channels or (channels == 1 and self.channels == 3):
            return values
        if self.channels == 3 and channels == 4:
            return values[..., :3]
        if self.channels == 1 and channels in (3, 4):
            return _grey(values)
        raise DataError(
            "an image does not have the channels of the profile",
            where=path,
            found=f"{channels} channel{'s' * (channels != 1)}",
            allowed=f"{self.channels}, as data.channels says",
            hint=f"--set data.channels={channels}",
        )

    def _scaled(self, values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
        def scale(numbers: NDArray[Any]) -> NDArray[Any]:
            scaled = np.nan_to_num((numbers.astype(np.float64) - low) / (high - low)).clip(0, 1) * 255
            return np.round(scaled).astype(np.uint8) if self.rounded else scaled.astype(np.float32)

        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            by_value: NDArray[Any] = scale(np.arange(256**values.dtype.itemsize))[values]
            return by_value
        return scale(values)


def read_values(path: Path, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """The values of an image file, [h,w] or [h,w,C], turned as its EXIF orientation says.

    Args:
        path: The file.
        size: Width and height that it should have: where only the image as stored has them, it is not turned.

    Raises:
        DataError: The file is not an image of a known format, is damaged or too large, or has several frames.
    """
    values, turn, _ = _stored(path)
    turned = _turned(values, turn)
    if size is not None and turned.shape[1::-1] != size and values.shape[1::-1] == size:
        return values
    return turned


def read_reduced_values(path: Path, needed: Needed | None) -> tuple[NDArray[Any], Size]:
    """As :func:`read_values`, but large JPEG files are decoded at a smaller size; and the upright size in the file.

    Args:
        path: The file.
        needed: From the size of the image to the smallest that is needed; None for all of it.
    """
    values, turn, whole = _stored(path, needed)
    turned = _turned(values, turn)
    return turned, whole or Size(*turned.shape[:2])


def _stored(path: Path, needed: Needed | None = None) -> tuple[NDArray[Any], int, Size | None]:
    """Values as stored, the EXIF orientation, and the upright size in the file if they are decoded at a smaller one."""
    try:
        directory = _directory(path)
        if directory is not None and not directory.is_complete_in_pillow:
            with reading(path) as file:
                check_bytes(file, path)
                check_pixels(directory.width, directory.height, path)
                if directory.several:
                    raise several_frames("TIFF", path)
                return read_tiff(file, directory, path), directory.orientation, None
        picture = open_picture(path, needed=needed)
        turn = orientation(picture)
        if has_sixteen_bit_colours(picture):
            with reading(path) as file:
                return decoded_by_opencv(file), turn, None
        return _of_picture(picture, path), turn, whole_size(picture)
    except PICTURE_ERRORS as error:
        raise DataError("an image cannot be read", where=path, found=brief(error)) from None


def _of_picture(picture: Image.Image, path: Path) -> NDArray[Any]:
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.mode == "LA":
        return np.asarray(picture)[..., 0]
    return np.asarray(picture if picture.mode in _GREY_MODES else as_rgb(picture, path))


def _directory(path: Path) -> TiffDirectory | None:
    try:
        with reading(path) as file:
            return directory_of(file, file.read(_HEAD))
    except PICTURE_ERRORS:  # reported when the picture is opened
        return None


def extent(values: NDArray[Any]) -> Extent:
    """The range of stored values."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    # Pillow reads some 8-bit images as 32-bit integers.
    byte = values.dtype.itemsize == 1 or values.dtype.kind == "f" or (values.dtype.itemsize == 4 and high <= 255)
    return Extent(low, high, 255.0 if byte else 65535.0)


def eight_bit(image: Values) -> tuple[int, int]:
    """Lowest and highest value of an image on the scale 0 to 255."""
    return round(float(image.min(initial=255))), round(float(image.max(initial=0)))


def displayed(image: NDArray[Any]) -> Pixels:
    """An image [h,w,C] on the scale 0 to 255 as RGB uint8 [h,w,3]: its first three channels, or the first as grey."""
    colours = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    displayed: Pixels = np.clip(np.round(colours), 0, 255).astype(np.uint8)
    return displayed


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values as 8 bits without a range: the upper byte of 16-bit ones."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "f":
        numbers: NDArray[Any] = np.nan_to_num(values)
    else:
        numbers = values >> 8 if values.dtype.itemsize == 2 or values.max(initial=0) > 255 else values
    eight: NDArray[np.uint8] = numbers.clip(0, 255).astype(np.uint8)
    return eight


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    """Colours [h,w,3] as grey [h,w,1] of the same type."""
    weights = np.array(_LUMINANCE)
    if values.dtype.kind == "f":
        weighted: NDArray[Any] = values[..., :3] @ (weights / 65536)
    else:
        weighted = (values[..., :3].astype(np.int64) @ weights + 0x8000) >> 16
    return weighted[..., None].astype(values.dtype)


def _turned(values: NDArray[Any], turn: int) -> NDArray[Any]:
    """Values upright, from an EXIF orientation."""
    if turn in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if turn in (2, 3, 6, 7) else values
