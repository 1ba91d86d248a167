"""One pass over a split: predictions, confusion matrix, scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kdtui.engine.data import IGNORE_INDEX, Batch
from kdtui.engine.metrics import Scores, SegmentationMetrics
from kdtui.engine.models import compose
from kdtui.profile.tables import TaskName

Predict = Callable[[Tensor], Tensor]


class StopAsked(Exception):
    """Someone asked the run to stop while this was going on; not a failure."""


def predictor(network: nn.Module, fabric: Fabric, *, task: TaskName, channels_last: bool) -> Predict:
    """A function from images f32 [B,3,H,W] to classes uint8 [B,H,W] under the run's autocast.

    The network is called as it is, not through DDP, whose forward synchronises buffers and would wait for ranks that
    have no batch left.
    """

    def predict(images: Tensor) -> Tensor:
        images = to_device(images, fabric, channels_last=channels_last)
        with torch.inference_mode(), fabric.autocast():
            raw = network(images)
        return compose(raw.float(), task).main.argmax(dim=1).to(torch.uint8)

    return predict


def to_device(images: Tensor, fabric: Fabric, *, channels_last: bool) -> Tensor:
    """Images on the device in the layout the network computes in."""
    images = images.to(fabric.device, non_blocking=True)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    *,
    classes: Sequence[str],
    device: torch.device,
    teacher_predictions: np.ndarray | None = None,
    store: np.ndarray | None = None,
    between_batches: Callable[[], None] = lambda: None,
) -> Scores:
    """Scores of one network on a split; over ranks when there are several.

    Args:
        predict: Images to classes.
        batches: This rank's share of the split, in order.
        classes: Class names.
        device: Where counting happens.
        teacher_predictions: uint8 [N,H,W] of the same samples, in their order, for the agreement.
        store: uint8 [N,H,W] to write the predictions into, in that order.
        between_batches: Called before each batch; may raise :class:`StopAsked`.
    """
    metrics = SegmentationMetrics(classes, ignore_index=IGNORE_INDEX, device=device)
    first = 0
    for batch in batches:
        between_batches()
        predictions = predict(batch.images)
        last = first + len(predictions)
        theirs = None
        if teacher_predictions is not None:
            theirs = torch.from_numpy(np.array(teacher_predictions[first:last])).to(device)
        if store is not None:
            store[first:last] = predictions.cpu().numpy()  # device-to-host sync
        metrics.update(predictions, batch.masks.to(device), theirs)
        first = last
    return metrics.scores()
