"""Evaluation on a split: predictions, confusion matrix, scores, and pictures of predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from kdtui.engine.counts import class_counts
from kdtui.engine.data import IGNORE_INDEX, Batch, PixelFormat, SegmentationDataset
from kdtui.engine.data.images import displayed
from kdtui.engine.data.source import Size
from kdtui.engine.inference import Inference, Logits, resampled
from kdtui.engine.metrics import Scores, SegmentationMetrics, plain_values
from kdtui.engine.models import Outputs, inputs_of, outputs_of
from kdtui.engine.torchmetrics import Metric
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


class Predictions(NamedTuple):
    """Classes that a network predicts for a batch.

    Attributes:
        outputs: The network's outputs, with labels i64 of their size in ``masks``.
        grid: uint8 [B,H,W] of the size of the network's input, with its labels in ``grid_masks``.
        own: Those of each sample at the size of its own labels, uint8 [h,w]; None if the grid is scored.
    """

    outputs: Outputs
    masks: Tensor
    grid: Tensor
    grid_masks: Tensor
    own: list[Tensor] | None = None


class Picture(NamedTuple):
    """Images f32 [B,C,h,w], normalised, their labels and predictions, integer [B,h,w]."""

    images: Tensor
    truth: Tensor
    labels: Tensor


class Evaluation:
    """How the samples of a split are given to a network, and at which size its predictions are scored.

    Args:
        dataset: The split.
        batch_size: Largest number of windows in one forward pass.

    Attributes:
        has_own_size: Whether predictions are scored at the size of the labels of each sample.
        grid: Size of the network's input in training.
        mode: ``data.evaluation``.
        window: Size of the windows of ``slide``.
    """

    def __init__(self, dataset: SegmentationDataset, batch_size: int = 8) -> None:
        self._dataset = dataset
        self.has_own_size = dataset.scores_own_size
        self.mode = dataset.evaluation
        self.window = Size(*dataset.window)
        self._inference = Inference(self.mode, self.window, dataset.overlap, batch_size)
        self.grid = Size(*(-(-side // dataset.stride) * dataset.stride for side in (dataset.height, dataset.width)))

    def predictions(self, predict: Predict, batch: Batch, device: torch.device) -> Predictions:
        """The network's predictions for a batch of :func:`kdtui.engine.data.eval_loader`."""
        masks = batch.masks.to(device)
        if batch.truths is None:
            outputs = predict(batch.images, batch.extras)
            grid = predicted_classes(outputs)
            return Predictions(outputs, masks, grid, masks)
        if self.mode == "slide":
            height, width = batch.truths[0].shape  # one sample in a batch
            main = self.slide(lambda images: predict(images, {}).main, batch)
            outputs, masks = Outputs(main), masks[..., :height, :width]
        else:
            outputs = predict(batch.images, batch.extras)
        logits = self.at_own_size(outputs.main, batch)
        own = [one.argmax(dim=1)[0].to(torch.uint8) for one in logits]
        if self.mode == "resize":
            return Predictions(outputs, masks, predicted_classes(outputs), masks, own)
        truths = [truth.to(device) for truth in batch.truths]
        return Predictions(outputs, masks, self._on_grid(own), self._on_grid(truths).long(), own)

    def slide(self, network: Logits, batch: Batch) -> Tensor:
        """Logits [1,K,h,w] of a batch of one sample, averaged over windows, at the size of its own labels."""
        assert batch.truths is not None
        return self._inference(network, batch.images, Size(*batch.truths[0].shape))

    def at_own_size(self, logits: Tensor, batch: Batch) -> Iterator[Tensor]:
        """Logits [1,K,h,w] of each sample of a batch at the size of its own labels.

        Args:
            logits: [B,K,H,W] for ``batch.images``, of their size or of another one, or the result of :meth:`slide`.
            batch: The batch, with labels of their own size.
        """
        assert batch.truths is not None
        images = Size(*(batch.truths[0].shape if self.mode == "slide" else batch.images.shape[-2:]))
        for one, truth in zip(logits, batch.truths, strict=True):
            size = Size(*truth.shape)
            yield resampled(one[None], self._dataset.content(size), of=images, to=size)

    def picture(self, predict: Predict, batch: Batch, device: torch.device) -> Picture:
        """A batch of one sample for a picture: at the size of the network's input, or at its own if that is scored."""
        answer = self.predictions(predict, batch, device)
        if batch.truths is None or answer.own is None or self.mode == "resize":
            return Picture(batch.images, batch.masks, answer.grid)
        truth = batch.truths[0]
        height, width = truth.shape
        return Picture(batch.images[..., :height, :width], truth[None], answer.own[0][None])

    def _on_grid(self, labels: Sequence[Tensor]) -> Tensor:
        """Label maps of any size at the size of the network's input, by nearest neighbour, uint8 [B,H,W]."""
        maps = [functional.interpolate(one[None, None], self.grid, mode="nearest-exact")[0, 0] for one in labels]
        return torch.stack(maps)


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    evaluation: Evaluation,
    *,
    classes: Sequence[str],
    device: torch.device,
    metrics: Sequence[Metric] = (),
    teacher_predictions: np.ndarray | None = None,
    store: np.ndarray | None = None,
    counts: list[np.ndarray] | None = None,
    between_batches: Callable[[], None] = lambda: None,
) -> Scores:
    """Scores of a network on a split, over all ranks.

    Data with labels of their own size are scored at that size; ``miou_at_input`` is then the mIoU at the size of the
    network's input. The agreement with the teacher is that at the size of the network's input.

    Args:
        predict: Images and further inputs to outputs.
        batches: This rank's share of the split, in order.
        evaluation: Of the same split.
        classes: Class names.
        device: Device of the confusion matrix.
        metrics: Further metrics, see :meth:`kdtui.engine.network.NetworkKind.metrics`.
        teacher_predictions: uint8 [N,H,W] of the same samples, in order, for the agreement.
        store: uint8 [N,H,W] that receives the predictions at the size of the network's input, in order.
        counts: Receives for each label map i64 [3,K]: pixels of each class that are correct, predicted and true.
        between_batches: Called before each batch; may raise :class:`StopRequested`.
    """
    confusion, at_input = (SegmentationMetrics(classes, ignore_index=IGNORE_INDEX, device=device) for _ in range(2))
    further = [metric.to(device) for metric in metrics]
    first = 0
    for batch in batches:
        between_batches()
        answer = evaluation.predictions(predict, batch, device)
        last = first + len(answer.grid)
        if store is not None:
            store[first:last] = answer.grid.cpu().numpy()  # device-to-host sync
        if teacher_predictions is not None:
            theirs = torch.from_numpy(np.array(teacher_predictions[first:last])).to(device)
            confusion.compare(answer.grid, answer.grid_masks, theirs)
        scored = list(zip(answer.grid, answer.grid_masks, strict=True))
        if answer.own is not None and batch.truths is not None:
            at_input.update(answer.grid, answer.grid_masks)
            scored = [(own, truth.to(device)) for own, truth in zip(answer.own, batch.truths, strict=True)]
            for own, truth in scored:
                confusion.update(own[None], truth[None].long())
        else:
            confusion.update(answer.grid, answer.grid_masks)
        if counts is not None:
            counts += [class_counts(own, truth, len(classes)) for own, truth in scored]
        if further:
            extras = {name: value.to(device) for name, value in batch.extras.items()}
            for metric in further:
                metric.update(answer.outputs, Batch(batch.images, answer.masks, extras))
        first = last
    values = {name: value for metric in further for name, value in plain_values(metric.compute()).items()}
    if evaluation.has_own_size:
        values["miou_at_input"] = at_input.scores().miou
    return dataclasses.replace(confusion.scores(), metrics=values)


_IGNORED = np.array([30, 30, 30], np.uint8)
_GAP = 2
_SEEN_THROUGH = 0.3  # share of the image in what is coloured
_DARKENED = 0.4


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


def _coloured(labels: np.ndarray, table: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """Labels [H,W] in the colours of a table, over a grey image [H,W,1] if there is one; uint8 [H,W,3]."""
    if image is None:
        flat: np.ndarray = table[labels]
        return flat
    mixed = (1 - _SEEN_THROUGH) * table[labels] + _SEEN_THROUGH * image
    over: np.ndarray = np.where((labels > 0)[..., None], mixed, _DARKENED * image).astype(np.uint8)
    return over


def write_panels(
    folder: Path,
    images: Sequence[Tensor] | Tensor,
    masks: Sequence[Tensor] | Tensor,
    student: Sequence[Tensor] | Tensor,
    teacher: Sequence[np.ndarray] | np.ndarray | None,
    *,
    colours: Sequence[RGB],
    pixels: PixelFormat,
    overlay: bool = False,
) -> None:
    """Write one PNG per image to ``folder``.

    Args:
        folder: Created if missing.
        images: f32 [C,H,W] each, normalised.
        masks: integer [H,W] each.
        student: Predicted classes, integer [H,W] each.
        teacher: The teacher's; None omits its panel, and the disagreement is that with the truth.
        colours: Colours of the classes.
        pixels: Normalisation of the images.
        overlay: Whether the colours are laid over the image, which is darker where the number is 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = palette(colours)
    for index in range(len(images)):
        truth = masks[index].cpu().numpy()
        ours = student[index].cpu().numpy()
        image = unnormalised(images[index], pixels)
        # In grey, so that colours remain those of the numbers.
        ground = image.mean(axis=2, keepdims=True) if overlay else None
        panels = [image, _coloured(truth, table, ground)]
        other = truth if teacher is None else teacher[index]
        if teacher is not None:
            panels.append(_coloured(other, table, ground))
        differs = (ours != other) & (truth != IGNORE_INDEX)
        dark = _coloured(truth, table, ground) // 4
        disagreement = np.where(differs[..., None], np.array([255, 60, 60], np.uint8), dark)
        panels += [_coloured(ours, table, ground), disagreement.astype(np.uint8)]
        gap = np.full((truth.shape[0], _GAP, 3), 255, np.uint8)
        row = [part for panel in panels for part in (panel, gap)][:-1]
        Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"{index:03d}.png")
