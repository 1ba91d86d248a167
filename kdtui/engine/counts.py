"""Pixel counts of each image, from which scores of any selection of images follow."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX, SegmentationDataset, evaluated_indices

VERSION = 1


def class_counts(predictions: Tensor, labels: Tensor, classes: int) -> np.ndarray:
    """Pixels of each class that are correct, predicted and true, i64 [3,K]; ignored pixels are not counted.

    Args:
        predictions: integer [H,W].
        labels: integer [H,W] with the ignore index.
        classes: Number of classes K.
    """
    # Ignored pixels are a pair of their own: removing them beforehand takes four times as long.
    pairs = torch.where(labels != IGNORE_INDEX, labels.long() * classes + predictions, classes**2)
    confusion = torch.bincount(pairs.flatten(), minlength=classes**2 + 1)[:-1].view(classes, classes)
    table: np.ndarray = torch.stack([confusion.diag(), confusion.sum(0), confusion.sum(1)]).cpu().numpy()
    return table


def counts_file(dataset: SegmentationDataset, counts: Sequence[np.ndarray], limit: int | None = None) -> bytes:
    """The counts of each label map of an evaluation as an ``.npz`` file.

    ``counts`` is i64 [N,3,K]: pixels of each class that are correct, predicted and true; ``samples`` [N] are the names
    of their samples, ``units`` [N] those of what is drawn together in a bootstrap, ``over`` says what the units are,
    and ``classes`` [K] are the names of the classes.

    Args:
        dataset: The split.
        counts: As :func:`kdtui.engine.evaluate.evaluate` returns them, of all ranks in order.
        limit: Number of evaluated samples; by default all.
    """
    indices = [index for index in evaluated_indices(dataset, limit) for _ in range(dataset.label_maps(index))]
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        version=np.array(VERSION),
        samples=np.array([dataset.name(index) for index in indices], np.str_),
        units=np.array([dataset.unit(index) for index in indices], np.str_),
        over=np.array(dataset.resampled),
        classes=np.array(dataset.classes, np.str_),
        counts=np.stack(counts) if counts else np.zeros((0, 3, len(dataset.classes)), np.int64),
    )
    return buffer.getvalue()
