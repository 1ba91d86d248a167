"""Number of pixels of each class in all training labels, counted once per run store, and which samples have it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from kdtui.engine.data import SegmentationDataset
from kdtui.engine.ranks import reduced
from kdtui.errors import StoreError
from kdtui.profile import DataTable
from kdtui.store.files import reading, write_atomically
from kdtui.store.values import parse_json

_THREADS = 8
_MOST_BYTES = 1 << 16


def label_counts(dataset: SegmentationDataset, data: DataTable, folder: Path, fabric: Fabric) -> list[int]:
    """Count the pixels of each class, without ignored ones; every rank reads a part. A collective.

    Args:
        dataset: The training split.
        data: Its table in the profile.
        folder: ``runs/.cache/labels``.
        fabric: The ranks.

    Raises:
        DataError: A mask cannot be used.
    """
    settings = json.dumps([1, data.model_dump(mode="json"), data.fingerprint("train"), dataset.classes])
    file = folder / f"{hashlib.sha256(settings.encode()).hexdigest()[:24]}.json"
    rank, world_size = fabric.global_rank, fabric.world_size
    kept = fabric.broadcast(_read(file, len(dataset.classes)) if rank == 0 else None)
    if kept is not None:
        return list(kept)
    first, last = (len(dataset) * part // world_size for part in (rank, rank + 1))

    def count(index: int) -> np.ndarray:
        return np.bincount(dataset.labels(index).ravel(), minlength=256)[: len(dataset.classes)]

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        own = sum(pool.map(count, range(first, last)), np.zeros(len(dataset.classes), np.int64))
    counts = [int(total) for total in reduced(fabric, torch.from_numpy(own).to(fabric.device), "sum").tolist()]
    if rank == 0:
        # Without space for the file, the next run counts again.
        with contextlib.suppress(StoreError, OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(counts).encode())
    return counts


def class_presence(dataset: SegmentationDataset, fabric: Fabric) -> NDArray[np.bool_]:
    """Whether each sample contains each class, [N,C]; every rank reads a part. A collective.

    Raises:
        DataError: A mask cannot be used.
    """
    present = np.zeros((len(dataset), len(dataset.classes)), np.uint8)

    def look(index: int) -> None:
        present[index] = np.bincount(dataset.labels(index).ravel(), minlength=256)[: len(dataset.classes)] > 0

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(look, range(fabric.global_rank, len(dataset), fabric.world_size)))
    whole: NDArray[np.bool_] = reduced(fabric, torch.from_numpy(present).to(fabric.device), "sum").cpu().numpy() > 0
    return whole


def _read(file: Path, classes: int) -> list[int] | None:
    """The cached counts; None if the file is missing or damaged."""
    try:
        with reading(file) as opened:
            counts = parse_json(opened.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    usable = isinstance(counts, list) and len(counts) == classes and all(type(count) is int for count in counts)
    return counts if usable and min(counts) >= 0 < sum(counts) else None
