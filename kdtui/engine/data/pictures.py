"""Reading image files as RGB, whatever they hold, and saying which one cannot be read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kdtui.engine.data.protocol import Pixels
from kdtui.errors import DataError

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def open_picture(path: Path) -> Image.Image:
    """The decoded file, as stored (not turned, not converted)."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except FileNotFoundError:
        raise DataError("an image is missing", where=path, hint="is the folder of images the right one?") from None
    except UnidentifiedImageError:
        raise DataError("an image cannot be read", where=path, found="no known image format") from None
    # What the decoders of png, jpeg and tiff raise on damaged files.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise DataError("an image cannot be read", where=path, found=error) from None
    return picture


def upright(picture: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation means it to be seen."""
    return ImageOps.exif_transpose(picture)


def as_rgb(picture: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB; 16-bit values keep their upper byte, transparency is left out."""
    if picture.mode == "RGB":
        return picture
    if picture.mode in _SIXTEEN_BIT:
        values = np.asarray(picture).astype(np.int64)
        # Mode I also carries 8-bit values and, from some PNGs, 16-bit ones.
        grey = values >> 8 if picture.mode != "I" or values.max(initial=0) > 255 else values
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # straight to RGB, pillow warns
    return picture.convert("RGB")


def as_labels(picture: Image.Image, path: Path) -> NDArray[np.int64]:
    """A mask's values: grey levels, palette indices, or the first channel where all colour channels agree."""
    values = np.asarray(picture)
    if picture.mode == "1":
        return cast("NDArray[np.int64]", values.astype(np.int64))
    if values.ndim == 2 and np.issubdtype(values.dtype, np.integer):
        return cast("NDArray[np.int64]", values.astype(np.int64))
    if values.ndim == 3 and picture.mode in ("RGB", "RGBA", "LA"):
        colours = values[..., :3] if picture.mode != "LA" else values[..., :1]
        if (colours == colours[..., :1]).all():
            return cast("NDArray[np.int64]", colours[..., 0].astype(np.int64))
    raise DataError(
        "a mask holds colours instead of class numbers",
        where=path,
        found=f"mode {picture.mode}",
        allowed="one channel of class numbers (grey or palette)",
    )


def resized(image: Image.Image, labels: Pixels, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Image (bilinear, antialiased) and labels (nearest) at a size."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        mask = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        return np.array(image), np.array(mask)
    return np.array(image), labels
