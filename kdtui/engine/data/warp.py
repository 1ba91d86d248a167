"""Geometry of a view: one matrix from the output to the source, and one warp of image and labels.

Matrices are 2x3. They are composed on *edges* (a picture of width w spans 0 to w) and converted to the centres of
pixels once, so that image and labels have the same geometry at every scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data.source import IGNORE_INDEX, Pixels, Size, Source

Matrix = NDArray[np.float64]
Array = NDArray[Any]

_CHANNELS = 4  # OpenCV warps at most this many channels at once
_SHRINK = 1.5  # pixels of the source per pixel of the output above which bilinear interpolation would skip some
_LONGEST = 16_384  # OpenCV warps pictures of sides below 2**15


class Window(NamedTuple):
    """The part of a source that becomes the output, in pixels of the source; it may reach outside."""

    left: float
    top: float
    width: float
    height: float


def window_to_source(window: Window, size: Size) -> Matrix:
    """Edges of the output to edges of the source."""
    across, down = window.width / size.width, window.height / size.height
    return np.array([[across, 0.0, window.left], [0.0, down, window.top]])


def flipped(matrix: Matrix, size: Size) -> Matrix:
    """The matrix of a mirrored output."""
    (across, slant, left), (lean, down, top) = matrix.tolist()
    return np.array([[-across, slant, across * size.width + left], [-lean, down, lean * size.width + top]])


def turned(
    matrix: Matrix, size: Size, *, degrees: float, shear: float, zoom: float, shift: tuple[float, float]
) -> Matrix:
    """The matrix of an output that is sheared, turned, magnified about its centre, and shifted.

    Args:
        matrix: Edges of the output to edges of the source.
        size: Size of the output.
        degrees: Angle of the rotation.
        shear: Angle of the shear along x in degrees.
        zoom: Magnification; above 1 shows less of the source.
        shift: Right and down in pixels of the output.
    """
    angle, slant = np.deg2rad(degrees), np.tan(np.deg2rad(shear))
    cosine, sine = np.cos(angle), np.sin(angle)
    forward = zoom * np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1.0, slant], [0.0, 1.0]])
    back = np.linalg.inv(forward)
    centre = np.array([size.width / 2, size.height / 2])
    return composed(matrix, np.column_stack([back, centre - back @ (centre + shift)]))


def composed(outer: Matrix, inner: Matrix) -> Matrix:
    """``outer`` after ``inner``."""
    both = outer[:, :2] @ inner
    both[:, 2] += outer[:, 2]
    return both


def inverse(matrix: Matrix) -> Matrix:
    """The matrix from the source to the output."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def to_centres(matrix: Matrix) -> Matrix:
    """From coordinates of edges to indices of pixels, whose centres are half a pixel from their edges."""
    # Six numbers take Python a tenth of the time of NumPy's operations.
    return np.array([[x, y, start + ((x + y) / 2 - 0.5)] for x, y, start in matrix.tolist()])


def warped_labels(labels: Pixels, matrix: Matrix, size: Size) -> Pixels:
    """Labels uint8 [h,w] at a size: those of the nearest pixels, IGNORE_INDEX outside.

    Args:
        labels: Of the source.
        matrix: Edges of the output to edges of the source.
        size: Size of the output.
    """
    if (exact := _exact(labels, matrix, size)) is not None:
        return exact
    part, pixels, _ = _part(labels, to_centres(matrix), size)
    step = -(-max(part.shape, default=1) // _LONGEST)
    if step > 1:
        part, pixels = np.ascontiguousarray(part[::step, ::step]), pixels / step
    if not part.size:
        return np.full(size, IGNORE_INDEX, np.uint8)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, pixels, size[::-1], flags=flags, borderValue=IGNORE_INDEX)  # type: ignore[return-value]


def warped_image(image: Array, matrix: Matrix, size: Size, fill: tuple[float, ...]) -> Array:
    """An image [h,w,C] at a size: bilinear, and averaged over areas where it shrinks much; ``fill`` outside.

    Args:
        image: Of the source.
        matrix: Edges of the output to edges of the source.
        size: Size of the output.
        fill: Value of each channel.
    """
    if (exact := _exact(image, matrix, size)) is not None:
        return exact
    part, pixels, inside = _part(image, to_centres(matrix), size)
    if not part.size:
        return np.broadcast_to(np.array(fill, image.dtype), (*size, len(fill))).copy()
    part, pixels = _shrunk(part, pixels)
    border = cv2.BORDER_REPLICATE if inside else cv2.BORDER_CONSTANT
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def warp(values: Array, first: int) -> Array:
        colour = fill[first : first + _CHANNELS]
        count = len(colour)
        # OpenCV warps four channels three times as fast as three, and more exactly than two.
        if count == 3:
            values = cv2.cvtColor(values, cv2.COLOR_RGB2RGBA)
        elif count == 2:
            values = np.dstack([values, values])
        done = cv2.warpAffine(values, pixels, size[::-1], flags=flags, borderMode=border, borderValue=colour)
        return cv2.cvtColor(done, cv2.COLOR_RGBA2RGB) if count == 3 else done[..., :2] if count == 2 else done

    return by_channels(part, warp)


def _shrunk(part: Array, pixels: Matrix) -> tuple[Array, Matrix]:
    """Averages of areas where the image shrinks much, about one per pixel of the output, and the matrix to them."""
    per_pixel = np.hypot(pixels[:, 0], pixels[:, 1])
    if per_pixel.max() <= _SHRINK:
        return part, pixels
    before = np.array(part.shape[1::-1])
    after = np.maximum(1, np.rint(before / np.maximum(1.0, per_pixel))).astype(int)
    part = by_channels(part, lambda values, _: cv2.resize(values, after.tolist(), interpolation=cv2.INTER_AREA))
    scaled = np.column_stack([pixels[:, :2], pixels[:, 2] + 0.5]) * (after / before)[:, None]
    scaled[:, 2] -= 0.5
    return part, scaled


def by_channels(image: Array, change: Callable[[Array, int], object]) -> Array:
    """Apply ``change(channels, number of the first)`` to up to four channels at a time."""
    count = image.shape[2]
    if count <= _CHANNELS:
        changed = np.asarray(change(np.ascontiguousarray(image), 0))
        return changed[..., None] if changed.ndim == 2 else changed
    parts = [
        np.asarray(change(np.ascontiguousarray(image[..., first : first + _CHANNELS]), first))
        for first in range(0, count, _CHANNELS)
    ]
    whole = [part[..., None] if part.ndim == 2 else part for part in parts]
    return np.concatenate(whole, axis=2)


def fitted(source: Source, size: Size) -> Source:
    """The whole source at a size: the image by area where it shrinks and bilinear where it grows, labels nearest."""
    image, labels = source
    smaller = (min(image.shape[1], size.width), min(image.shape[0], size.height))
    if image.shape[1::-1] != smaller:
        image = by_channels(image, lambda values, _: cv2.resize(values, smaller, interpolation=cv2.INTER_AREA))
    if image.shape[:2] != size:
        image = by_channels(image, lambda values, _: cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))
    if labels.shape != size:
        labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[assignment]
    return Source(image, labels)


def _exact(values: Array, matrix: Matrix, size: Size) -> Array | None:
    """A part of the source, mirrored or not, where every pixel of the output is one of it; else None."""
    (across, slant, left), (lean, down, top) = matrix.tolist()
    if (abs(across), slant, lean, down) != (1.0, 0.0, 0.0, 1.0) or left % 1 or top % 1:
        return None
    first, above = int(left) - (size.width if across < 0 else 0), int(top)
    if first < 0 or above < 0 or first + size.width > values.shape[1] or above + size.height > values.shape[0]:
        return None
    part = values[above : above + size.height, first : first + size.width]
    return _mirrored(part) if across < 0 else part


def _mirrored(values: Array) -> Array:
    if values.ndim == 2:
        return cv2.flip(values, 1)
    return by_channels(values, lambda channels, _: cv2.flip(channels, 1))


def _part(values: Array, pixels: Matrix, size: Size) -> tuple[Array, Matrix, bool]:
    """The part of the source that the output shows, the matrix to it, and whether it shows nothing else."""
    corners = np.array(
        [[0, 0, 1], [size.width - 1, 0, 1], [0, size.height - 1, 1], [size.width - 1, size.height - 1, 1]]
    )
    points = corners @ pixels.T
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.array(values.shape[1::-1])
    first = np.clip(np.floor(low).astype(int) - 1, 0, extent)
    last = np.clip(np.ceil(high).astype(int) + 2, 0, extent)
    moved = np.column_stack([pixels[:, :2], pixels[:, 2] - first])
    inside = bool((low >= -0.5 - 1e-6).all() and (high <= extent - 0.5 + 1e-6).all())
    return values[first[1] : last[1], first[0] : last[0]], moved, inside
