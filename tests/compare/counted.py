"""Pixel counts per image of runs that were never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kdtui.compare.bootstrap import Counts
from kdtui.store.run import Run

CLASSES = ("road", "sky", "rare")


def made(seed: int, *, images: int = 40, skill: float = 0.8, truth: int = 0) -> Counts:
    """Counts of a network that predicts a share ``skill`` of the pixels; images are those of the seed ``truth``."""
    drawn, scene = np.random.default_rng([seed, 1]), np.random.default_rng([truth, 0])
    true = scene.integers(0, 400, (images, len(CLASSES)))
    true[: images // 2, 2] = 0  # a class that half of the images do not have
    correct = drawn.binomial(true, np.clip(scene.normal(skill, 0.1, (images, 1)), 0, 1))
    wrong = (true - correct).sum(axis=1, keepdims=True)
    predicted = correct + drawn.multinomial(wrong[:, 0], [0.5, 0.4, 0.1])
    names = np.array([f"frame {index:03}" for index in range(images)])
    return Counts(names, names, "images", CLASSES, np.stack([correct, predicted, true], axis=1))


def scored(miou: float, seed: int, *, images: int = 100, classes: tuple[str, ...] = CLASSES) -> Counts:
    """Counts whose mIoU is ``miou``; images differ by ``seed``, and classes a little."""
    size, names = 10**6, np.array([f"frame {index:03}" for index in range(images)])
    iou = miou + 0.02 * np.linspace(-1, 1, len(classes)) * np.sin(seed)
    own = np.random.default_rng(seed).normal(0, 0.05 * size, (images // 2, len(classes)))
    correct = np.rint(2 * iou / (1 + iou) * size + np.concatenate([own, -own])).clip(0, size).astype(np.int64)
    true = np.full_like(correct, size)
    return Counts(names, names, "images", classes, np.stack([correct, true, true], axis=1))


def written(counts: Counts, run: Run, split: str = "val", /, **changes: Any) -> Path:
    """The counts as the engine keeps them with a run, with changed entries; an entry of None is left out."""
    path = run.counts(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {
        "version": np.array(1),
        "samples": counts.samples,
        "units": counts.units,
        "over": np.array(counts.over),
        "classes": np.array(counts.classes),
        "counts": counts.pixels,
    }
    with path.open("wb") as file:
        np.savez_compressed(file, **{key: value for key, value in (entries | changes).items() if value is not None})
    return path
