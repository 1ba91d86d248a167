"""Supervised and distillation losses: tensors in, sums over pixels out.

Every pixel term takes ``valid_pixels``, the number its sum is divided by. The training loop passes the valid pixels of
the whole optimizer step, over all micro-batches and ranks, so that accumulation and DDP change nothing.
"""

from kdtui.engine.losses.distillation import binary_pixel_kl, pixel_kl
from kdtui.engine.losses.supervised import cross_entropy, dice_per_image

__all__ = ["binary_pixel_kl", "cross_entropy", "dice_per_image", "pixel_kl"]
