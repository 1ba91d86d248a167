"""The dataset of an ``.npz`` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kdtui.engine.data import SegmentationDataset, Source
from kdtui.engine.data.protocol import limited
from kdtui.errors import DataError

from .tables import ArchiveData


class Archive(SegmentationDataset):
    """Images uint8 [N,H,W,3] and masks uint8 [N,H,W] of one split."""

    def __init__(self, data: ArchiveData, split: str, **options: Any) -> None:
        try:
            with np.load(data.archive, allow_pickle=False) as arrays:
                self._images, self._masks = arrays[f"{split}_images"], arrays[f"{split}_masks"]
        except (OSError, ValueError, KeyError) as error:
            hint = "--set data.archive=FILE"
            raise DataError("the archive cannot be read", where=data.archive, found=str(error), hint=hint) from error
        self._chosen = limited(len(self._images), data.train_limit if split == "train" else None, 0)
        self._archive = Path(data.archive)
        super().__init__(data, split, classes=data.classes, count=len(self._chosen), **options)

    def read(self, index: int) -> Source:
        """One image and its mask."""
        place = self._chosen[index]
        return Source(self._images[place], self._masks[place])

    def extras(self, image: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """The mean of the image."""
        return {"brightness": image.mean()}

    def describe(self) -> str:
        """Number of images."""
        return f"{len(self)} images of {self._archive.name}"
