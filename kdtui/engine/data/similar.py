"""Perceptual hashes of images, and the pairs of images whose hashes are nearly equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kdtui.engine.data.source import Values

NEAR = 4
"""Largest number of different bits of 64 between hashes of nearly equal images."""
_SIDE = 32
_CORNER = 8
_LEAST_DEVIATION = 2.0
"""Standard deviation of grey values below which an image has no structure to compare."""
_BANDS = NEAR + 1
_BAND_BITS = -(-64 // _BANDS)
_MOST_IN_BAND = 2000


def perceptual_hash(image: Values) -> int | None:
    """A hash of 64 bits that changes little with size, compression and brightness; None for an image without structure.

    The signs, relative to their median, of the lowest frequencies of the cosine transform of the image at 32x32
    (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions").

    Args:
        image: [h,w,C] on the scale 0 to 255.
    """
    small = cv2.resize(np.asarray(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = small if small.ndim == 2 else small[..., :3].mean(axis=-1)
    if grey.std() < _LEAST_DEVIATION:
        return None
    frequencies: NDArray[Any] = cv2.dct(np.ascontiguousarray(grey))[:_CORNER, :_CORNER].ravel()
    bits = frequencies > np.median(frequencies[1:])  # without the mean brightness
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(hashes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Positions of the pairs of hashes that differ in at most :data:`NEAR` bits, each once, the smaller first.

    Two such hashes agree in at least one of ``NEAR + 1`` bands of bits, so only hashes with an equal band are compared.
    Of more than 2000 hashes with an equal band, each is compared with the next 2000 only.
    """
    seen: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        alike: dict[int, list[int]] = defaultdict(list)
        for position, value in enumerate(hashes):
            alike[value >> (band * _BAND_BITS) & (1 << _BAND_BITS) - 1].append(position)
        for members in alike.values():
            if len(members) < 2:
                continue
            values = np.array([hashes[position] for position in members], dtype=np.uint64)
            for at, position in enumerate(members):
                others = slice(at + 1, at + 1 + _MOST_IN_BAND)
                different = np.bitwise_count(values[others] ^ values[at])
                for offset in np.flatnonzero(different <= NEAR):
                    pair = position, members[at + 1 + int(offset)]
                    if pair not in seen:
                        seen.add(pair)
                        yield pair
