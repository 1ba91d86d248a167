"""What a view shows of its source: random windows, mirroring and turning as one matrix."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data.source import IGNORE_INDEX, Pixels, Size, Source, Values
from kdtui.engine.data.warp import (
    Matrix,
    Window,
    composed,
    fitted,
    flipped,
    inverse,
    turned,
    warped_image,
    warped_labels,
    window_to_source,
)
from kdtui.profile import DataTable
from kdtui.profile.data_tables import Level

OVERSIZE = 1.5
"""Size of the kept sources of ``heavy`` relative to the output, so that zooming in shows real pixels."""

_TRIES = 10  # windows that are drawn for one view to honour `crop_class_max`
_RARE_SHARE = 0.5  # of the views; in the others, every window is equally likely
_LEAST_AREA = {"semantic": 0.35, "hierarchical": 0.65}  # a hierarchical target is identified by filling the frame
_ASPECT = 0.1
_TURN_SHARE, _DEGREES, _SHEAR, _SHIFT, _ZOOM = 0.5, 12.0, 4.0, 0.06, (0.85, 1.1)


class Geometry:
    """The geometry of the views of one split.

    Args:
        data: The profile's data table.
        level: Strength of the augmentation.
        training: Whether windows are random; otherwise they are centred.
    """

    def __init__(self, data: DataTable, *, level: Level, training: bool) -> None:
        self.size = Size(data.height, data.width)
        self._data = data
        self._level = level
        self._training = training
        self._zooms = level == "heavy" and data.geometry == "resize"

    def kept_size(self, size: Size) -> Size:
        """The size at which a source of ``size`` is kept, which is not larger than its views need."""
        if self._data.geometry == "crop":
            return size
        placed = [side / ratio for side, ratio in zip(size, self._ratios(size), strict=True)]
        if self._zooms:
            placed = [min(side, OVERSIZE * length) for side, length in zip(size, placed, strict=True)]
        height, width = (max(1, round(length)) for length in placed)
        return Size(height, width)

    @property
    def most_pixels(self) -> int:
        """Largest size of a kept source, unless all of it is kept."""
        return math.ceil(self.size.height * OVERSIZE) * math.ceil(self.size.width * OVERSIZE)

    def view(self, source: Source, rng: np.random.Generator) -> tuple[Matrix, Pixels]:
        """Draw a view.

        Args:
            source: Of the kept size.
            rng: Source of all random numbers of the geometry.

        Returns:
            Edges of the output to edges of the source, and the labels of the output.
        """
        draws, tries = rng.random(8), rng.random((_TRIES, 4))
        rare = self._data.sampling == "rare" and self._training and draws[7] < _RARE_SHARE
        classes = _class_counts(source.labels) if rare else None
        best: tuple[float, Matrix, Pixels] | None = None
        for numbers in tries:
            window = self._window(source, numbers)
            if classes is not None and classes.any():
                window = _centred_on(window, _rare_pixel(source.labels, classes, *numbers[2:]), source)
            matrix = self._turned(window_to_source(window, self.size), draws)
            labels = warped_labels(source.labels, matrix, self.size)
            if not self._training or self._data.crop_class_max == 1.0:
                return matrix, labels
            share = _largest_share(labels)
            if best is None or share < best[0]:
                best = share, matrix, labels
            if share <= self._data.crop_class_max:
                break
        assert best is not None
        return best[1:]

    def _ratios(self, size: Size) -> tuple[float, float]:
        """Pixels of a source per pixel of the output, down and across, where the output shows the whole source."""
        down, across = size.height / self.size.height, size.width / self.size.width
        return (max(down, across),) * 2 if self._data.keep_aspect else (down, across)

    def _window(self, source: Source, numbers: NDArray[np.float64]) -> Window:
        """The window of four random numbers: its size by the first two, its place by the others."""
        size = Size(*source.labels.shape)
        first, second, across, down = numbers.tolist() if self._training else (1.0, 0.5, 0.5, 0.5)
        if self._data.geometry == "crop":
            low, high = self._data.scale
            scale = low * (high / low) ** first if self._training else 1.0
            high_ratio = wide_ratio = 1 / scale
        else:
            high_ratio, wide_ratio = self._ratios(size)
            if self._zooms:
                area = 1 - (1 - _LEAST_AREA[self._data.task]) * first
                aspect = 1 + _ASPECT * (2 * second - 1)
                wide_ratio *= min(1.0, math.sqrt(area * aspect))
                high_ratio *= min(1.0, math.sqrt(area / aspect))
            else:
                across = down = 0.5
        width, height = wide_ratio * self.size.width, high_ratio * self.size.height
        left, top = across * (size.width - width), down * (size.height - height)
        # Whole pixels where the scale is 1: nothing is interpolated.
        return Window(
            math.floor(left) if wide_ratio == 1 else left, math.floor(top) if high_ratio == 1 else top, width, height
        )

    def _turned(self, matrix: Matrix, draws: NDArray[np.float64]) -> Matrix:
        """The matrix with the augmentation of this level."""
        if self._level == "none":
            return matrix
        flip, turn, angle, shear, zoom, right, down, _ = draws.tolist()
        if self._level == "heavy" and turn < _TURN_SHARE:
            matrix = turned(
                matrix,
                self.size,
                degrees=_DEGREES * (2 * angle - 1),
                shear=_SHEAR * (2 * shear - 1),
                zoom=_ZOOM[0] + (_ZOOM[1] - _ZOOM[0]) * zoom,
                shift=(_SHIFT * self.size.width * (2 * right - 1), _SHIFT * self.size.height * (2 * down - 1)),
            )
        return flipped(matrix, self.size) if flip < 0.5 else matrix


class PictureGeometry(Geometry):
    """The geometry of the views of whole pictures with boxes: the aspect ratio is kept.

    A whole picture is at the upper left. For training with ``geometry = "crop"``, its size is that of the whole picture
    times a random ``scale``, its place is random, and one of several windows is taken that shows the centre of a box.
    """

    @property
    def _crops(self) -> bool:
        return self._training and self._data.geometry == "crop"

    def kept_size(self, size: Size) -> Size:
        """See the base class."""
        scale = self._scale(size) * (self._data.scale[1] if self._crops else 1.0)
        height, width = (max(1, min(side, round(side * scale))) for side in size)
        return Size(height, width)

    def whole(self, size: Size) -> Matrix:
        """Edges of the network's input to edges of a whole picture."""
        ratio = 1 / self._scale(size)
        return np.array([[ratio, 0.0, 0.0], [0.0, ratio, 0.0]])

    def matrix(self, size: Size, boxes: NDArray[np.float64], rng: np.random.Generator) -> Matrix:
        """Draw a view: edges of the network's input to edges of the picture.

        Args:
            size: Size of the picture.
            boxes: Left, top, right and bottom [N,4] in the picture.
            rng: Source of all random numbers of the geometry.
        """
        if not self._training:
            return self.whole(size)
        draws, tries = rng.random(8), rng.random((_TRIES, 3))
        centres = np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, np.ones(len(boxes))])
        # A mirrored whole picture is at the left, too.
        spare = 0.0 if self._crops else self.size.width - self._scale(size) * size.width
        for numbers in tries:
            matrix = self._turned(self._part(size, *numbers.tolist()) if self._crops else self.whole(size), draws)
            if np.linalg.det(matrix[:, :2]) < 0:
                matrix = composed(matrix, np.array([[1.0, 0.0, spare], [0.0, 1.0, 0.0]]))
            points = centres @ inverse(matrix).T
            if not self._crops or ((points >= 0) & (points < self.size[::-1])).all(axis=1).any():
                break
        return matrix

    def shown(self, image: Values, size: Size, matrix: Matrix, fill: tuple[float, ...]) -> Values:
        """The network's input [H,W,C].

        Args:
            image: The picture [h,w,C], perhaps at a smaller size.
            size: Size of the picture.
            matrix: Edges of the network's input to edges of the picture.
            fill: Value of each channel where there is no picture.
        """
        smaller = np.array([[image.shape[1] / size.width], [image.shape[0] / size.height]])
        return warped_image(image, matrix * smaller, self.size, fill)

    def _scale(self, size: Size) -> float:
        """Pixels of the network's input per pixel of a whole picture."""
        return min(self.size.height / size.height, self.size.width / size.width)

    def _part(self, size: Size, scale: float, across: float, down: float) -> Matrix:
        """The matrix of three random numbers: of the magnification and of the place."""
        low, high = self._data.scale
        ratio = 1 / (self._scale(size) * low * (high / low) ** scale)
        spare = size.width - ratio * self.size.width, size.height - ratio * self.size.height
        return np.array([[ratio, 0.0, across * spare[0]], [0.0, ratio, down * spare[1]]])


class Content(NamedTuple):
    """A part of an image, in pixels from its upper left corner."""

    top: float
    left: float
    height: float
    width: float


def shown_whole(data: DataTable, image: Values, fill: tuple[float, ...]) -> Values:
    """A picture [h,w,C] as evaluations with ``resize`` show it, [height,width,C].

    Args:
        data: Size and aspect.
        image: The picture.
        fill: Value of each channel where there is no picture.
    """
    size = Size(*image.shape[:2])
    if data.whole_pictures:
        pictures = PictureGeometry(data, level="none", training=False)
        kept = fitted(Source(image, np.zeros(size, np.uint8)), pictures.kept_size(size)).image
        return pictures.shown(kept, size, pictures.whole(size), fill)
    geometry = Geometry(data, level="none", training=False)
    source = fitted(Source(image, np.zeros(size, np.uint8)), geometry.kept_size(size))
    matrix, _ = geometry.view(source, np.random.default_rng(0))
    return warped_image(source.image, matrix, geometry.size, fill)


def content_of(data: DataTable, size: Size) -> Content:
    """The part of :func:`shown_whole` that shows a picture of this size; the rest is ``fill``."""
    if not data.keep_aspect and not data.whole_pictures:
        return Content(0.0, 0.0, data.height, data.width)
    scale = min(data.height / size.height, data.width / size.width)
    height, width = scale * size.height, scale * size.width
    if data.whole_pictures:
        return Content(0.0, 0.0, height, width)
    return Content((data.height - height) / 2, (data.width - width) / 2, height, width)


def _class_counts(labels: Pixels) -> NDArray[np.float64]:
    """Pixels of each class."""
    counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
    return np.asarray(counts, np.float64).ravel()[:IGNORE_INDEX]


def _largest_share(labels: Pixels) -> float:
    """Share of the most frequent class among the pixels that count; 2 where none does."""
    counts = _class_counts(labels)
    total = float(counts.sum())
    return float(counts.max()) / total if total else 2.0


def _rare_pixel(
    labels: Pixels, counts: NDArray[np.float64], chosen_class: float, chosen_pixel: float
) -> tuple[int, int]:
    """Row and column of a pixel: its class drawn inversely to its number of pixels here, then any of its pixels."""
    weights = np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)
    steps = weights.cumsum()
    label = int(np.searchsorted(steps, chosen_class * steps[-1], side="right"))
    places = np.flatnonzero(labels == label)
    row, column = divmod(int(places[int(chosen_pixel * len(places))]), labels.shape[1])
    return row, column


def _centred_on(window: Window, pixel: tuple[int, int], source: Source) -> Window:
    """The window around a pixel, moved so that it shows as much of the source as it can."""
    row, column = pixel
    height, width = source.labels.shape
    left, top = column + 0.5 - window.width / 2, row + 0.5 - window.height / 2
    return window._replace(left=_within(left, width - window.width), top=_within(top, height - window.height))


def _within(start: float, spare: float) -> float:
    """The nearest value between 0 and ``spare``, which is negative where the window is larger than the source."""
    return min(max(start, min(0.0, spare)), max(0.0, spare))
