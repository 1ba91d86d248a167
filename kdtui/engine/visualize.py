"""Pictures of what a student sees: image | truth | teacher | student | disagreement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX, MEAN, STD
from kdtui.palette import RGB

_IGNORED = np.array([30, 30, 30], np.uint8)
_GAP = 2


def palette(colours: Sequence[RGB]) -> np.ndarray:
    """uint8 [256,3]: the colours of the classes, and nearly black for the ignore index."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    table[IGNORE_INDEX] = _IGNORED
    return table


def unnormalised(image: Tensor) -> np.ndarray:
    """uint8 [H,W,3] of a normalised f32 [3,H,W]."""
    pixels = image.permute(1, 2, 0).cpu().numpy() * np.array(STD) + np.array(MEAN)
    rounded: np.ndarray = (np.clip(pixels, 0.0, 1.0) * 255).round().astype(np.uint8)
    return rounded


def write_panels(
    folder: Path, images: Tensor, masks: Tensor, student: Tensor, teacher: np.ndarray | None, *, colours: Sequence[RGB]
) -> None:
    """One PNG per image into ``folder``.

    Args:
        folder: Made when missing.
        images: f32 [B,3,H,W], normalised.
        masks: i64 [B,H,W].
        student: Predicted classes, integer [B,H,W].
        teacher: The teacher's, or None: its panel is left out, and disagreement is with the truth.
        colours: Of the classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = palette(colours)
    for index in range(len(images)):
        truth = masks[index].cpu().numpy()
        ours = student[index].cpu().numpy()
        panels = [unnormalised(images[index]), table[truth]]
        other = truth if teacher is None else teacher[index]
        if teacher is not None:
            panels.append(table[other])
        differs = (ours != other) & (truth != IGNORE_INDEX)
        disagreement = np.where(differs[..., None], np.array([255, 60, 60], np.uint8), table[truth] // 4)
        panels += [table[ours], disagreement.astype(np.uint8)]
        gap = np.full((truth.shape[0], _GAP, 3), 255, np.uint8)
        row = [part for panel in panels for part in (panel, gap)][:-1]
        Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"{index:03d}.png")
