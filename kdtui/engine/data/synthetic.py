"""Synthetic people: overlapping articulated figures on a cluttered background.

Every crop is determined by ``(data.seed, split, index)`` and drawn directly at the requested size. The crop is the box
of the target with a margin, as for real person crops: the target is identified by filling the frame.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kdtui.engine.data.geometry import OVERSIZE
from kdtui.engine.data.protocol import SegmentationDataset, limited
from kdtui.engine.data.source import Pixels, Source, seed_of
from kdtui.profile import SyntheticData
from kdtui.profile.region_keys import HIERARCHICAL_CLASSES

MARGIN = 0.22
"""Fraction of the target's box that is added on each side."""

_TARGET, _OTHER = 1, 2
_LEAST_VISIBLE = 0.10  # share of the crop; a target with less visible area is moved to the front

Points = NDArray[np.float64]


def _capsule(a: Points, b: Points, wide: float, narrow: float) -> Points:
    """A limb from ``a`` to ``b`` as a polygon with rounded ends."""
    along = b - a
    length = float(np.hypot(along[0], along[1])) or 1.0
    u = along / length
    v = np.array([-u[1], u[0]])
    return np.array(
        [
            a + v * wide, a + (v - u) * wide * 0.7, a - (v + u) * wide * 0.7, a - v * wide,
            b - v * narrow, b + (u - v) * narrow * 0.7, b + (u + v) * narrow * 0.7, b + v * narrow,
        ]
    )  # fmt: skip


def _direction(angle: float) -> Points:
    """Unit vector of an angle: 0 is down, positive angles turn right."""
    return np.array([np.sin(angle), np.cos(angle)])


def _colour(rng: np.random.Generator, hue: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.45, 0.95), rng.uniform(0.35, 1.0))
    return int(red * 255), int(green * 255), int(blue * 255)


class Figure:
    """One person, of height about 1, standing at ``x`` with the hips at ``y``."""

    def __init__(self, rng: np.random.Generator, x: float, y: float, size: float, hue: float) -> None:
        lean = rng.normal(0.0, 0.12)
        hips = np.array([x, y])
        spine = -_direction(lean)
        neck = hips + spine * 0.30 * size
        side = np.array([-spine[1], spine[0]])
        stout = size * rng.uniform(0.85, 1.25)
        shirt, trousers = _colour(rng, hue), _colour(rng, hue + rng.uniform(0.25, 0.75))
        tone = rng.uniform(0.35, 1.0)
        skin = (int(235 * tone), int(190 * tone), int(155 * tone))
        hair = tuple(int(c) for c in rng.integers(10, 110, 3))
        parts: list[tuple[Points, tuple[int, ...]]] = []
        for sign in (-1.0, 1.0):
            hip = hips + side * sign * 0.055 * stout
            thigh, knee_bend = rng.normal(sign * 0.12, 0.3), rng.normal(0.0, 0.25)
            knee = hip + _direction(thigh) * 0.24 * size
            foot = knee + _direction(thigh + knee_bend) * 0.24 * size
            parts += [(_capsule(knee, foot, 0.042 * stout, 0.03 * stout), trousers),
                      (_capsule(hip, knee, 0.06 * stout, 0.045 * stout), trousers)]  # fmt: skip
        parts.append((_capsule(hips, neck, 0.09 * stout, 0.11 * stout), shirt))
        for sign in (-1.0, 1.0):
            shoulder = neck + side * sign * 0.10 * stout
            upper, elbow_bend = rng.normal(sign * 0.35, 0.6), rng.normal(0.0, 0.7)
            elbow = shoulder + _direction(upper) * 0.16 * size
            hand = elbow + _direction(upper + elbow_bend) * 0.15 * size
            parts += [(_capsule(elbow, hand, 0.03 * stout, 0.024 * stout), skin),
                      (_capsule(shoulder, elbow, 0.042 * stout, 0.034 * stout), shirt)]  # fmt: skip
        head = neck + spine * 0.11 * size
        turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        oval = np.stack([np.cos(turn) * 0.065, np.sin(turn) * 0.085], axis=1) * size
        parts += [(oval + head - [0, 0.012 * size], hair), (oval * 0.85 + head + [0, 0.015 * size], skin)]
        self.parts = parts
        corners = np.concatenate([points for points, _ in parts])
        self.low, self.high = corners.min(axis=0), corners.max(axis=0)


def background(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Draw a gradient, coarse texture, and shapes in muted colours."""
    corners = rng.integers(40, 216, (2, 2, 3))
    coarse = corners[[0, 0, 1, 1]][:, [0, 0, 1, 1]] + rng.integers(-18, 19, (4, 4, 3))
    image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 7))):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.05, 0.35) * width, rng.uniform(0.05, 0.35) * height
        colour = tuple(int(c) for c in rng.integers(50, 200) + rng.integers(-30, 31, 3))
        box = (cx - w, cy - h, cx + w, cy + h)
        if rng.random() < 0.5:
            draw.rectangle(box, fill=colour)
        else:
            draw.ellipse(box, fill=colour)
    return image


def paint(image: Image.Image, mask: Image.Image, order: list[tuple[Figure, int]], low: Points, scale: Points) -> Pixels:
    """Draw figures from back to front, and return the mask with their labels.

    Args:
        image: RGB picture that is drawn on.
        mask: Labels that are drawn on, mode L, of the same size.
        order: Figures with their labels.
        low: Place of the upper left corner in the coordinates of the figures, x and y.
        scale: Pixels per unit of these.
    """
    pen, label_pen = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for figure, label in order:
        for points, colour in figure.parts:
            flat = ((points - low) * scale).ravel().tolist()
            pen.polygon(flat, fill=colour)
            label_pen.polygon(flat, fill=label)
    return np.array(mask)


def draw_crop(seed: int, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Draw the crop of ``seed``: RGB pixels and labels, 0 background, 1 target, 2 other people."""
    rng = np.random.default_rng(seed)
    hues = (rng.random() + np.arange(4) / 4 + rng.uniform(-0.05, 0.05, 4)).tolist()
    target = Figure(rng, 0.0, 0.0, 1.0, hues[0])
    others = []
    for hue in hues[1 : int(rng.choice((1, 2, 3, 4), p=(0.1, 0.35, 0.35, 0.2)))]:
        x = rng.choice((-1.0, 1.0)) * rng.uniform(0.15, 0.5)
        others.append(Figure(rng, x, rng.normal(0.0, 0.08), rng.uniform(0.8, 1.15), hue))
    margin = (target.high - target.low) * MARGIN
    low, high = target.low - margin, target.high + margin
    scale = np.array([width, height]) / (high - low)
    behind = int(rng.integers(0, len(others) + 1))
    labelled = [(figure, _OTHER) for figure in others]
    behind_all = background(rng, height, width)
    for order in ([*labelled[:behind], (target, _TARGET), *labelled[behind:]], [*labelled, (target, _TARGET)]):
        image, mask = behind_all.copy(), Image.new("L", (width, height))
        labels = paint(image, mask, order, low, scale)
        if np.count_nonzero(labels == _TARGET) >= _LEAST_VISIBLE * labels.size:
            break
    pixels = np.asarray(image).astype(np.int16) + rng.integers(-10, 11, (height, width, 1), dtype=np.int16)
    return pixels.clip(0, 255).astype(np.uint8), labels


class SyntheticPeople(SegmentationDataset):
    """Crops around one of several synthetic people."""

    surveyed = 16  # there are no files that may be damaged, and drawing is slower than reading

    def __init__(
        self,
        data: SyntheticData,
        split: str,
        *,
        stride: int,
        seed: int,
    ) -> None:
        count = {"train": data.train_samples, "val": data.val_samples, "test": data.test_samples}[split]
        self._indices = limited(count, data.train_limit if split == "train" else None, data.seed)
        self._scenes = data.seed
        # Only training labels are degraded; labels for evaluation are always exact.
        self._coarseness = data.label_coarseness if split == "train" else 1
        self._noise = data.label_noise if split == "train" else 0.0
        self._size = (data.height, data.width)
        zooms = split == "train" and data.augmentation == "heavy"
        self._drawn = tuple(round(side * (OVERSIZE if zooms else 1.0)) for side in self._size)
        super().__init__(
            data,
            split,
            classes=HIERARCHICAL_CLASSES,
            count=len(self._indices),
            stride=stride,
            seed=seed,
        )

    def read(self, index: int) -> Source:
        """Draw the crop at the size of the network's input, or larger if views zoom in."""
        height, width = self._drawn
        return Source(*self.render(index, height, width))

    def render(self, index: int, height: int, width: int) -> tuple[Pixels, Pixels]:
        """Draw the crop, with coarse or swapped labels as configured."""
        number = self._indices[index]
        image, mask = draw_crop(seed_of(self._scenes, self.split, number), height, width)
        if self._noise and np.random.default_rng(seed_of(self._scenes, "noise", number)).random() < self._noise:
            mask = np.array([0, _OTHER, _TARGET], dtype=np.uint8)[mask]
        if self._coarseness > 1:
            mask = coarsen(mask, round(self._coarseness * height / self._size[0]))
        return image, mask

    def describe(self) -> str:
        """Number of crops."""
        return f"{len(self)} synthetic crops"


def coarsen(mask: Pixels, block: int) -> Pixels:
    """Replace the labels of each block by its most frequent label (the lowest one if tied)."""
    height, width = mask.shape
    rows, columns = np.arange(height) // block, np.arange(width) // block
    cell = rows[:, None] * (columns[-1] + 1) + columns[None, :]
    counts = np.zeros((cell.max() + 1, int(mask.max()) + 1), dtype=np.int64)
    np.add.at(counts, (cell.ravel(), mask.ravel()), 1)
    coarse: Pixels = counts.argmax(axis=1).astype(np.uint8)[cell]
    return coarse
