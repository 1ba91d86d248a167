"""Metrics from one confusion matrix over the whole split, summed over ranks.

mIoU is never a mean of per-image IoU, and pixels with the ignore index are not counted. A kind of network may add
metrics, see :meth:`kdtui.engine.network.NetworkKind.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdtui.engine.torchmetrics import MulticlassConfusionMatrix


@dataclass(frozen=True)
class Scores:
    """Scores on a split.

    Attributes:
        miou: Mean IoU over the classes that occur in truth or prediction.
        iou: IoU per class name; None for a class that occurs in neither.
        dice: Mean Dice over the same classes.
        pixel_accuracy: Share of valid pixels that are correct.
        agreement: Share of valid pixels where student and teacher predict the same class; None without a teacher.
        metrics: Those that the kind of network adds, by name; None for one that is not defined.
    """

    miou: float
    iou: dict[str, float | None]
    dice: float
    pixel_accuracy: float
    agreement: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    def scalars(self) -> dict[str, float | None]:
        """The scores as flat names and values, for events and TensorBoard."""
        flat: dict[str, float | None] = {"miou": self.miou, "dice": self.dice, "pixel_accuracy": self.pixel_accuracy}
        flat.update({f"iou.{name}": value for name, value in self.iou.items()})
        if self.agreement is not None:
            flat["agreement"] = self.agreement
        return flat | dict(self.metrics)

    def value(self, name: str) -> float:
        """The scalar ``name``; 0 if it is not defined."""
        return self.scalars()[name] or 0.0


class SegmentationMetrics:
    """Accumulates predictions batch by batch; :meth:`scores` synchronises ranks.

    Args:
        classes: Class names in index order.
        ignore_index: Label of pixels that are not counted.
        device: Device of the confusion matrices.
    """

    def __init__(self, classes: Sequence[str], *, ignore_index: int, device: torch.device | str = "cpu") -> None:
        self.classes = tuple(classes)
        self.ignore_index = ignore_index
        self._truth, self._teacher = (
            MulticlassConfusionMatrix(len(self.classes), ignore_index=ignore_index, validate_args=False).to(device)
            for _ in range(2)
        )
        self._has_teacher = False

    def update(self, predictions: Tensor, masks: Tensor, teacher_predictions: Tensor | None = None) -> None:
        """Count one batch.

        Args:
            predictions: integer [B,H,W].
            masks: i64 [B,H,W] with the ignore index.
            teacher_predictions: integer [B,H,W], or None.
        """
        self._truth.update(predictions, masks)
        if teacher_predictions is not None:
            self.compare(predictions, masks, teacher_predictions)

    def compare(self, predictions: Tensor, masks: Tensor, teacher_predictions: Tensor) -> None:
        """Count one batch for the agreement with the teacher alone; arguments as for :meth:`update`."""
        self._has_teacher = True
        valid = masks != self.ignore_index
        self._teacher.update(predictions, teacher_predictions.long().masked_fill(~valid, self.ignore_index))

    def scores(self) -> Scores:
        """Scores of all batches so far, over all ranks. One device-to-host sync."""
        counts = self._truth.compute().double().cpu()
        right, truth, predicted = counts.diag(), counts.sum(1), counts.sum(0)
        union = truth + predicted - right
        occurs = union > 0
        iou, dice = right / union, 2 * right / (truth + predicted)
        agreement = None
        if self._has_teacher:
            together = self._teacher.compute().double().cpu()
            agreement = _ratio(together.diag().sum(), together.sum())
        return Scores(
            miou=float(iou[occurs].mean()) if occurs.any() else 0.0,
            iou={name: float(iou[k]) if occurs[k] else None for k, name in enumerate(self.classes)},
            dice=float(dice[occurs].mean()) if occurs.any() else 0.0,
            pixel_accuracy=_ratio(right.sum(), counts.sum()),
            agreement=agreement,
        )


def plain_values(computed: Mapping[str, Any]) -> dict[str, float | None]:
    """Results of a metric as numbers; None for a value that is not finite."""
    return {name: number if math.isfinite(number := float(value)) else None for name, value in computed.items()}


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0
