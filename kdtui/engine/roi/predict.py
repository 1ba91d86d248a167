"""Masks of the instances in boxes of whole pictures: input of the network, pasted results, and what is written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data import PixelFormat
from kdtui.engine.data.box_file import DetectedBox
from kdtui.engine.data.geometry import PictureGeometry, shown_whole
from kdtui.engine.data.images import displayed
from kdtui.engine.data.instances import clipped, enlarged, placed
from kdtui.engine.data.source import Size, Values
from kdtui.engine.data.warp import inverse
from kdtui.engine.evaluate import palette
from kdtui.engine.roi.metrics import confidence, encoded
from kdtui.engine.roi.paste import MOST_COLOURS, by_area, picture_colours, target_mask
from kdtui.errors import UsageError
from kdtui.profile import DataTable
from kdtui.store.run import write_atomically

Network = Callable[[Tensor, Tensor], Tensor]
"""Normalised images f32 [B,C,H,W] and boxes f32 [N,5] (image, x1, y1, x2, y2 in pixels) to logits f32 [N,3,h,w]."""
PER_PASS = 32
"""Boxes in one forward pass."""
_OVERLAY = 0.5
_CATEGORY = 1


@dataclass(frozen=True)
class Instances:
    """The masks of the boxes of a picture.

    Attributes:
        boxes: As in the file.
        logits: f32 [N,3,h,w] on the CPU.
        regions: f64 [N,4], x1, y1, x2, y2 of what each mask shows, in pixels of the picture.
    """

    boxes: Sequence[DetectedBox]
    logits: Tensor
    regions: NDArray[np.float64]


def segmented(
    picture: Values, boxes: Sequence[DetectedBox], network: Network, *, data: DataTable, size: Size, pixels: PixelFormat
) -> Instances:
    """The masks of a picture's boxes; it is shown to the network as in evaluations.

    Args:
        picture: uint8 [h,w,C], or f32 on the scale 0 to 255.
        boxes: Its boxes; none gives no mask. The part outside the picture does not count.
        network: The network.
        data: Data of the training: their size, and the padding of boxes.
        size: That size, padded to the stride.
        pixels: Normalisation and channel order of the network's images.
    """
    if not boxes:
        return Instances((), torch.zeros(0, 3, 1, 1), np.zeros((0, 4)))
    own = Size(*picture.shape[:2])
    inside = clipped(np.array([box.box for box in boxes]), own)
    regions = enlarged(inside, getattr(data, "roi_padding", 0.0))
    fill = tuple(float(round(255 * pixels.mean[channel])) for channel in pixels.order)
    image = pixels.normalised(torch.tensor(shown_whole(data, picture, fill)).permute(2, 0, 1))
    image = functional.pad(image, (0, size.width - image.shape[-1], 0, size.height - image.shape[-2]))
    matrix = PictureGeometry(data, level="none", training=False).whole(own)
    rois = np.pad(placed(regions, inverse(matrix)), ((0, 0), (1, 0))).astype(np.float32)
    with torch.inference_mode():
        parts = torch.from_numpy(rois).split(PER_PASS)
        logits = torch.cat([network(image[None], part).float().cpu() for part in parts])
    return Instances(boxes, logits, regions)


def check_matched(boxes: Sequence[DetectedBox], pictures: Sequence[Path], file: str) -> None:
    """Check that a box belongs to one of the pictures.

    Raises:
        UsageError: None does.
    """
    if any(box.is_of(picture) for box in boxes for picture in pictures):
        return
    first = "no box" if not boxes else f"{boxes[0].file_name or f'image_id {boxes[0].image_id!r}'}"
    raise UsageError(
        "no box belongs to any of the pictures",
        where=file,
        found=f"{first}; pictures such as {pictures[0].name}" if pictures else first,
        allowed="the name of a picture as file_name, or its name without ending as image_id",
        hint="--boxes with the file of these pictures",
    )


class InstanceWriter:
    """Writes the instances of pictures: run lengths of all in one file, and pictures of each.

    Args:
        results: File of the run lengths.
        form: ``index`` (palette PNG of the instances' numbers) or ``colour`` (RGB PNG).
        overlay: Whether to write the picture with the instances in colours over it as well.
    """

    def __init__(self, results: Path, *, form: str, overlay: bool) -> None:
        self._results = results
        self._form = form
        self._overlay = overlay
        self._entries: dict[int, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._table = palette(picture_colours())

    def write(self, number: int, target: str, picture: Values, found: Instances) -> None:
        """Paste and write the instances of a picture.

        Args:
            number: Its place among the pictures.
            target: Output path without ending.
            picture: [h,w,C].
            found: Its instances.
        """
        size = Size(*picture.shape[:2])
        numbers = np.zeros(size, np.uint8)
        entries: dict[int, dict[str, Any]] = {}
        for place in by_area(torch.from_numpy(found.regions)):
            mask = target_mask(found.logits[place], found.regions[place].tolist(), size)
            numbers[mask.numpy()] = place % MOST_COLOURS + 1
            box = found.boxes[place]
            x1, y1, x2, y2 = box.box
            entries[place] = {
                "image_id": box.image_id,
                **({} if box.file_name is None else {"file_name": box.file_name}),
                "category_id": _CATEGORY if box.category is None else box.category,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": round(box.score * confidence(found.logits[place]), 6),
                "segmentation": encoded(mask),
            }
        with self._lock:
            self._entries[number] = [entries[place] for place in sorted(entries)]
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        if self._form == "colour":
            image = Image.fromarray(self._table[numbers])
        else:
            image = Image.fromarray(numbers)
            image.putpalette(self._table.flatten().tolist())
        _write(image, f"{target}.png")
        if self._overlay:
            _write(Image.fromarray(self._over(displayed(picture), numbers)), f"{target}-overlay.png")

    def finish(self) -> int:
        """Write the file of results, in the order of the pictures and their boxes; returns the number of instances."""
        entries = [entry for number in sorted(self._entries) for entry in self._entries[number]]
        self._results.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._results, json.dumps(entries).encode() + b"\n")
        return len(entries)

    def _over(self, picture: NDArray[np.uint8], numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
        share = _OVERLAY * (numbers > 0)[..., None]
        mixed: NDArray[np.uint8] = ((1 - share) * picture + share * self._table[numbers]).round().astype(np.uint8)
        return mixed


def _write(image: Image.Image, path: str) -> None:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    write_atomically(Path(path), buffer.getvalue())
