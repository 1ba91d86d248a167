"""The displayed part of the x axis: zoom, pan and the cursor."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

ZOOM = 2.0
"""Factor of one zoom step."""
PAN = 0.25
"""Distance of one pan step, as a share of the view."""
AHEAD = 0.25
"""Share of the view left empty right of the last point, where possible."""
STILL = 2e-3
"""Relative change of the right end of the axis up to which it is kept."""
CLOSEST = 1e-6
"""The smallest share of the axis that can be displayed."""
EXACT = 1e-12
"""Smallest width relative to the greatest x: below it, floats could not distinguish the columns."""


class Viewport:
    """The displayed part of the x axis.

    Attributes:
        low: Left edge of the whole axis.
        high: Right edge of the whole axis, above ``low``.
        cursor: The x at which values are displayed, or None.
    """

    def __init__(self) -> None:
        self.low, self.high = 0.0, 1.0
        self.cursor: float | None = None
        self._last = 0.0
        self._part: tuple[float, float] | None = None
        self._follows = False

    @property
    def zoomed(self) -> bool:
        """Whether only a part of the axis is displayed."""
        return self._part is not None

    @property
    def span(self) -> tuple[float, float]:
        """Left and right edge of the displayed part."""
        return self._part or (self.low, self.high)

    def fit(self, low: float, high: float, last: float) -> None:
        """Set the range of the axis; a displayed part that no longer overlaps it is reset.

        An end that changed only slightly is kept: changing it would repaint everything without a visible effect.

        Args:
            low: Left edge.
            high: Right edge, above ``low``.
            last: The x of the last point.
        """
        if low != self.low or last > self.high or not abs(high - self.high) <= (self.high - self.low) * STILL:
            self.low, self.high = low, high
        self._last = last
        if self._part is not None:
            left, right = max(self._part[0], self.low), min(self._part[1], self.high)
            self._part = (left, right) if left < right and (left, right) != (self.low, self.high) else None
        if self._follows and self._part is not None and last > self._part[1]:
            self._look_at_the_end(self._part[1] - self._part[0])
        if self.cursor is not None and not self.low <= self.cursor <= self.high:
            self.cursor = None

    def reset(self) -> None:
        """Display the whole axis, without a cursor."""
        self._part = self.cursor = None
        self._follows = False

    def zoom(self, factor: float) -> None:
        """Scale the width of the view by ``factor``: around the cursor if it is in view, else towards the last point.

        A view that shows the last point follows it when points are added.
        """
        low, high = self.span
        width = (high - low) * factor
        if factor < 1 and width < max((self.high - self.low) * CLOSEST, max(abs(self.low), abs(self.high)) * EXACT):
            return
        self._follows = False
        if self.cursor is not None and low <= self.cursor <= high:
            self._show(self.cursor - (self.cursor - low) * factor, width)
        elif low <= self._last <= high:
            self._follows = True
            self._look_at_the_end(width)
        else:
            self._show(low / 2 + high / 2 - width / 2, width)

    def _look_at_the_end(self, width: float) -> None:
        """Leave room right of the last point, so that the view moves now and then instead of with every point."""
        self._show(self._last - width * (1 - AHEAD), width)

    def pan(self, share: float) -> None:
        """Move the view by a share of its width; positive is to the right."""
        if self._part is not None:
            self._follows = False
            low, high = self._part
            self._show(low + (high - low) * share, high - low)

    def _show(self, left: float, width: float) -> None:
        if width >= self.high - self.low or width < max(abs(self.low), abs(self.high)) * EXACT:
            self._part = None
            return
        left = min(max(left, self.low), self.high - width)
        part = (left, min(left + width, self.high))
        self._part = None if part == (self.low, self.high) else part  # equal but for the last bit is all of it

    def move_cursor(self, distance: float, axes: Iterable[tuple[Sequence[float], int]]) -> None:
        """Move the cursor to the next point at least ``distance`` away, or to the outermost in that direction.

        Without a cursor it starts at the last point in view, or at the first if it moves to the right. The view follows
        a cursor that leaves it.

        Args:
            distance: Negative to the left.
            axes: The ascending x values of every series, and how many of them are valid.
        """
        low, high = self.span
        right = distance > 0
        axes = [(xs, count) for xs, count in axes if count]
        if not axes:
            return
        if self.cursor is None or not low <= self.cursor <= high:
            target, right = (low, True) if right else (high, False)
        else:
            target = self.cursor + distance
        found = [
            xs[index]
            for xs, count in axes
            if 0
            <= (index := bisect_left(xs, target, 0, count) if right else bisect_right(xs, target, 0, count) - 1)
            < count
        ]
        outermost = max(xs[count - 1] for xs, count in axes) if right else min(xs[0] for xs, _ in axes)
        self.place_cursor((min if right else max)(found, default=outermost))

    def place_cursor(self, x: float) -> None:
        """Set the cursor to ``x`` and move the view if ``x`` is outside it."""
        self.cursor = min(max(x, self.low), self.high)
        low, high = self.span
        if not low <= self.cursor <= high:
            width = high - low
            self._show(self.cursor - width / 2, width)


def nearest(x: float, axes: Iterable[tuple[Sequence[float], int]]) -> float | None:
    """The point nearest to ``x`` among the ascending first ``count`` values of every series; None without points."""
    found: list[float] = []
    for xs, count in axes:
        index = bisect_left(xs, x, 0, count)
        found += xs[max(index - 1, 0) : min(index + 1, count)]
    return min(found, key=lambda point: abs(point - x), default=None)
