"""Boxes of a detector for the pictures of a split, matched to the instances of their annotations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from kdtui.engine.data.box_file import DetectedBox, read_boxes
from kdtui.engine.data.coco import Instances
from kdtui.engine.data.coco_entries import ImageId, Unusable, image_finder
from kdtui.engine.data.instances import Boxes, Marked, clipped
from kdtui.engine.data.protocol import named
from kdtui.errors import DataError

IOU = 0.5
"""From this overlap on, a box is that of an instance."""
MOST_BOXES = 100
"""Boxes of a picture that are used, those with the largest scores, as in COCO's evaluation."""

_HINT = "--set data.boxes=FILE, or data.boxes=truth"


class Detections(NamedTuple):
    """The boxes of a detector.

    Attributes:
        by_image: f64 [N,5] by id: left, top, right, bottom and score, the largest score first.
        elsewhere: Number of boxes of other pictures.
    """

    by_image: Mapping[ImageId, NDArray[np.float64]]
    elsewhere: int

    def of(self, id: ImageId) -> NDArray[np.float64]:
        """Those of a picture."""
        return self.by_image.get(id, np.zeros((0, 5)))


def read_detections(path: Path, instances: Instances, pictures: Collection[ImageId]) -> Detections:
    """The boxes of a COCO results file for a split; those of other categories are left out.

    Args:
        path: The file.
        instances: The annotations.
        pictures: The pictures of the split, which may be some of those of the annotations.

    Raises:
        DataError: The file cannot be used, or has no box of these pictures.
    """
    boxes = read_boxes(path)
    own = [box for box in boxes if box.category is None or box.category in instances.categories]
    if not own:
        raise DataError(
            "the file of boxes has none of the category",
            where=path,
            found=f"category_id {named(sorted({str(box.category) for box in boxes}))}" if boxes else "no box",
            allowed=f"category_id {named(sorted(map(str, instances.categories)))}, as in {instances.path.name}",
            hint=_HINT,
        )
    placed = list(_with_pictures(own, instances))
    _check_inside(placed, instances, path)
    wanted = {*pictures}
    rows: dict[ImageId, list[tuple[float, ...]]] = {}
    for id, box in placed:
        if id in wanted:
            rows.setdefault(id, []).append((*box.box, box.score))
    if not rows:
        raise DataError(
            "no box is of a picture of this split",
            where=path,
            found=f"image_id {named(list(dict.fromkeys(box.image_id for box in own)), shown=3)}",
            allowed=f"image_id {named(list(pictures), shown=3)}, as in {instances.path.name}",
            hint=_HINT,
        )
    best = {id: _best(np.array(boxes)) for id, boxes in rows.items()}
    return Detections(best, len(own) - sum(map(len, rows.values())))


def _with_pictures(boxes: Sequence[DetectedBox], instances: Instances) -> Iterator[tuple[ImageId, DetectedBox]]:
    """The boxes of pictures in the annotations, with the ids of these."""
    image_of = image_finder(instances.pictures)
    for box in boxes:
        try:
            yield image_of(box.image_id), box
        except Unusable:  # of another picture
            continue


def _check_inside(boxes: Sequence[tuple[ImageId, DetectedBox]], instances: Instances, path: Path) -> None:
    """Refuse boxes of another form, most of which reach beyond their pictures."""
    beyond = []
    for id, box in boxes:
        picture = instances.pictures[id]
        if box.box[2] > picture.width + 1 or box.box[3] > picture.height + 1:
            beyond.append((picture, box))
    if len(beyond) > len(boxes) / 2:
        picture, box = beyond[0]
        left, top, right, bottom = box.box
        raise DataError(
            "most boxes reach beyond their pictures",
            where=path,
            found=f"{len(beyond)} of {len(boxes)}, such as [{left:g}, {top:g}, {right - left:g}, {bottom - top:g}] in "
            f"{picture.file_name} ({picture.width}x{picture.height})",
            allowed="x, y, width, height in pixels of the picture",
            hint="boxes x1, y1, x2, y2 have the width x2 - x1 and the height y2 - y1",
        )


def _best(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boxes with the largest scores, in this order."""
    return boxes[np.argsort(-boxes[:, 4], kind="stable")[:MOST_BOXES]]


def matched(found: NDArray[np.float64], truth: Marked, uncounted: Boxes, crowds: Boxes, least: float) -> Marked:
    """Boxes of a detector with the instances that they match: the largest overlap, in the order of scores.

    As in COCO's evaluation, boxes of instances that do not count, and boxes in crowds, are left out.

    Args:
        found: f64 [N,5], boxes and scores.
        truth: The instances of the picture that count.
        uncounted: Boxes [M,4] of instances that do not count.
        crowds: Boxes [C,4] of crowds.
        least: Smallest side of a box.
    """
    boxes = clipped(found[:, :4], truth.size)
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= least
    boxes, scores = boxes[large], found[large, 4]
    overlaps = _overlaps(boxes, truth.boxes)
    left_out = np.concatenate([_overlaps(boxes, uncounted), _overlaps(boxes, crowds, crowd=True)], axis=1)
    targets, kept = np.full(len(boxes), -1, np.int64), np.ones(len(boxes), bool)
    free = np.ones(len(truth.boxes), bool)
    for number in range(len(boxes)):
        open_to = np.where(free, overlaps[number], 0.0)
        if open_to.max(initial=0.0) >= IOU:
            best = int(open_to.argmax())
            free[best], targets[number] = False, truth.targets[best]
        else:
            kept[number] = left_out[number].max(initial=0.0) < IOU
    return Marked(truth.size, boxes[kept], targets[kept], scores[kept], int(np.count_nonzero(free)))


def _overlaps(boxes: Boxes, others: Boxes, *, crowd: bool = False) -> NDArray[np.float64]:
    """IoU [N,M] of boxes; with a crowd, the share of the box."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    sized = [np.concatenate([some[:, :2], some[:, 2:] - some[:, :2]], axis=1) for some in (boxes, others)]
    overlaps: NDArray[np.float64] = np.asarray(coco_mask.iou(*sized, [int(crowd)] * len(others)))
    return overlaps
