"""Loss terms, and helpers for writing one; see CONTRIBUTING.md."""

from kdtui.engine.losses.kl import binary_pixel_kl, pixel_kl
from kdtui.engine.losses.supervised import cross_entropy, dice_per_image
from kdtui.engine.losses.term import (
    DistillationLoss,
    Labels,
    OutputLoss,
    StepShare,
    SupervisedLoss,
    at_least_f32,
    same_grid,
    valid_cells,
    z_scores,
)

__all__ = [
    "DistillationLoss",
    "Labels",
    "OutputLoss",
    "StepShare",
    "SupervisedLoss",
    "at_least_f32",
    "binary_pixel_kl",
    "cross_entropy",
    "dice_per_image",
    "pixel_kl",
    "same_grid",
    "valid_cells",
    "z_scores",
]
