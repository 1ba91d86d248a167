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
