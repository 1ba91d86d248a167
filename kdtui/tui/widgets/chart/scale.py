"""Axes: round ends, ticks at multiples of 1-2-5 steps, labels that fit, and a range that stays stable."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

HUGEST = sys.float_info.max
FLAT = 1e-10
"""A span this small relative to its values is drawn as a constant: labels could not distinguish its ends."""
SHRINK = 0.4
"""A held range is replaced when the data cover less than this share of it."""
FAR = 10**6
"""Limit of dot rows: far outside the plot, and still exact in a float."""
_LEAST_LOG = 1e-298
_ENDS = (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


class TickStep(NamedTuple):
    """The distance ``mantissa · 10**exponent`` between ticks, with a mantissa of 1, 2 or 5."""

    mantissa: int
    exponent: int

    def times(self, count: int) -> float:
        """The float nearest to ``count`` steps, infinite on overflow."""
        whole = count * self.mantissa
        try:
            return whole / 10**-self.exponent if self.exponent < 0 else float(whole * 10**self.exponent)
        except OverflowError:
            return math.copysign(math.inf, whole)

    def coarser(self) -> TickStep:
        """The next step of the sequence 1, 2, 5, 10."""
        return {1: TickStep(2, self.exponent), 2: TickStep(5, self.exponent), 5: TickStep(1, self.exponent + 1)}[
            self.mantissa
        ]

    def below(self, value: float) -> int:
        """The greatest count whose multiple is not above ``value``."""
        top, bottom = float(value).as_integer_ratio()
        power: int = 10 ** abs(self.exponent)
        count = (
            top * power // (bottom * self.mantissa) if self.exponent < 0 else top // (bottom * self.mantissa * power)
        )
        # The float 0.3 is slightly less than three tenths, but means them.
        return count + 1 if self.times(count + 1) <= value else count

    def above(self, value: float) -> int:
        """The least count whose multiple is not below ``value``."""
        count = self.below(value)
        return count if self.times(count) == value else count + 1


def step_of(distance: float, integer: bool = False) -> TickStep:
    """The least 1-2-5 step that is not below ``distance`` > 0; at least 1 on an integer axis."""
    if integer and distance <= 1:
        return TickStep(1, 0)
    step = TickStep(1, math.floor(math.log10(distance)) if distance > 0 else -324)
    while step.times(1) < distance * (1 - 1e-9) or not step.times(1):
        step = step.coarser()
    return step


@dataclass(frozen=True)
class Axis:
    """A range with its ticks.

    Attributes:
        low: Lower end, below ``high``.
        high: Upper end.
        ticks: Positions of the labels, ascending, within the ends.
        labels: One per tick.
        log: Whether the axis is logarithmic; then ``low`` > 0.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    log: bool = False

    def placer(self, rows: int) -> Callable[[float], int]:
        """Function from a finite value (> 0 if ``log``) to its row: 0 at ``low``, ``rows - 1`` at ``high``."""
        top = rows - 1
        if self.log:
            log = math.log10
            low, span = log(self.low), log(self.high) - log(self.low)

            def place(value: float) -> int:
                return math.floor((log(value) - low) / span * top + 0.5)

        else:
            low = self.low
            span = self.high - low
            scale = 1.0
            if span > HUGEST:
                scale, low, span = 0.5, low / 2, self.high / 2 - low / 2

            def place(value: float) -> int:
                return math.floor(min(max((value * scale - low) / span * top, -FAR), FAR) + 0.5)

        return place


def linear_axis(low: float, high: float, *, intervals: int, room: int, integer: bool = False) -> Axis:
    """An axis whose ends are multiples of a 1-2-5 step.

    Args:
        low: Least value to show.
        high: Greatest value to show, not below ``low``.
        intervals: Greatest number of steps between the ends.
        room: Greatest number of labels, at least 2.
        integer: Whether ticks are integers.
    """
    low, high = widened(low, high, integer)
    intervals = max(intervals, 2)
    step = step_of(high / intervals - low / intervals, integer)
    while (last := step.above(high)) - (first := step.below(low)) > intervals:
        step = step.coarser()
    low, high = max(step.times(first), -HUGEST), min(step.times(last), HUGEST)
    ticks, spacing = linear_ticks(low, high, step, room)
    if len(ticks) < 2:  # the multiples around the greatest floats overflow
        ticks = (low, high)
    return Axis(low, high, ticks, labels(ticks, spacing))


def linear_ticks(low: float, high: float, step: TickStep, room: int) -> tuple[tuple[float, ...], TickStep]:
    """At most ``room`` ticks between the ends: multiples of a 1-2-5 step not below ``step``.

    If that gives less than two, the outermost multiples of ``step`` itself: a scale needs two labels.

    Returns:
        The ticks, and the step of which they are multiples.
    """
    spacing = step
    while spacing.below(high) - spacing.above(low) >= max(room, 2):
        spacing = spacing.coarser()
    counts: Sequence[int] = range(spacing.above(low), spacing.below(high) + 1)
    if len(counts) < 2:
        spacing, counts = step, sorted({step.above(low), step.below(high)})
    return tuple(tick for count in counts if low <= (tick := spacing.times(count)) <= high), spacing


def log_axis(low: float, high: float, *, intervals: int, room: int) -> Axis:
    """A logarithmic axis.

    Its ends are powers of ten; up to three decades 1-2-5 values, below half a decade the ends of a linear axis.

    Args:
        low: Least value to show, above 0.
        high: Greatest value to show, not below ``low``.
        intervals: Greatest number of steps between the ends, if the ends are round numbers.
        room: Greatest number of labels, at least 2.
    """
    room = max(room, 2)
    low, high = _log_widened(low, high)
    decades = math.log10(high) - math.log10(low)
    if decades < 0.5:
        linear = linear_axis(low, high, intervals=intervals, room=room)
        if linear.low > 0:
            return Axis(linear.low, linear.high, linear.ticks, linear.labels, log=True)
    fine = decades <= 3
    low, high = _rounder(low, fine, up=False), _rounder(high, fine, up=True)
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    tens = [TickStep(1, exponent).times(1) for exponent in range(first, last + 1)]
    every = [TickStep(mantissa, exponent).times(1) for exponent in range(first, last + 1) for mantissa in (1, 2, 5)]
    choices = [every, tens] if fine else [tens]
    stride = step_of(len(tens) / room, integer=True)
    choices += [[ten for ten, power in zip(tens, range(first, last + 1), strict=True) if not power % stride.times(1)]]
    for choice in choices:
        ticks = tuple(tick for tick in choice if low <= tick <= high)
        if 2 <= len(ticks) <= room:
            break
    else:
        ticks = (low, high)
    return Axis(low, high, ticks, _log_labels(ticks), log=True)


def _rounder(value: float, fine: bool, *, up: bool) -> float:
    """The nearest power of ten, or 1-2-5 value if ``fine``, on one side of ``value``."""
    exponent = math.floor(math.log10(value))
    candidates = [
        candidate
        for power in range(exponent - 1, exponent + 3)
        for mantissa in ((1, 2, 5) if fine else (1,))
        if 0 < (candidate := TickStep(mantissa, power).times(1)) <= HUGEST
    ]
    if up:
        return min((candidate for candidate in candidates if candidate >= value), default=HUGEST)
    return max((candidate for candidate in candidates if candidate <= value), default=value)


def widened(low: float, high: float, integer: bool = False) -> tuple[float, float]:
    """The range, extended on both sides if it is practically constant."""
    greatest = max(abs(low), abs(high))
    if high / 2 - low / 2 > greatest * FLAT / 2:
        return low, high
    middle = low / 2 + high / 2
    pad = greatest * 0.1
    if pad < 1e-300:
        middle, pad = 0.0, 1.0
    if integer:
        pad = max(math.ceil(pad), 1)
    return max(middle - pad, -HUGEST), min(middle + pad, HUGEST)


def _log_widened(low: float, high: float) -> tuple[float, float]:
    if low < _LEAST_LOG:  # too close to zero to be extended downwards
        low, high = math.ulp(0.0), max(high, 10 * _LEAST_LOG)
    return widened(low, high)


class HeldRange:
    """Fits an axis to changing data, and keeps it while the data are inside it and fill enough of it."""

    def __init__(self) -> None:
        self._axis: Axis | None = None
        self._settings: tuple[int, int, bool, bool] | None = None

    def forget(self) -> None:
        """Discard the axis: the next call of :meth:`fit` makes a new one."""
        self._axis = None

    def fit(self, low: float, high: float, *, intervals: int, room: int, log: bool, integer: bool) -> Axis:
        """An axis for data from ``low`` to ``high``: see :func:`linear_axis` and :func:`log_axis`."""
        settings = (intervals, room, log, integer)
        if self._axis is None or settings != self._settings or not self._serves(self._axis, low, high):
            self._settings = settings
            if log:
                self._axis = log_axis(low, high, intervals=intervals, room=room)
            else:
                self._axis = linear_axis(low, high, intervals=intervals, room=room, integer=integer)
        return self._axis

    @staticmethod
    def _serves(axis: Axis, low: float, high: float) -> bool:
        if low < axis.low or high > axis.high:
            return False
        if axis.log:
            low, high = _log_widened(low, high)
            return math.log10(high) - math.log10(low) >= SHRINK * (math.log10(axis.high) - math.log10(axis.low))
        low, high = widened(low, high)
        return high / 2 - low / 2 >= SHRINK * (axis.high / 2 - axis.low / 2)


def growing_end(low: float, high: float, integer: bool = False) -> float:
    """A right end for a growing axis: ``high`` or up to a third more, so that it changes rarely, in large steps."""
    # If the left end is small relative to the span, it counts as zero, and the right end is a round number itself.
    base = 0.0 if 0 <= low <= (high - low) / 4 else low
    span = high - base
    if span > HUGEST:
        return HUGEST
    if span <= abs(high) * 1e-9:
        span = 1.0 if integer else abs(high) / 10 or 1.0
    power = TickStep(1, math.floor(math.log10(span))).times(1)
    end = base + next((part * power for part in _ENDS if part * power >= span), span)
    end = min(max(end, high), HUGEST)
    return float(math.ceil(end)) if integer else float(end)


def labels(ticks: Sequence[float], step: TickStep) -> tuple[str, ...]:
    """Format the ticks alike, with the decimals that the step needs."""
    greatest = max(abs(tick) for tick in ticks)
    if greatest < 1e-4 or greatest >= 1e6 or step.exponent < -6:
        digits = max(math.floor(math.log10(greatest)) - step.exponent, 0) if greatest else 0
        return tuple("0" if not tick else _scientific(tick, min(digits, 9)) for tick in ticks)
    if greatest >= 1e4 and step.exponent >= 2:
        places = 3 - step.exponent
        return tuple("0" if not tick else f"{tick / 1000:.{max(places, 0)}f}k" for tick in ticks)
    return tuple(f"{tick:.{max(-step.exponent, 0)}f}" for tick in ticks)


def brief(value: float, places: int | None = None) -> str:
    """A value in few characters: three significant digits or ``places`` decimals; no zero before the point."""
    if not math.isfinite(value):
        return str(float(value))
    size = abs(value)
    if size and (size >= 1e6 or size < 1e-3):
        return _scientific(value, 1)
    if places is None:
        if value == round(value):
            return str(round(value))
        places = max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:.{places}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _log_labels(ticks: Sequence[float]) -> tuple[str, ...]:
    if ticks[0] >= 1e-3 and ticks[-1] < 1e6:
        return tuple(f"{tick:.10g}" for tick in ticks)
    return tuple(_scientific(tick, 1) for tick in ticks)


def _scientific(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    if not digits or set(mantissa.partition(".")[2]) == {"0"}:
        mantissa = mantissa.partition(".")[0]
    return f"{mantissa}e{int(exponent)}"
