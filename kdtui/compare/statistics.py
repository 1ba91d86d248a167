"""Confidence intervals of differences of mIoU over seeds, and the words for them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kdtui.text import signed

COVERAGE = 0.95
_NOISE = "within noise"


@dataclass(frozen=True)
class Interval:
    """A difference to the baseline with its 95 % confidence interval.

    Attributes:
        delta: The difference; positive if the run is better than its baseline.
        n: Number of seeds, or of resampled images or clips.
        over: What was repeated: ``seeds``, or what was resampled: ``images`` or ``clips``.
    """

    delta: float
    low: float
    high: float
    n: int
    over: Literal["seeds", "images", "clips"]

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``within noise``: on which side of the interval 0 is."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else _NOISE

    @property
    def limits(self) -> str:
        """Its lower and upper limit."""
        return f"[{signed(self.low)}, {signed(self.high)}]"

    @property
    def short(self) -> str:
        """As :attr:`text`, but for one line of a terminal."""
        return f"Δ {signed(self.delta)} {self.limits}, {self.n} {self.over}: {self.verdict}"

    @property
    def text(self) -> str:
        """The interval in words, as in ``Δ +0.0041, 95 % [-0.0020, +0.0103] over 3 seeds: within noise``."""
        limits = f"{COVERAGE * 100:.0f} % {self.limits}"
        scope = "" if self.over == "seeds" else f" for these {self.over}; other seeds not covered"
        verdict = self.verdict if self.verdict == _NOISE else f"{self.verdict} than the baseline"
        return f"Δ {signed(self.delta)}, {limits} over {self.n} {self.over}: {verdict}{scope}"


def over_seeds(deltas: Sequence[float]) -> Interval | None:
    """The mean of differences paired by seed with its t-interval; None for fewer than two seeds."""
    n = len(deltas)
    if n < 2:
        return None
    mean = statistics.fmean(deltas)
    half = t_quantile(COVERAGE, n - 1) * statistics.stdev(deltas) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, "seeds")


def t_quantile(coverage: float, freedom: int) -> float:
    """The ``t`` for which Student's distribution has the probability ``coverage`` between -t and t.

    Bisection of the closed form for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).

    Args:
        coverage: In (0, 1).
        freedom: Degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    while high - low > 1e-15:
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, freedom) < coverage else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Probability of ``|T| < sqrt(freedom) tan(angle)``."""
    odd = freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power + 1) / (power + 2)
    area = math.sin(angle) * total
    return 2 / math.pi * (angle + area) if odd else area
