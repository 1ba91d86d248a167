"""Curves: their points, their smoothing, and the cached summaries of older points while a curve grows."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kdtui.tui.values import ReferenceLine, Series
from kdtui.tui.widgets.chart.braille import DotColumn, DotRow, dash, draw, summarise

STRONGEST = 0.99
"""The greatest smoothing weight."""


class Smoother:
    """A running moving average; each call of :meth:`extend` continues it.

    With weight ``w`` the ``n``-th value is the mean of the finite values up to it, each weighted ``w`` times as much as
    its successor. That is TensorBoard's average, ``m = w·m + (1-w)·y`` divided by ``1 - w^n``, in a form that keeps a
    constant exactly. A gap stays a gap and does not enter the average.

    Args:
        weight: Weight of the past, in [0, 1); 0 for no smoothing.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self._mean = 0.0
        self._total = 0.0  # 1 + w + w² + …: the sum of the weights so far

    def extend(self, values: Iterable[float]) -> list[float]:
        """The averages at the next values; NaN where a value is not finite."""
        if not self.weight:
            return list(values)
        weight, mean, total = self.weight, self._mean, self._total
        smoothed: list[float] = []
        append, finite = smoothed.append, math.isfinite
        for value in values:
            if finite(value):
                total = weight * total + 1
                step = (value - mean) / total
                # The difference of two huge values of opposite sign overflows; their weighted sum does not.
                mean = mean + step if finite(step) else mean * (1 - 1 / total) + value / total
                append(mean)
            else:
                append(math.nan)
        self._mean, self._total = mean, total
        return smoothed


_WITNESSES = 8
"""Number of last points compared to detect whether a list only grew or was truncated and refilled."""
_OUTSIDE = 10**6


class DotGrid:
    """An interval of the x axis divided into dot columns of equal width.

    Args:
        low: Left edge.
        high: Right edge, above ``low``; included in the last column.
        count: Number of columns, at least 1.
    """

    def __init__(self, low: float, high: float, count: int) -> None:
        self.low, self.high, self.count = low, high, count
        # Not low + n · width: the width of a huge interval overflows.
        self.edges = [low * (1 - index / count) + high * (index / count) for index in range(count)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DotGrid) and (self.low, self.high, self.count) == (other.low, other.high, other.count)

    __hash__ = None  # type: ignore[assignment]

    def column(self, x: float) -> int:
        """The column of ``x``; negative left of the grid, ``count`` or more right of it."""
        if self.low <= x <= self.high:
            return max(bisect_right(self.edges, x) - 1, 0)
        share = (x / 2 - self.low / 2) / (self.high / 2 - self.low / 2) * self.count
        if x < self.low:
            return min(math.floor(max(share, -_OUTSIDE)), -1)
        return max(math.ceil(min(_OUTSIDE, share)), self.count)  # in this order min() drops a NaN


class Trace:
    """One series with its columns and dots.

    Attributes:
        xs: The x values, ascending.
        ys: The y values as given.
        drawn: The y values as drawn: smoothed or as given.
        count: Number of points.
        columns: Summary of each dot column.
        masks: Dots of each column.
    """

    def __init__(self) -> None:
        self.xs: Sequence[float] = ()
        self.ys: Sequence[float] = ()
        self.drawn: Sequence[float] = ()
        self.count = 0
        self.columns: list[DotColumn | None] = []
        self.masks: list[int] = []
        self._witnesses: tuple[list[float], list[float]] = ([], [])
        self._smoother = Smoother(0)
        self._smoothed: list[float] = []
        self._grid: DotGrid | None = None
        self._positive = False
        self._scanned = 0
        self._stale = 0  # first column whose dots are outdated
        self._solid: list[int] = []
        self._drawn_as: tuple[object, ...] = ()

    def follow(self, xs: Sequence[float], ys: Sequence[float], smoothing: float) -> bool:
        """Update the points.

        Args:
            xs: Ascending.
            ys: The values at ``xs``.
            smoothing: Weight of the moving average.

        Returns:
            Whether the points continue those of the last call; otherwise everything cached was discarded. Lists are
            assumed to have only grown if they are the same objects, not shorter, and end with the same points at the
            old end.
        """
        count = min(len(xs), len(ys))
        goes_on = xs is self.xs and ys is self.ys and count >= self.count and self._unchanged()
        self.xs, self.ys = xs, ys
        if not goes_on or smoothing != self._smoother.weight:
            self._smoother, self._smoothed = Smoother(smoothing), []
            self._grid = None
        if smoothing:
            done = len(self._smoothed)
            self._smoothed += self._smoother.extend(ys[done:count])
        self.drawn = self._smoothed if smoothing else ys
        self.count = count
        begin = max(count - _WITNESSES, 0)
        self._witnesses = (list(xs[begin:count]), list(ys[begin:count]))
        return goes_on

    def _unchanged(self) -> bool:
        begin = max(self.count - _WITNESSES, 0)
        xs, ys = self._witnesses
        return list(self.xs[begin : self.count]) == xs and all(
            old == new or (old != old and new != new) for old, new in zip(ys, self.ys[begin : self.count], strict=True)
        )

    @property
    def ends(self) -> tuple[float, float] | None:
        """The first and last x, or None without points or if one of them is not finite."""
        if not self.count:
            return None
        low, high = self.xs[0], self.xs[self.count - 1]
        return (low, high) if math.isfinite(low) and math.isfinite(high) and low <= high else None

    def at(self, x: float) -> float | None:
        """The drawn value at the last point not right of ``x``, or None left of the first."""
        index = bisect_right(self.xs, x, 0, self.count) - 1
        return self.drawn[index] if index >= 0 else None

    def scan(self, grid: DotGrid, positive: bool) -> None:
        """Summarise the columns of a grid; if the grid is unchanged, only those that gained points.

        Args:
            grid: The columns.
            positive: Whether values not above zero are gaps.
        """
        if self._grid != grid or self._positive != positive:
            self._grid, self._positive = grid, positive
            self.columns = [None] * grid.count
            self._scanned = self._stale = 0
            self._drawn_as = ()
        xs, drawn, end = self.xs, self.drawn, self.count
        begin = self._scanned
        if begin == end:
            return
        first = min(max(grid.column(xs[begin - 1]), 0), grid.count) if begin else 0
        self._stale = min(self._stale, first)
        edges, columns = grid.edges, self.columns
        if first < grid.count:
            begin = bisect_left(xs, edges[first], 0, end)
            for column in range(first, grid.count):
                if column + 1 < grid.count:
                    stop = bisect_left(xs, edges[column + 1], begin, end)
                else:
                    stop = bisect_right(xs, grid.high, begin, end)
                if stop > begin:
                    columns[column] = summarise(drawn[begin:stop], positive)
                begin = stop
                if stop == end:
                    break
        self._scanned = end

    def extent(self) -> tuple[float, float] | None:
        """Least and greatest drawable value in view; without points in view, those of the adjacent points."""
        filled = [column for column in self.columns if column is not None]
        if filled:
            low, high = min(column.low for column in filled), max(column.high for column in filled)
        else:
            around = [end[1] for end in (self._before(), self._after()) if end is not None]
            low, high = min(around, default=math.inf), max(around, default=-math.inf)
        return (low, high) if low <= high else None

    def plot(self, place: DotRow, placed_as: object, height: int, pattern: str) -> int:
        """Update the dots from the columns.

        Args:
            place: Function from a value to its dot row.
            placed_as: Compares equal as long as ``place`` gives the same results.
            height: Number of dot rows.
            pattern: One of :data:`~kdtui.tui.widgets.braille.DASHES`.

        Returns:
            The first column whose dots may have changed; the number of columns if none has.
        """
        count = len(self.columns)
        drawn_as = (placed_as, height, pattern)
        if drawn_as != self._drawn_as:
            self._drawn_as = drawn_as
            self._stale = 0
            self._solid = [0] * count
            self.masks = self._solid if pattern == "1" else [0] * count
        begin, self._stale = self._stale, count
        if begin == count:
            return count
        before, after = self._before(), self._after()
        draw(self.columns, self._solid, place, height, begin=begin, before=before, after=after)
        # Drawing began at the last older point, where the line to the next one starts; a dash depends on later columns.
        if pattern != "1":
            begin = max(begin - len(pattern), 0)
            dash(self._solid, pattern, self.masks, begin)
        return begin

    def _before(self) -> tuple[int, float] | None:
        """Column and value of the last point left of the view, unless it is a gap."""
        return None if self._grid is None else self._outer(bisect_left(self.xs, self._grid.low, 0, self.count) - 1)

    def _after(self) -> tuple[int, float] | None:
        """Column and value of the first point right of the view, unless it is a gap."""
        return None if self._grid is None else self._outer(bisect_right(self.xs, self._grid.high, 0, self.count))

    def _outer(self, index: int) -> tuple[int, float] | None:
        if self._grid is None or not 0 <= index < self.count:
            return None
        value = self.drawn[index]
        if not math.isfinite(value) or (self._positive and value <= 0):
            return None
        return self._grid.column(self.xs[index]), value

    def end(self) -> tuple[int, float | None] | None:
        """The last column with a dot, and its last value if that can be drawn."""
        for column in range(len(self.masks) - 1, -1, -1):
            if self.masks[column]:
                summary = self.columns[column]
                return column, summary.last if summary is not None and summary.last == summary.last else None
        return None


@dataclass(frozen=True)
class ChartState:
    """Content of a chart.

    Attributes:
        series: In drawing order: where two curves share a cell, the later one gives the colour.
        references: Horizontal lines to compare the curves with.
        title: Title of the chart.
        x_label: Quantity on the x axis.
        x_max: Right end of the axis, such as the last step of a run; None to grow with the points.
        places: Decimals of values; None for three significant digits.
        log_y: Whether y is logarithmic; values not above zero are then gaps.
        smoothing: Weight of the moving average, in [0, 1).
    """

    series: tuple[Series, ...] = ()
    references: tuple[ReferenceLine, ...] = ()
    title: str = ""
    x_label: str = ""
    x_max: float | None = None
    places: int | None = None
    log_y: bool = False
    smoothing: float = 0.0
