"""Datasets behind one protocol: synthetic people, COCO person crops, folders of label images."""

from __future__ import annotations

from kdtui.engine.data.augment import OVERSIZE, Augment
from kdtui.engine.data.coco import PersonCrops
from kdtui.engine.data.folder import LabelFolder
from kdtui.engine.data.loading import Batches, eval_loader, steps_per_epoch, train_loader
from kdtui.engine.data.protocol import (
    HIERARCHICAL_CLASSES,
    IGNORE_INDEX,
    MEAN,
    SPLITS,
    STD,
    Batch,
    Sample,
    SegmentationDataset,
)
from kdtui.engine.data.synthetic import SyntheticPeople
from kdtui.errors import DataError
from kdtui.profile import CocoData, Data, FolderData

__all__ = [
    "HIERARCHICAL_CLASSES",
    "IGNORE_INDEX",
    "MEAN",
    "SPLITS",
    "STD",
    "Batch",
    "Batches",
    "Sample",
    "SegmentationDataset",
    "build_dataset",
    "check_dataset",
    "eval_loader",
    "steps_per_epoch",
    "train_loader",
]

_CHECKED = 8  # samples that a pre-flight reads: enough to find a wrong folder or class list, quick on any disk


def build_dataset(data: Data, split: str, *, stride: int = 32, seed: int = 0) -> SegmentationDataset:
    """The samples of one split.

    Args:
        data: What the profile says.
        split: ``train``, ``val`` or ``test``; only ``train`` is augmented.
        stride: Height and width are padded to a multiple of this.
        seed: Seed of the augmentation.
    """
    if split not in SPLITS:
        raise DataError("no such split", found=split, allowed=", ".join(SPLITS))
    level = data.augmentation if split == "train" else "none"
    augmentation = None if level == "none" else Augment(level, data.task, data.height, data.width)
    oversize = OVERSIZE[level]
    if isinstance(data, FolderData):
        return LabelFolder(data, split, stride=stride, seed=seed, augmentation=augmentation, oversize=oversize)
    if isinstance(data, CocoData):
        return PersonCrops(data, split, stride=stride, seed=seed, augmentation=augmentation, oversize=oversize)
    return SyntheticPeople(data, split, stride=stride, seed=seed, augmentation=augmentation, oversize=oversize)


def check_dataset(data: Data, split: str) -> str:
    """Read a few samples spread over the split, and say in a few words what it holds.

    Raises:
        DataError: The split cannot be used.
    """
    dataset = build_dataset(data, split)
    count = min(_CHECKED, len(dataset))
    for position in range(count):
        dataset[position * (len(dataset) - 1) // max(1, count - 1), 0]
    return dataset.describe()
