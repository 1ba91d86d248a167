"""Synthetic pictures of two to five people, each with its box and label map.

Every scene is determined by ``(data.seed, split, index)``. It is drawn at twice the size of the network's input, so
that label maps have more detail than what the network sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdtui.engine.data.instances import OTHER, TARGET, Area, ForegroundMaps, Layer, Marked, PictureSamples, layer_of
from kdtui.engine.data.protocol import limited
from kdtui.engine.data.source import Pixels, Size, Values, seed_of
from kdtui.engine.data.synthetic import Figure, background, coarsen, paint
from kdtui.profile import SyntheticData

DETAIL = 2
"""Size of a scene relative to the network's input."""

_PEOPLE = (2, 3, 4, 5)
_BESIDE = 0.6  # share of the people who stand close to another one
_SIDES = (1.0, 0.75)  # of scenes relative to the network's input
_LEAST_VISIBLE = 0.15  # of a person's own area; one with less has no box


class Scene(NamedTuple):
    """A drawn scene.

    Attributes:
        size: Its size in pixels.
        people: From back to front, in pixels of the scene.
        rng: Draws the background.
    """

    size: Size
    people: Sequence[Figure]
    rng: np.random.Generator


def scene_of(seed: int, height: int, width: int) -> Scene:
    """The people of a scene, with random sizes and places.

    Args:
        seed: Seed of everything in it.
        height: Largest height of the scene.
        width: Its largest width.
    """
    rng = np.random.default_rng(seed)
    size = Size(round(height * rng.choice(_SIDES)), round(width * rng.choice(_SIDES)))
    count = int(rng.choice(_PEOPLE))
    hues = rng.random() + np.arange(count) / count + rng.uniform(-0.05, 0.05, count)
    people: list[Figure] = []
    x, tall = 0.0, 0.0
    for hue in hues.tolist():
        if people and rng.random() < _BESIDE:
            x += rng.choice((-1.0, 1.0)) * rng.uniform(0.15, 0.4) * tall
        else:
            x = rng.uniform(0.05, 0.95) * size.width
        tall = rng.uniform(0.4, 0.85) * size.height
        people.append(Figure(rng, x, rng.normal(0.5, 0.07) * size.height, tall, hue))
    return Scene(size, people, rng)


def draw_people(scene: Scene) -> Pixels:
    """Which person each pixel shows, uint8 [h,w]: 0 none, 1 the first of ``people``, 2 the second, ..."""
    blank = Image.new("RGB", scene.size[::-1])
    return _painted(scene, blank)


def draw_image(scene: Scene) -> Pixels:
    """The picture, RGB uint8 [h,w,3]. Its background is drawn from the scene's generator: call it once."""
    image = background(scene.rng, *scene.size)
    _painted(scene, image)
    noise = scene.rng.integers(-10, 11, (*scene.size, 1), dtype=np.int16)
    return (np.asarray(image).astype(np.int16) + noise).clip(0, 255).astype(np.uint8)


def _painted(scene: Scene, image: Image.Image) -> Pixels:
    order = [(person, number) for number, person in enumerate(scene.people, start=1)]
    return paint(image, Image.new("L", image.size), order, np.zeros(2), np.ones(2))


class SyntheticScenes(PictureSamples):
    """Pictures of several synthetic people."""

    surveyed = 16

    def __init__(self, data: SyntheticData, split: str, *, stride: int, seed: int) -> None:
        count = {"train": data.train_samples, "val": data.val_samples, "test": data.test_samples}[split]
        self._indices = limited(count, data.train_limit if split == "train" else None, data.seed)
        self._scenes = data.seed
        # Only training labels are degraded; labels for evaluation are always exact.
        self._coarseness = data.label_coarseness if split == "train" else 1
        self._noise = data.label_noise if split == "train" else 0.0
        self._marked: dict[int, Marked] = {}
        super().__init__(data, split, count=len(self._indices), stride=stride, seed=seed)

    def _scene(self, index: int) -> Scene:
        seed = seed_of(self._scenes, "scene", self.split, self._indices[index])
        return scene_of(seed, DETAIL * self.height, DETAIL * self.width)

    def decoded(self, index: int) -> tuple[Values, NDArray[Any]]:
        """Draw the picture."""
        image = draw_image(self._scene(index))
        return image, image

    def marked(self, index: int) -> Marked:
        """A box around the visible pixels of each person who is not hidden."""
        if index not in self._marked:
            scene = self._scene(index)
            numbers = draw_people(scene)
            layers = [layer_of(numbers == number) for number in range(1, len(scene.people) + 1)]
            areas = [np.count_nonzero(draw_people(scene._replace(people=[person]))) for person in scene.people]
            visible = np.array([np.count_nonzero(layer.mask) for layer in layers])
            targets = np.flatnonzero((visible > 0) & (visible >= _LEAST_VISIBLE * np.array(areas)))
            boxes = np.array([layers[number].box for number in targets], np.float64).reshape(-1, 4)
            self._marked[index] = Marked(scene.size, boxes, targets)
        return self._marked[index]

    def read_layers(self, index: int) -> Sequence[Layer]:
        """The visible pixels of each person, with coarse outlines as configured."""
        scene = self._scene(index)
        numbers = draw_people(scene)
        if self._coarseness > 1:
            numbers = coarsen(numbers, DETAIL * self._coarseness)
        return [layer_of(numbers == number) for number in range(1, len(scene.people) + 1)]

    def labels_for(self, index: int, layers: Sequence[Layer], target: int, area: Area) -> Pixels:
        """As the base class, with target and others swapped as configured."""
        labels = super().labels_for(index, layers, target, area)
        number = self._indices[index]
        if self._noise and np.random.default_rng(seed_of(self._scenes, "noise", number, target)).random() < self._noise:
            swapped: NDArray[np.uint8] = np.arange(256, dtype=np.uint8)
            swapped[[TARGET, OTHER]] = OTHER, TARGET
            return swapped[labels]
        return labels

    def describe(self) -> str:
        """Number of pictures."""
        return f"{len(self)} synthetic pictures of {_PEOPLE[0]} to {_PEOPLE[-1]} people"


class SyntheticForeground(ForegroundMaps, SyntheticScenes):
    """The same pictures with one mask of all people."""


def synthetic_scenes(data: SyntheticData, split: str, *, stride: int, seed: int) -> PictureSamples:
    """The pictures of a split in the form of ``data.sample``."""
    kind = SyntheticScenes if data.regions else SyntheticForeground
    return kind(data, split, stride=stride, seed=seed)
