"""Samples that are whole pictures: the boxes of instances, and a label map for each.

The label map of a box is sampled from the annotations at their full resolution, at the centres of the cells of the
enlarged box: the geometry of an aligned RoIAlign. A cell outside the picture, or outside the part of it that the
network sees, is ignored.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdtui.engine.data.geometry import PictureGeometry
from kdtui.engine.data.images import eight_bit, extent
from kdtui.engine.data.protocol import Batch, Sample, SampleFacts, SegmentationDataset, StoredSample
from kdtui.engine.data.second_pipeline import SecondPipeline
from kdtui.engine.data.source import IGNORE_INDEX, Needed, Pixels, Size, Source, Values, seed_of
from kdtui.engine.data.warp import Matrix, Window, composed, inverse, warped_labels, window_to_source
from kdtui.profile import CocoData, DataTable, SyntheticData
from kdtui.profile.data_tables import Level
from kdtui.profile.region_keys import RegionKeys

TARGET, OTHER = 1, 2
_MOST_LAYER_BYTES = 2**28  # kept in a process; reading annotations again takes about as long as a warp
Boxes = NDArray[np.float64]
Area = tuple[int, int, int, int]


class Layer(NamedTuple):
    """The pixels of an annotation, in the smallest box around them.

    Attributes:
        left: First column of ``mask`` in the picture.
        top: First row.
        mask: bool [h,w].
        label: Class of these pixels in the label maps of other instances.
    """

    left: int
    top: int
    mask: NDArray[np.bool_]
    label: int = OTHER

    @property
    def box(self) -> Area:
        """Left, top, right and bottom of ``mask`` in the picture."""
        return self.left, self.top, self.left + self.mask.shape[1], self.top + self.mask.shape[0]


def layer_of(mask: NDArray[np.bool_], label: int = OTHER) -> Layer:
    """The layer of a mask bool [h,w] of a whole picture; one of no pixels if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Layer(0, 0, np.zeros((0, 0), bool), label)
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Layer(int(columns[0]), int(rows[0]), np.ascontiguousarray(part), label)


class Marked(NamedTuple):
    """The boxes of a picture.

    Attributes:
        size: Size of the picture that the annotations describe.
        boxes: f64 [N,4], left, top, right and bottom in pixels of the picture.
        targets: i64 [N], number of the layer of each; -1 for a box without an instance.
        scores: f64 [N], of boxes of a detector; None for those of the annotations.
        missed: Number of instances that no box of a detector matches.
    """

    size: Size
    boxes: Boxes
    targets: NDArray[np.int64]
    scores: NDArray[np.float64] | None = None
    missed: int = 0


def clipped(boxes: Boxes, size: Size) -> Boxes:
    """Boxes [N,4] within 0..width and 0..height; one outside has no area."""
    return boxes.clip(0, np.array([size.width, size.height] * 2))


def placed(boxes: Boxes, matrix: Matrix) -> Boxes:
    """The smallest boxes [N,4] around boxes that a 2x3 matrix maps."""
    corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]] @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def enlarged(boxes: Boxes, share: float) -> Boxes:
    """Boxes [N,4] with this share of their size added on each side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] - share * sides, boxes[:, 2:] + share * sides], axis=1)


def label_map(layers: Sequence[Layer], target: int, area: Area) -> Pixels:
    """The labels of a part of a picture for one instance, uint8 [h,w].

    A pixel of several annotations is that of the target, else ignored if one of them is a crowd.

    Args:
        layers: All annotations of the picture.
        target: Number of the instance's layer; -1 for none.
        area: Left, top, right and bottom in whole pixels.
    """
    others = [layer for number, layer in enumerate(layers) if number != target]
    order = [layer for label in (OTHER, IGNORE_INDEX) for layer in others if layer.label == label]
    return _painted([*order, *([layers[target]._replace(label=TARGET)] if target >= 0 else [])], area)


def foreground(layers: Sequence[Layer], size: Size) -> Pixels:
    """Labels of a whole picture, uint8 [h,w]: 1 where there is an instance, ignored in other crowds, 0 elsewhere.

    Args:
        layers: All annotations of the picture.
        size: Size of the picture.
    """
    order = [layer for label in (IGNORE_INDEX, OTHER) for layer in layers if layer.label == label]
    painted = [layer if layer.label == IGNORE_INDEX else layer._replace(label=TARGET) for layer in order]
    return _painted(painted, (0, 0, size.width, size.height))


def _painted(layers: Sequence[Layer], area: Area) -> Pixels:
    """The labels of layers in an area; later layers are above earlier ones."""
    left, top, right, bottom = area
    labels = np.zeros((max(0, bottom - top), max(0, right - left)), np.uint8)
    for layer in layers:
        x0, y0 = max(left, layer.left), max(top, layer.top)
        x1, y1 = min(right, layer.box[2]), min(bottom, layer.box[3])
        if x0 < x1 and y0 < y1:
            part = layer.mask[y0 - layer.top : y1 - layer.top, x0 - layer.left : x1 - layer.left]
            labels[y0 - top : y1 - top, x0 - left : x1 - left][part] = layer.label
    return labels


class View(NamedTuple):
    """What a network sees of a picture.

    Attributes:
        marked: The boxes of the picture.
        matrix: Edges of the network's input to edges of the picture.
        rng: Draws what is left to be drawn: boxes, then colours.
    """

    marked: Marked
    matrix: Matrix
    rng: np.random.Generator


PictureData = SyntheticData | CocoData


class PictureSamples(SegmentationDataset):
    """Whole pictures with boxes.

    A sample has ``mask`` i64 [N,h,w], one label map per box, and in ``extras``

    - ``rois`` f32 [N,5]: 0, x1, y1, x2, y2 in pixels of the network's input;
    - ``foreground`` uint8 [1,H,W]: :func:`foreground` of what the network sees, ignored where there is no picture;
    - for boxes of a detector ``scores`` f32 [N], and ``missed`` i64 [1]: instances that no box matches.

    In a batch, label maps and extras of all pictures follow each other, and the first number of ``rois`` is the
    position of the picture. N may be 0.
    """

    _pipeline: SecondPipeline

    def __init__(self, data: PictureData, split: str, *, count: int, stride: int, seed: int) -> None:
        self.mask_size = Size(*data.mask_size)
        self._keys: RegionKeys = data
        self._layers: dict[int, Sequence[Layer]] = {}
        self._layer_bytes = 0
        super().__init__(data, split, classes=data.class_names(), count=count, stride=stride, seed=seed)

    def _pipeline_of(self, data: DataTable, level: Level) -> SecondPipeline:
        training = self.split == "train"
        self._geometry = PictureGeometry(data, level=level, training=training)
        return SecondPipeline(
            data,
            self.read_reduced,
            count=self._count,
            level=level,
            training=training,
            pixels=self.pixels,
            geometry=self._geometry,
        )

    @abstractmethod
    def marked(self, index: int) -> Marked:
        """The boxes of picture ``index``; reads no image."""

    @abstractmethod
    def read_layers(self, index: int) -> Sequence[Layer]:
        """The pixels of all annotations of picture ``index``."""

    @abstractmethod
    def decoded(self, index: int) -> tuple[Values, NDArray[Any]]:
        """Picture ``index``, [h,w,C], and the values in its file.

        Raises:
            DataError: It cannot be read.
        """

    def layers(self, index: int) -> Sequence[Layer]:
        """As :meth:`read_layers`; those of the first pictures that are read are kept in memory."""
        layers = self._layers.get(index)
        if layers is None:
            layers = self.read_layers(index)
            size = sum(layer.mask.nbytes for layer in layers)
            if self._layer_bytes + size <= _MOST_LAYER_BYTES:
                self._layers[index] = layers
                self._layer_bytes += size
        return layers

    def read(self, index: int) -> Source:
        """The whole picture with its foreground."""
        return Source(self.decoded(index)[0], foreground(self.layers(index), self.marked(index).size))

    def read_reduced(self, index: int, needed: Needed) -> Source:
        """As the base class; the pipeline needs no labels."""
        image, _ = self.decoded(index)
        return Source(image, np.zeros(image.shape[:2], np.uint8))

    def look(self, index: int) -> SampleFacts:
        """Facts about the picture, with the labels of all boxes."""
        (_, labels), stored, seen, _ = self.stored(index)
        size = self.marked(index).size
        return SampleFacts(stored, seen, labels, size.height * size.width)

    def stored(self, index: int) -> StoredSample:
        """The picture with the labels of all boxes."""
        image, values = self.decoded(index)
        source = Source(image, self.labels(index))
        return StoredSample(source, extent(values), eight_bit(image), values.shape[2] if values.ndim == 3 else 1)

    def labels(self, index: int) -> Pixels:
        """The label maps of an evaluation below each other, uint8 [N*h,w]; no image is read."""
        marked = self.marked(index)
        matrix = self._geometry.whole(marked.size)
        rois, targets, _ = self._rois(index, marked, matrix, None)
        return self._masks(index, marked, matrix, rois, targets).reshape(-1, self.mask_size.width)

    def _stored_size(self) -> Size:
        return self.marked(0).size

    def label_maps(self, index: int) -> int:
        """Number of boxes of picture ``index`` in an evaluation."""
        marked = self.marked(index)
        return len(self._rois(index, marked, self._geometry.whole(marked.size), None)[0])

    def boxes(self, index: int) -> list[tuple[float, ...]]:
        """The boxes of the picture."""
        return [tuple(box) for box in self.marked(index).boxes.tolist()]

    def view(self, index: int, view: int) -> View:
        """Draw a view of picture ``index``."""
        if not 0 <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        rng = np.random.Generator(np.random.PCG64(seed_of(self.seed, index, view)))
        marked = self.marked(index)
        return View(marked, self._geometry.matrix(marked.size, clipped(marked.boxes, marked.size), rng), rng)

    def picture(self, index: int, view: View) -> tuple[Tensor, Tensor]:
        """Image f32 [C,H,W] of a view and its foreground uint8 [H,W], padded to the stride."""
        whole = foreground(self.layers(index), view.marked.size)
        seen = torch.from_numpy(warped_labels(whole, view.matrix, self._geometry.size))
        size = view.marked.size
        image = self._pipeline.placed(
            index, lambda kept, fill: self._geometry.shown(kept, size, view.matrix, fill), view.rng
        )
        return self.padded(image, 0.0), self.padded(seen, IGNORE_INDEX)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, _ = key
        view = self.view(*key)
        marked, matrix, rng = view
        rois, targets, chosen = self._rois(index, marked, matrix, rng if self.split == "train" else None)
        masks = self._masks(index, marked, matrix, rois, targets)
        image, seen = self.picture(index, view)
        extras = {
            "rois": torch.from_numpy(np.pad(rois, ((0, 0), (1, 0))).astype(np.float32)),
            "foreground": seen[None],
        }
        if marked.scores is not None:
            extras["scores"] = torch.from_numpy(marked.scores[chosen].astype(np.float32))
            extras["missed"] = torch.tensor([marked.missed])
        return Sample(image, torch.from_numpy(masks.astype(np.int64)), extras)

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """A batch of these pictures, with the label maps and boxes of all."""
        counts = torch.tensor([len(sample.mask) for sample in samples])
        extras = {name: torch.cat([sample.extras[name] for sample in samples]) for name in samples[0].extras}
        extras["rois"][:, 0] = torch.arange(len(samples)).repeat_interleave(counts)
        images = torch.stack([sample.image for sample in samples])
        return Batch(images, torch.cat([sample.mask for sample in samples]), extras)

    def _rois(
        self, index: int, marked: Marked, matrix: Matrix, rng: np.random.Generator | None
    ) -> tuple[Boxes, NDArray[np.int64], NDArray[np.int64]]:
        """The boxes [N,4] of a view that are large enough, in pixels of the network's input, and their targets.

        Args:
            index: Number of the picture.
            marked: Its boxes.
            matrix: Edges of the network's input to edges of the picture.
            rng: For training: draws which boxes are taken, and how they are moved.

        Returns:
            Enlarged boxes, their targets, and their positions in ``marked``.
        """
        inside = clipped(marked.boxes, marked.size)
        boxes = placed(inside, inverse(matrix))
        seen = clipped(boxes, self._geometry.size)
        chosen = self._large(seen)
        if rng is not None:
            turned = bool(np.any(matrix[[0, 1], [1, 0]]))
            changed = [at for at in chosen.tolist() if turned or not np.allclose(boxes[at], seen[at])]
            if changed:
                layers = self.layers(index)
                for at in changed:
                    seen[at] = _around(layers[marked.targets[at]], matrix, seen[at])
                chosen = self._large(seen)
            if len(chosen) > self._keys.max_instances:
                chosen = np.sort(rng.permutation(chosen)[: self._keys.max_instances])
            sides = np.tile(seen[chosen, 2:] - seen[chosen, :2], 2)
            seen[chosen] += sides * rng.uniform(-1, 1, sides.shape) * self._keys.roi_jitter
        return enlarged(seen[chosen], self._keys.roi_padding), marked.targets[chosen], chosen

    def _large(self, boxes: Boxes) -> NDArray[np.int64]:
        """Positions of the boxes whose sides are long enough."""
        return np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= self._keys.min_box)

    def _masks(
        self, index: int, marked: Marked, matrix: Matrix, rois: Boxes, targets: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Label maps [N,h,w] of boxes [N,4] in pixels of the network's input."""
        masks = np.full((len(rois), *self.mask_size), IGNORE_INDEX, np.uint8)
        layers = self.layers(index) if len(rois) else ()
        for mask, roi, target in zip(masks, rois, targets.tolist(), strict=True):
            left, top, right, bottom = roi.tolist()
            window = Window(left, top, right - left, bottom - top)
            to_picture = composed(matrix, window_to_source(window, self.mask_size))
            area = _area(to_picture, self.mask_size, marked.size)
            to_picture[:, 2] -= area[:2]
            labels = self.labels_for(index, layers, target, area)
            mask[:] = warped_labels(labels, to_picture, self.mask_size)
            rows, columns = _unseen(window, self.mask_size, self._geometry.size)
            mask[rows], mask[:, columns] = IGNORE_INDEX, IGNORE_INDEX
        return masks

    def labels_for(self, index: int, layers: Sequence[Layer], target: int, area: Area) -> Pixels:
        """See :func:`label_map`."""
        return label_map(layers, target, area)


class ForegroundMaps(PictureSamples):
    """Whole pictures with one label map of the foreground, without boxes: mixed into a kind of pictures."""

    def labels(self, index: int) -> Pixels:
        """The foreground of the whole picture, uint8 [h,w]; no image is read."""
        return foreground(self.layers(index), self.marked(index).size)

    def label_maps(self, index: int) -> int:
        """One."""
        return 1

    def boxes(self, index: int) -> list[tuple[float, ...]]:
        """None."""
        return []

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        image, seen = self.picture(key[0], self.view(*key))
        return Sample(image, seen.long())

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Everything stacked."""
        return SegmentationDataset.collate(self, samples)


def _area(to_picture: Matrix, cells: Size, picture: Size) -> Area:
    """The whole pixels of a picture that a grid of cells shows, and one more on each side."""
    left, top, right, bottom = placed(np.array([[0.0, 0.0, cells.width, cells.height]]), to_picture)[0].tolist()
    x = (min(max(0, math.floor(left) - 1), picture.width), min(max(0, math.ceil(right) + 1), picture.width))
    y = (min(max(0, math.floor(top) - 1), picture.height), min(max(0, math.ceil(bottom) + 1), picture.height))
    return x[0], y[0], x[1], y[1]


def _unseen(window: Window, cells: Size, size: Size) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows and columns of cells whose centres the network's input does not show."""
    rows = window.top + (np.arange(cells.height) + 0.5) * window.height / cells.height
    columns = window.left + (np.arange(cells.width) + 0.5) * window.width / cells.width
    return (rows < 0) | (rows >= size.height), (columns < 0) | (columns >= size.width)


def _around(layer: Layer, matrix: Matrix, box: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest box [4] around the pixels of a layer within a box of the network's input; empty without one.

    Args:
        layer: The pixels.
        matrix: Edges of the network's input to edges of the picture.
        box: Left, top, right and bottom.
    """
    left, top = np.floor(box[:2]).astype(int).tolist()
    right, bottom = np.ceil(box[2:]).astype(int).tolist()
    if right <= left or bottom <= top:
        return np.zeros(4)
    part = composed(matrix, np.array([[1.0, 0.0, left], [0.0, 1.0, top]]))
    part[:, 2] -= layer.left, layer.top
    own = warped_labels(layer.mask.view(np.uint8), part, Size(bottom - top, right - left)) == 1
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    if not len(rows):
        return np.zeros(4)
    tight = np.array([left + columns[0], top + rows[0], left + columns[-1] + 1.0, top + rows[-1] + 1.0])
    return np.concatenate([np.maximum(tight[:2], box[:2]), np.minimum(tight[2:], box[2:])])
