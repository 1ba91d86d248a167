"""Metrics of instances: one mask of three classes per box, the target among background and other people.

Counts are integers, and means of scores of instances are sums of fixed-point numbers, so that they depend neither on
batches nor on ranks. An instance is a box whose label map has a pixel of the target; the data may say in ``extras``:

- ``scores`` f32 [N]: of the boxes of a detector; 1 for true boxes.
- ``missed`` i64 [B]: instances of each image that no box of a detector matches. They count as instances without any
  predicted pixel.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.nn import functional

from kdtui.engine.data import IGNORE_INDEX, Batch
from kdtui.engine.data.source import Size
from kdtui.engine.models import Outputs
from kdtui.engine.roi.paste import OTHER, TARGET, pasted_labels, target_mask
from kdtui.engine.torchmetrics import Metric

TOLERANCE = 2
"""Largest distance of two boundaries that agree, in pixels of a mask."""
_ONE = 2**40
"""A score of 1 as fixed-point number; 8 million of them fit into i64."""
_CATEGORY = 1


def instance_metrics() -> tuple[Metric, ...]:
    """All metrics of instances."""
    return TargetIoU(), BoundaryF1(), Separation(), MaskAP()


class _Targets:
    """The predicted and the true targets of a batch, bool [N,h,w], without ignored pixels.

    Attributes:
        instances: bool [N]: boxes with a true pixel of the target.
        missed: Instances without a box.
    """

    def __init__(self, outputs: Outputs, batch: Batch) -> None:
        self.valid = batch.masks != IGNORE_INDEX
        self.predicted = (outputs.main.argmax(dim=1) == TARGET) & self.valid
        self.true = batch.masks == TARGET
        self.instances = self.true.flatten(1).any(dim=1)
        missed = batch.extras.get("missed")
        self.missed = 0 if missed is None else int(missed.sum())


class TargetIoU(Metric):
    """The mean over instances of the IoU of the target, and the shares of instances with an IoU of at least .5 and .7.

    IoU is computed at the resolution of the masks.
    """

    full_state_update = False
    total: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Count the instances of a batch."""
        targets = _Targets(outputs, batch)
        both = (targets.predicted & targets.true).sum(dim=(1, 2))[targets.instances]
        either = (targets.predicted | targets.true).sum(dim=(1, 2))[targets.instances]
        self.total += _fixed(both.double() / either)
        # Integers: 7/10 of the pixels are not less than .7.
        self.counts[0] += len(both) + targets.missed
        self.counts[1:] += torch.stack([(2 * both >= either).sum(), (10 * both >= 7 * either).sum()])

    def compute(self) -> dict[str, Tensor]:
        """``target_iou``, ``detected_50`` and ``detected_70``; not a number without instances."""
        instances = self.counts[0].double()
        return {
            "target_iou": self.total.double() / _ONE / instances,
            "detected_50": self.counts[1] / instances,
            "detected_70": self.counts[2] / instances,
        }


class BoundaryF1(Metric):
    """The mean over instances of the F1 of the target's boundary.

    The boundary consists of the pixels of the target with a neighbour above, below, left or right that is none. The
    border of a mask is no boundary, as the target may continue there, and pixels beside ignored ones do not count.
    Precision is the share of the predicted boundary that is near the true one, recall that of the true boundary
    (Csurka et al. 2013, What is a good evaluation measure for semantic segmentation?).

    Args:
        tolerance: The distance, in pixels of a mask.
    """

    full_state_update = False
    total: Tensor
    instances: Tensor

    def __init__(self, tolerance: int = TOLERANCE) -> None:
        super().__init__()
        self._tolerance = tolerance
        for name in ("total", "instances"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Count the instances of a batch."""
        targets = _Targets(outputs, batch)
        self.instances += targets.missed
        if not len(targets.true):
            return
        counted = ~_near(~targets.valid, _square(1, targets.valid.device))
        predicted, true = (_boundary(mask) & counted for mask in (targets.predicted, targets.true))
        disc = _disc(self._tolerance, counted.device)
        hits = [(one & _near(other, disc)).sum(dim=(1, 2)) for one, other in ((predicted, true), (true, predicted))]
        sizes = [one.sum(dim=(1, 2)) for one in (predicted, true)]
        used = targets.instances & (sizes[1] > 0)
        precision, recall = (
            torch.nan_to_num(hit[used].double() / size[used]) for hit, size in zip(hits, sizes, strict=True)
        )
        self.total += _fixed(torch.nan_to_num(2 * precision * recall / (precision + recall)))
        self.instances += used.sum()

    def compute(self) -> dict[str, Tensor]:
        """``boundary_f1``; not a number without boundaries."""
        return {"boundary_f1": self.total.double() / _ONE / self.instances}


class Separation(Metric):
    """The share of the true foreground where the larger one of the logits of target and other people is right.

    Background logits do not take part, so it measures the second decision alone.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Count the pixels of a batch."""
        target, other = batch.masks == TARGET, batch.masks == OTHER
        as_target = outputs.main[:, TARGET] >= outputs.main[:, OTHER]
        right = (target & as_target) | (other & ~as_target)
        self.counts += torch.stack([right.sum(), (target | other).sum()])

    def compute(self) -> dict[str, Tensor]:
        """``separation``; not a number without foreground."""
        return {"separation": self.counts[0] / self.counts[1].double()}


class MaskAP(Metric):
    """Average precision of masks by pycocotools, at IoU .5 to .95 and at .5.

    True and predicted targets are pasted into the images at the size of the network's input. The score of a mask is
    the mean probability of the target over its pixels, times that of its box. A missed instance is an empty true mask,
    which no prediction matches.
    """

    full_state_update = False
    records: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        # A JSON object per image and line. torchmetrics represents an empty list of another rank by an empty tensor of
        # the default type, so the bytes are of this type too.
        self.add_state("records", [], dist_reduce_fx="cat")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Paste the masks of a batch."""
        size = Size(*batch.images.shape[-2:])
        rois, logits, masks = batch.extras["rois"].cpu(), outputs.main.float().cpu(), batch.masks.cpu()
        scores, missed = batch.extras.get("scores"), batch.extras.get("missed")
        for number in range(len(batch.images)):
            record: dict[str, list[Any]] = {"size": list(size), "true": [], "predicted": []}
            for index in (rois[:, 0].long() == number).nonzero().flatten().tolist():
                box = rois[index, 1:].tolist()
                true, ignored = pasted_labels(masks[index], box, size)
                if true.any():
                    record["true"].append(encoded(true))
                predicted = target_mask(logits[index], box, size) & ~ignored
                if predicted.any():
                    score = confidence(logits[index], masks[index]) * (1.0 if scores is None else float(scores[index]))
                    record["predicted"].append([encoded(predicted), score])
            empty = encoded(torch.zeros(size, dtype=torch.bool))
            record["true"] += [empty] * (0 if missed is None else int(missed[number]))
            self.records.append(_as_tensor(record, self.device))

    def compute(self) -> dict[str, float]:
        """``mask_ap`` and ``mask_ap50``; not a number without instances."""
        whole, halves = average_precision(_records(self.records))
        return {"mask_ap": whole, "mask_ap50": halves}


def confidence(logits: Tensor, labels: Tensor | None = None) -> float:
    """The mean probability of the target over the cells where it has the largest logit; 0 without such a cell.

    Args:
        logits: f32 [3,h,w].
        labels: i64 [h,w], whose ignored cells do not count.
    """
    cells = logits.argmax(dim=0) == TARGET
    if labels is not None:
        cells &= labels != IGNORE_INDEX
    return float(logits.softmax(dim=0)[TARGET][cells].mean()) if cells.any() else 0.0


def encoded(mask: Tensor) -> dict[str, Any]:
    """Run lengths of a mask bool [H,W] in COCO's compressed form: ``{"size": [H, W], "counts": text}``."""
    runs: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode()}


def average_precision(records: Iterable[dict[str, list[Any]]]) -> tuple[float, float]:
    """AP at IoU .5 to .95 and AP at .5, by pycocotools.

    Args:
        records: Per picture ``size``: height and width, ``true``: run lengths, and ``predicted``: pairs of run lengths
            and score.

    Returns:
        Both not a number if no picture has a true mask.
    """
    truth: dict[str, Any] = {"info": {}, "images": [], "annotations": [], "categories": [{"id": _CATEGORY}]}
    results = []
    for image, record in enumerate(records, start=1):
        height, width = record["size"]
        truth["images"].append({"id": image, "height": height, "width": width})
        for runs in record["true"]:
            area, box = float(coco_mask.area(runs)), coco_mask.toBbox(runs).tolist()
            own = {"id": len(truth["annotations"]) + 1, "area": area, "bbox": box, "iscrowd": 0}
            truth["annotations"].append(own | {"image_id": image, "category_id": _CATEGORY, "segmentation": runs})
        for runs, score in record["predicted"]:
            own = {"image_id": image, "category_id": _CATEGORY, "score": score}
            results.append(own | {"segmentation": runs})
    if not truth["annotations"]:
        return float("nan"), float("nan")
    if not results:  # pycocotools takes no empty list of results
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def _as_tensor(record: dict[str, list[Any]], device: torch.device) -> Tensor:
    line = json.dumps(record).encode() + b"\n"
    return torch.frombuffer(bytearray(line), dtype=torch.uint8).to(device=device, dtype=torch.get_default_dtype())


def _records(states: Sequence[Tensor] | Tensor) -> Iterator[dict[str, list[Any]]]:
    """The records of all images; after a synchronisation, the state is one tensor."""
    parts = [states] if isinstance(states, Tensor) else states
    for part in parts:
        for line in bytes(part.to(torch.uint8).cpu().numpy()).splitlines():
            yield json.loads(line)


def _fixed(scores: Tensor) -> Tensor:
    """The sum of scores between 0 and 1 as fixed-point number i64."""
    return (scores.double() * _ONE).round().to(torch.int64).sum()


def _boundary(masks: Tensor) -> Tensor:
    """The pixels of masks bool [N,h,w] with a neighbour outside the mask; the border of the map counts as inside."""
    cross = torch.zeros(3, 3, device=masks.device)
    cross[1, :] = cross[:, 1] = 1
    return masks & _near(~masks, cross)


def _near(masks: Tensor, kernel: Tensor) -> Tensor:
    """The pixels of masks bool [N,h,w] with a pixel of the mask below the kernel f32 [k,k]; outside is none."""
    hits = functional.conv2d(masks[:, None].float(), kernel[None, None], padding=len(kernel) // 2)
    return hits[:, 0] > 0.5


def _square(reach: int, device: torch.device) -> Tensor:
    return torch.ones(2 * reach + 1, 2 * reach + 1, device=device)


def _disc(radius: int, device: torch.device) -> Tensor:
    steps = torch.arange(-radius, radius + 1, device=device)
    return ((steps[:, None] ** 2 + steps[None] ** 2) <= radius**2).float()
