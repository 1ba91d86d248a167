from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from kdtui.engine.data.source import IGNORE_INDEX, Size, Source
from kdtui.engine.data.warp import (
    Array,
    Window,
    fitted,
    flipped,
    turned,
    warped_image,
    warped_labels,
    window_to_source,
)

SIZE = Size(40, 48)
FILL = (-1e6, -1e6)
TURN = {"degrees": 11.0, "shear": 3.0, "zoom": 0.9, "shift": (2.5, -1.5)}


def ramps(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
    """An image of the coordinates of each pixel's centre, x and y, and the same whole columns and rows as labels."""
    y, x = np.mgrid[:height, :width]
    return (
        np.dstack([x + 0.5, y + 0.5]).astype(np.float32),
        np.broadcast_to(np.arange(width) % 250, (height, width)).astype(np.uint8),
        np.broadcast_to(np.arange(height)[:, None] % 250, (height, width)).astype(np.uint8),
    )


WINDOWS = {
    "whole": Window(0, 0, 200, 160),
    "whole pixels": Window(17, 30, SIZE.width, SIZE.height),
    "half a pixel further": Window(17.5, 30.5, SIZE.width, SIZE.height),
    "twice as large": Window(60.3, 40.2, SIZE.width / 2, SIZE.height / 2),
    "a bit smaller": Window(10.1, 20.7, SIZE.width * 1.3, SIZE.height * 1.4),
    "less than half": Window(3.3, 4.4, SIZE.width * 2.7, SIZE.height * 3.1),
    "over the edges": Window(-20.2, -9.7, SIZE.width * 2, SIZE.height * 2),
    "larger than the picture": Window(-31.0, -12.0, 300, 200),
}


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize(("flip", "turn"), itertools.product((False, True), repeat=2))
def test_image_and_labels_show_the_same_place_at_every_pixel(window: Window, flip: bool, turn: bool) -> None:
    image, columns, rows = ramps(160, 200)
    matrix = window_to_source(window, SIZE)
    if turn:
        matrix = turned(matrix, SIZE, **TURN)  # type: ignore[arg-type]
    if flip:
        matrix = flipped(matrix, SIZE)
    seen = warped_image(image, matrix, SIZE, FILL)
    columns, rows = (warped_labels(labels, matrix, SIZE) for labels in (columns, rows))
    y, x = np.mgrid[: SIZE.height, : SIZE.width] + 0.5
    places = np.dstack([x, y]) @ matrix[:, :2].T + matrix[:, 2]
    step = np.hypot(matrix[:, 0], matrix[:, 1])  # pixels of the source per pixel of the output
    for axis, labels, extent in ((0, columns, 200), (1, rows, 160)):
        # Labels are those of the nearest pixel, IGNORE_INDEX exactly outside of the picture.
        covered = (places >= 0.001).all(axis=2) & (places <= np.array([200, 160]) - 0.001).all(axis=2)
        beyond = (places < -0.001).any(axis=2) | (places > np.array([200, 160]) + 0.001).any(axis=2)
        assert (labels[beyond] == IGNORE_INDEX).all()
        assert (np.abs(labels + 0.5 - places[..., axis])[covered] <= 0.502).all()
        # The image is interpolated there: away from the edges its ramp has the value of the place itself.
        margin = 1.5 * step.max() + 1
        interior = (places > margin).all(axis=2) & (places < np.array([200, 160]) - margin).all(axis=2)
        assert interior.any() or window.width > 200
        assert (np.abs(seen[..., axis] - places[..., axis])[interior] <= max(0.02, 0.1 * step[axis])).all()
        assert (np.abs(seen[..., axis] - labels - 0.5)[interior] <= 0.5 * max(1.0, step[axis])).all()
        del extent
    if not beyond.any():  # no colour from outside reaches an image that lies within its picture
        assert seen.min() > 0


@pytest.mark.parametrize("shape", [(3, 5), (40, 48), (41, 50), (97, 20), (20, 97), (160, 240)])
def test_a_fitted_source_keeps_its_corners(shape: tuple[int, int]) -> None:
    image, columns, rows = ramps(*shape)
    for axis, labels in ((0, columns), (1, rows)):
        seen, at_size = fitted(Source(image, labels), SIZE)
        assert seen.shape == (*SIZE, 2) and at_size.shape == SIZE
        step = shape[1 - axis] / SIZE[1 - axis]
        place = (np.mgrid[: SIZE.height, : SIZE.width][1 - axis] + 0.5) * step
        inner = (place > 0.5 + step / 2) & (place < shape[1 - axis] - 0.5 - step / 2)
        assert (np.abs(seen[..., axis] - place)[inner] < 0.5 * max(step, 0.2)).all()
        assert (np.abs(at_size + 0.5 - place) <= 0.501).all()


def test_what_shrinks_much_is_averaged() -> None:
    board = (np.indices((160, 200)).sum(axis=0) % 2 * 200).astype(np.uint8)[..., None]
    matrix = window_to_source(Window(8.3, 4.9, SIZE.width * 3, SIZE.height * 3), SIZE)
    assert np.abs(warped_image(board, matrix, SIZE, (0.0,)).astype(int) - 100).max() < 30
    assert np.abs(fitted(Source(board, board[..., 0]), Size(16, 20)).image.astype(int) - 100).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_do_not_depend_on_each_other(channels: int, dtype: type) -> None:
    image: Array = np.random.default_rng(0).integers(0, 256, (30, 36, channels)).astype(dtype)
    fill = tuple(float(10 * channel) for channel in range(channels))
    for window in (Window(1.5, 2.5, 90, 70), Window(-9.5, 3, 30, 24)):
        matrix = window_to_source(window, SIZE)
        whole = warped_image(image, matrix, SIZE, fill)
        assert whole.shape == (*SIZE, channels) and whole.dtype == dtype
        for channel in range(channels):
            alone = warped_image(image[..., channel : channel + 1], matrix, SIZE, fill[channel : channel + 1])
            assert np.abs(alone[..., 0].astype(float) - whole[..., channel]).max() <= 1
    labels = np.zeros((30, 36), np.uint8)
    assert fitted(Source(image, labels), Size(17, 50)).image.shape == (17, 50, channels)


def test_a_window_beside_the_picture_shows_nothing_of_it() -> None:
    image, labels = np.full((20, 20, 3), 9, np.uint8), np.zeros((20, 20), np.uint8)
    matrix = window_to_source(Window(500, -300, 40, 40), SIZE)
    assert (warped_labels(labels, matrix, SIZE) == IGNORE_INDEX).all()
    assert (warped_image(image, matrix, SIZE, (1, 2, 3)) == np.array([1, 2, 3])).all()


def test_sides_longer_than_opencv_warps_are_read() -> None:
    wide = np.tile((np.arange(80_000) // 400).astype(np.uint8), (2, 1))
    matrix = window_to_source(Window(0, 0, 80_000, 2), Size(16, 64))
    assert np.array_equal(warped_labels(wide, matrix, Size(16, 64))[0], (np.arange(64) * 1250 + 625) // 400)
    assert warped_image(wide[..., None], matrix, Size(16, 64), (0.0,)).shape == (16, 64, 1)
