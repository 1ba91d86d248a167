"""Smoothing a curve that grows: a debiased exponential moving average, taken up where it stopped."""

from __future__ import annotations

import math
from collections.abc import Iterable

STRONGEST = 0.99
"""The greatest weight of the past."""


class Smoother:
    """The moving average of a curve so far; :meth:`extend` goes on from there.

    With weight ``w`` the ``n``-th value is the mean of the finite values up to it, each counting ``w`` times as much as
    the one after it. That is TensorBoard's average, ``m = w·m + (1-w)·y`` divided by ``1 - w^n``, in a form that keeps
    a constant exactly. A gap stays a gap and is skipped: the average goes on behind it as if it were not there.

    Args:
        weight: Of the past, in [0, 1); 0 changes nothing.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._mean = 0.0
        self._total = 0.0  # 1 + w + w² + …: the weights seen so far

    def extend(self, values: Iterable[float]) -> list[float]:
        """The averages at the values that come next; NaN where a value is not finite."""
        if not self.weight:
            return list(values)
        weight, mean, total = self.weight, self._mean, self._total
        smoothed: list[float] = []
        append, finite = smoothed.append, math.isfinite
        for value in values:
            if finite(value):
                total = weight * total + 1
                step = (value - mean) / total
                # The difference of two huge values of opposite sign is infinite; their weighted sum is not.
                mean = mean + step if finite(step) else mean * (1 - 1 / total) + value / total
                append(mean)
            else:
                append(math.nan)
        self._mean, self._total = mean, total
        return smoothed
