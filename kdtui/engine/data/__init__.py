"""Datasets with a common interface; the table of a profile names the class of its dataset."""

from __future__ import annotations

from kdtui import plugins
from kdtui.engine.data.loading import Batches, eval_loader, evaluated_indices, steps_per_epoch, train_loader
from kdtui.engine.data.pixel_format import PixelFormat, format_of, needs_statistics, statistics_of
from kdtui.engine.data.protocol import PICTURE_LABELS, SPLITS, Batch, Sample, SegmentationDataset, picture_labels
from kdtui.engine.data.source import IGNORE_INDEX, MEAN, STD, Source
from kdtui.engine.data.survey import Survey, survey
from kdtui.engine.data.unlabelled import UnlabelledImages
from kdtui.errors import DataError, UsageError
from kdtui.profile import DataTable
from kdtui.profile.region_keys import HIERARCHICAL_CLASSES

__all__ = [
    "HIERARCHICAL_CLASSES",
    "IGNORE_INDEX",
    "MEAN",
    "PICTURE_LABELS",
    "SPLITS",
    "STD",
    "Batch",
    "Batches",
    "PixelFormat",
    "Sample",
    "SegmentationDataset",
    "Source",
    "Survey",
    "UnlabelledImages",
    "build_dataset",
    "build_unlabelled",
    "eval_loader",
    "evaluated_indices",
    "picture_labels",
    "pixel_format",
    "steps_per_epoch",
    "survey",
    "train_loader",
    "with_statistics",
]


def build_dataset(data: DataTable, split: str, *, stride: int = 32, seed: int = 0) -> SegmentationDataset:
    """Build the dataset of a split.

    Args:
        data: The table ``[data]`` of the profile.
        split: ``train``, ``val`` or ``test``; only ``train`` is augmented.
        stride: Height and width are padded to a multiple of this.
        seed: Seed of the augmentation, unless ``data.view_seed`` is set.

    Raises:
        DataError: The data cannot be used.
        UsageError: The kind of data cannot be imported.
    """
    if split not in SPLITS:
        raise DataError("no such split", found=split, allowed=", ".join(SPLITS))
    data = with_statistics(data)
    build = plugins.imported(data.builder)
    dataset = build(data, split, stride=stride, seed=seed if data.view_seed is None else data.view_seed)
    if not isinstance(dataset, SegmentationDataset):
        raise UsageError(
            "this extension does not return a dataset",
            where=data.builder,
            found=type(dataset).__name__,
            allowed="a kdtui.engine.data.SegmentationDataset",
            hint="`kdtui doctor` lists the installed extensions",
        )
    return dataset


def build_unlabelled(data: DataTable, train_set: SegmentationDataset) -> UnlabelledImages | None:
    """The images without labels of ``[data.unlabelled]``; None without that table.

    Args:
        data: The table ``[data]`` of the profile.
        train_set: The training split.

    Raises:
        DataError: There are none.
    """
    if data.unlabelled is None:
        return None
    data = with_statistics(data)
    return UnlabelledImages(
        data, train_set, lambda other: build_dataset(other, "train", stride=train_set.stride, seed=train_set.seed)
    )


def with_statistics(data: DataTable) -> DataTable:
    """The table with numbers in place of ``dataset`` as ``mean`` and ``std``, from the training images.

    Raises:
        DataError: An image cannot be read.
    """
    if not needs_statistics(data):
        return data
    key = data.model_dump_json(exclude={"augmentation", "views", "view_seed", "height", "width", "unlabelled"})
    if key not in _STATISTICS:
        plain = {key: None for key in ("mean", "std") if getattr(data, key) == "dataset"}
        train_set = build_dataset(data.model_copy(update=plain), "train")
        _STATISTICS[key] = statistics_of(data, len(train_set), lambda index: train_set.read(index).image)
    return data.model_copy(update=_STATISTICS[key])


def pixel_format(data: DataTable) -> PixelFormat:
    """How images of a profile are given to a network.

    Raises:
        DataError: Statistics are to be computed, and an image cannot be read.
    """
    return format_of(with_statistics(data))


_STATISTICS: dict[str, dict[str, tuple[float, ...]]] = {}
"""Computed in this process, by the table of the data."""
