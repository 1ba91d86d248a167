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
from kdtui.engine.data.survey import Survey, survey
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
    "Survey",
    "build_dataset",
    "eval_loader",
    "steps_per_epoch",
    "survey",
    "train_loader",
]


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
