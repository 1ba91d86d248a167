"""Images with rare classes are drawn more often: weights of images, and the order of an epoch that follows from them.

An image has the repeat factor of LVIS (Gupta et al. 2019, arXiv:1908.03195, with the threshold t = 1)::

    w(image) = max over its classes c of 1 / sqrt(share of the images that contain c)

and occurs ``N w / sum(w)`` times in an epoch of N samples, rounded up or down at random (systematic resampling).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def image_weights(presence: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weight [N] of each image, at least 1.

    Args:
        presence: Whether an image contains a class, [N,C].
    """
    shares = np.maximum(presence.mean(axis=0), 1 / len(presence))
    weights: NDArray[np.float64] = np.where(presence, shares**-0.5, 1.0).max(axis=1, initial=1.0)
    return weights


def weighted_order(weights: NDArray[np.float64], rng: np.random.Generator) -> list[int]:
    """N numbers of samples in random order, of which each occurs in proportion to its weight."""
    count = len(weights)
    ends = weights.cumsum()
    places = (rng.random() + np.arange(count)) * (ends[-1] / count)
    drawn = np.minimum(np.searchsorted(ends, places, side="right"), count - 1)
    order: list[int] = rng.permutation(drawn).tolist()
    return order
