"""Terms of the loss. To add one: a table in ``kdtui/profile/term_tables.py`` that names a class of this package."""

from kdtui.engine.losses.kl import binary_pixel_kl, pixel_kl
from kdtui.engine.losses.supervised import cross_entropy, dice_per_image
from kdtui.engine.losses.term import DistillationLoss, Labels, StepShare, SupervisedLoss

__all__ = [
    "DistillationLoss",
    "Labels",
    "StepShare",
    "SupervisedLoss",
    "binary_pixel_kl",
    "cross_entropy",
    "dice_per_image",
    "pixel_kl",
]
