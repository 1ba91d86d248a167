"""Pictures of what a student sees: image | truth | teacher | student | disagreement."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from kdtui.engine.data import IGNORE_INDEX, MEAN, STD

_GREY = np.array([90, 90, 90], np.uint8)
_GAP = 2


def palette(classes: int) -> np.ndarray:
    """uint8 [256,3]: background black, the others evenly around the colour circle, the ignore index grey."""
    colours = np.zeros((256, 3), np.uint8)
    for index in range(1, classes):
        hue = colorsys.hsv_to_rgb((index - 1) / max(1, classes - 1) + 0.33, 0.75, 1.0)
        colours[index] = [round(255 * part) for part in hue]
    colours[IGNORE_INDEX] = _GREY
    return colours


def unnormalised(image: Tensor) -> np.ndarray:
    """uint8 [H,W,3] of a normalised f32 [3,H,W]."""
    pixels = image.permute(1, 2, 0).cpu().numpy() * np.array(STD) + np.array(MEAN)
    rounded: np.ndarray = (np.clip(pixels, 0.0, 1.0) * 255).round().astype(np.uint8)
    return rounded


def write_panels(
    folder: Path, images: Tensor, masks: Tensor, student: Tensor, teacher: np.ndarray | None, *, classes: int
) -> None:
    """One PNG per image into ``folder``.

    Args:
        folder: Made when missing.
        images: f32 [B,3,H,W], normalised.
        masks: i64 [B,H,W].
        student: Predicted classes, integer [B,H,W].
        teacher: The teacher's, or None: its panel is left out, and disagreement is with the truth.
        classes: How many there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    colours = palette(classes)
    for index in range(len(images)):
        truth = masks[index].cpu().numpy()
        ours = student[index].cpu().numpy()
        panels = [unnormalised(images[index]), colours[truth]]
        other = truth if teacher is None else teacher[index]
        if teacher is not None:
            panels.append(colours[other])
        differs = (ours != other) & (truth != IGNORE_INDEX)
        disagreement = np.where(differs[..., None], np.array([255, 60, 60], np.uint8), colours[truth] // 4)
        panels += [colours[ours], disagreement.astype(np.uint8)]
        gap = np.full((truth.shape[0], _GAP, 3), 255, np.uint8)
        row = [part for panel in panels for part in (panel, gap)][:-1]
        Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"{index:03d}.png")
