"""What a kind of data reads: an image and its labels, before augmentation, and the constants that describe them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORE_INDEX = 255
# Statistics of ImageNet, which smp's encoder weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Pixels = NDArray[np.uint8]
Values = NDArray[np.uint8] | NDArray[np.float32]


class Source(NamedTuple):
    """An image and its labels at the size of the files.

    Attributes:
        image: uint8 [h,w,C], or f32 [h,w,C] on the scale 0 to 255; contiguous; must not be modified.
        labels: uint8 [h,w], ignored pixels IGNORE_INDEX; must not be modified.
    """

    image: Values
    labels: Pixels


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


Needed = Callable[[Size], Size]
"""From the size of a picture to the smallest one that its views need."""


def seed_of(*parts: object) -> int:
    """A 63-bit seed determined by the parts alone (``hash()`` differs between processes)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
