"""Evaluation on a split: predictions, confusion matrix, scores, and pictures of predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchmetrics import Metric

from kdtui.engine.data import IGNORE_INDEX, Batch, PixelFormat
from kdtui.engine.data.images import displayed
from kdtui.engine.metrics import Scores, SegmentationMetrics, plain_values
from kdtui.engine.models import Outputs, inputs_of, outputs_of
from kdtui.palette import RGB
from kdtui.profile.base import TaskName

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Predict = Callable[[Tensor, Mapping[str, Tensor]], Outputs]


class StopRequested(Exception):
    """A stop was requested during the evaluation; not an error."""


def predictor(network: nn.Module, fabric: Fabric, *, task: TaskName, channels_last: bool) -> Predict:
    """A function from images f32 [B,3,H,W] and further inputs to outputs in f32, under the run's autocast.

    The network is called without DDP, whose forward synchronises buffers and would wait for ranks without a batch.
    """

    def predict(images: Tensor, extras: Mapping[str, Tensor]) -> Outputs:
        images = to_device(images, fabric, channels_last=channels_last)
        with torch.inference_mode(), fabric.autocast():
            raw = network(images, **inputs_of(network, extras_to_device(extras, fabric)))
        return outputs_of(network, tree_map(torch.Tensor.float, raw), task)

    return predict


def predicted_classes(outputs: Outputs) -> Tensor:
    """The classes uint8 [B,H,W] with the largest main logits."""
    return outputs.main.argmax(dim=1).to(torch.uint8)


def to_device(images: Tensor, fabric: Fabric, *, channels_last: bool) -> Tensor:
    """Move images to the device, in the memory layout of the network."""
    images = images.to(fabric.device, non_blocking=True)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def extras_to_device(extras: Mapping[str, Tensor], fabric: Fabric) -> dict[str, Tensor]:
    """What a batch carries beside images and labels, on the device."""
    return {name: value.to(fabric.device, non_blocking=True) for name, value in extras.items()}


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    *,
    classes: Sequence[str],
    device: torch.device,
    metrics: Sequence[Metric] = (),
    teacher_predictions: np.ndarray | None = None,
    store: np.ndarray | None = None,
    between_batches: Callable[[], None] = lambda: None,
) -> Scores:
    """Scores of a network on a split, over all ranks.

    Args:
        predict: Images and further inputs to outputs.
        batches: This rank's share of the split, in order.
        classes: Class names.
        device: Device of the confusion matrix.
        metrics: Further metrics, see :meth:`kdtui.engine.network.NetworkKind.metrics`.
        teacher_predictions: uint8 [N,H,W] of the same samples, in order, for the agreement.
        store: uint8 [N,H,W] that receives the predictions, in order.
        between_batches: Called before each batch; may raise :class:`StopRequested`.
    """
    confusion = SegmentationMetrics(classes, ignore_index=IGNORE_INDEX, device=device)
    further = [metric.to(device) for metric in metrics]
    first = 0
    for batch in batches:
        between_batches()
        outputs = predict(batch.images, batch.extras)
        predictions = predicted_classes(outputs)
        last = first + len(predictions)
        theirs = None
        if teacher_predictions is not None:
            theirs = torch.from_numpy(np.array(teacher_predictions[first:last])).to(device)
        if store is not None:
            store[first:last] = predictions.cpu().numpy()  # device-to-host sync
        masks = batch.masks.to(device)
        confusion.update(predictions, masks, theirs)
        if further:
            extras = {name: value.to(device) for name, value in batch.extras.items()}
            for metric in further:
                metric.update(outputs, Batch(batch.images, masks, extras))
        first = last
    values = {name: value for metric in further for name, value in plain_values(metric.compute()).items()}
    return dataclasses.replace(confusion.scores(), metrics=values)


_IGNORED = np.array([30, 30, 30], np.uint8)
_GAP = 2


def palette(colours: Sequence[RGB]) -> np.ndarray:
    """Colour table uint8 [256,3]: the colours of the classes, and dark grey for the ignore index."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    table[IGNORE_INDEX] = _IGNORED
    return table


def unnormalised(image: Tensor, pixels: PixelFormat) -> np.ndarray:
    """Convert a normalised image f32 [C,H,W] to uint8 [H,W,3]."""
    values = 255 * pixels.in_order(pixels.restored(image.cpu()))
    return displayed(values.permute(1, 2, 0).numpy())


def write_panels(
    folder: Path,
    images: Tensor,
    masks: Tensor,
    student: Tensor,
    teacher: np.ndarray | None,
    *,
    colours: Sequence[RGB],
    pixels: PixelFormat,
) -> None:
    """Write one PNG per image to ``folder``.

    Args:
        folder: Created if missing.
        images: f32 [B,C,H,W], normalised.
        masks: i64 [B,H,W].
        student: Predicted classes, integer [B,H,W].
        teacher: The teacher's; None omits its panel, and the disagreement is that with the truth.
        colours: Colours of the classes.
        pixels: Normalisation of the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = palette(colours)
    for index in range(len(images)):
        truth = masks[index].cpu().numpy()
        ours = student[index].cpu().numpy()
        panels = [unnormalised(images[index], pixels), table[truth]]
        other = truth if teacher is None else teacher[index]
        if teacher is not None:
            panels.append(table[other])
        differs = (ours != other) & (truth != IGNORE_INDEX)
        disagreement = np.where(differs[..., None], np.array([255, 60, 60], np.uint8), table[truth] // 4)
        panels += [table[ours], disagreement.astype(np.uint8)]
        gap = np.full((truth.shape[0], _GAP, 3), 255, np.uint8)
        row = [part for panel in panels for part in (panel, gap)][:-1]
        Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"{index:03d}.png")
