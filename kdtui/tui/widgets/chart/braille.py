"""Curves as braille dots: summaries of dot columns, lines between columns, dashes, and the resulting characters.

A cell is two dots wide and four high. The dots of a column are the bits of one integer, bit 0 at the bottom: a run of
dots is a shift, overlaying curves is an *or*, and the cost does not depend on the number of points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

BLANK = " "
CELL_WIDTH, CELL_HEIGHT = 2, 4
DASHES = ("1", "11111000", "100", "1111100100")
"""Dot columns that are drawn (1) and left out (0): solid, dashed, dotted, dashed and dotted."""

_LEFT = [sum(bit for dot, bit in enumerate((0x40, 0x04, 0x02, 0x01)) if nibble >> dot & 1) for nibble in range(16)]
_RIGHT = [sum(bit for dot, bit in enumerate((0x80, 0x20, 0x10, 0x08)) if nibble >> dot & 1) for nibble in range(16)]
_GLYPHS = [[BLANK if not (left or right) else chr(0x2800 | left | right) for right in _RIGHT] for left in _LEFT]

DotRow = Callable[[float], int]
"""Function from a value to its dot row; rows below 0 or above the top are outside the plot."""


class DotColumn(NamedTuple):
    """Summary of the points of one dot column.

    Attributes:
        first: Value of the first point, NaN for a gap; joined to the column before.
        last: Value of the last point, NaN for a gap.
        low: Least of the drawable values, +inf if there is none.
        high: Greatest of the drawable values, -inf if there is none.
        runs: None if every value is drawable; else low and high of every run between two gaps.
    """

    first: float
    last: float
    low: float
    high: float
    runs: tuple[tuple[float, float], ...] | None


def summarise(values: Sequence[float], positive: bool = False) -> DotColumn:
    """Summarise the points of a dot column, of which there is at least one.

    Args:
        values: In order of x.
        positive: Whether values not above zero are gaps, as for a logarithmic axis.
    """
    if len(values) == 1:
        low = high = values[0]
        clean = math.isfinite(low)
    else:
        low, high = min(values), max(values)
        # A sum is finite only if every term is: one check instead of one per value. If it overflows with finite terms,
        # the values are checked one by one, which only costs time.
        clean = math.isfinite(sum(values))
    if clean and (low > 0 or not positive):
        return DotColumn(values[0], values[-1], low, high, None)
    return _with_gaps(values, positive)


def _with_gaps(values: Sequence[float], positive: bool) -> DotColumn:
    runs: list[tuple[float, float]] = []
    low = high = math.nan
    inside = False
    for value in values:
        if math.isfinite(value) and (value > 0 or not positive):
            low, high = (min(low, value), max(high, value)) if inside else (value, value)
            inside = True
        elif inside:
            runs.append((low, high))
            inside = False
    if inside:
        runs.append((low, high))
    if not runs:
        return DotColumn(math.nan, math.nan, math.inf, -math.inf, ())
    return DotColumn(
        _drawable(values[0], positive),
        _drawable(values[-1], positive),
        min(low for low, _ in runs),
        max(high for _, high in runs),
        tuple(runs),
    )


def _drawable(value: float, positive: bool) -> float:
    return value if math.isfinite(value) and (value > 0 or not positive) else math.nan


def draw(
    columns: Sequence[DotColumn | None],
    masks: list[int],
    place: DotRow,
    height: int,
    *,
    begin: int = 0,
    before: tuple[int, float] | None = None,
    after: tuple[int, float] | None = None,
) -> None:
    """Set the dots of ``columns[begin:]`` and of the lines that join them.

    A curve that gains points only gains dots, so a caller that keeps the masks may begin at the first changed column.

    Args:
        columns: None for columns without points.
        masks: Dots of each column, updated in place.
        place: Function from a value to its dot row.
        height: Number of dot rows.
        begin: First column to draw.
        before: Column (negative) and value of the last point left of the view, if it is joined to the next.
        after: Column and value of the first point right of the view.
    """
    previous = _end_of(columns, begin, before, place)
    for index in range(begin, len(columns)):
        column = columns[index]
        if column is None:
            continue
        first, last, low, high, runs = column
        if runs is None:
            bottom = place(low)
            top = bottom if low == high else place(high)
            _fill(masks, index, bottom, top, height)
            entry = bottom if first == low else top if first == high else place(first)
            leave = bottom if last == low else top if last == high else place(last)
            if previous is not None:
                _join(masks, previous, (index, entry), height)
            previous = (index, leave)
        else:
            for run in runs:
                _fill(masks, index, place(run[0]), place(run[1]), height)
            if previous is not None and first == first:
                _join(masks, previous, (index, place(first)), height)
            previous = (index, place(last)) if last == last else None
    if after is not None and previous is not None:
        _join(masks, previous, (after[0], place(after[1])), height)


def _end_of(
    columns: Sequence[DotColumn | None], begin: int, before: tuple[int, float] | None, place: DotRow
) -> tuple[int, int] | None:
    """Column and row from which a line leads to ``begin``."""
    for index in range(begin - 1, -1, -1):
        column = columns[index]
        if column is not None:
            return (index, place(column.last)) if column.last == column.last else None
    return None if before is None else (before[0], place(before[1]))


def _fill(masks: list[int], column: int, bottom: int, top: int, height: int) -> None:
    bottom, top = max(bottom, 0), min(top, height - 1)
    if bottom <= top:
        masks[column] |= ((2 << (top - bottom)) - 1) << bottom


def _join(masks: list[int], start: tuple[int, int], end: tuple[int, int], height: int) -> None:
    """Draw a line between two dots: each column gets the rows that the line crosses in it, without holes."""
    (left, begin), (right, stop) = start, end
    if right - left == 1 and -2 < stop - begin < 2:
        return
    # A falling line is a mirrored rising one, so that both are equally thin.
    sign = 1 if stop >= begin else -1
    begin, stop = sign * begin, sign * stop
    rise, run = stop - begin, right - left

    def cut(column: int) -> int:
        """First row that belongs to ``column`` and not to the one before: where the line is half a column ahead."""
        return begin + (rise * (2 * (column - left) - 1) + run) // (2 * run)

    lower = begin if left >= 0 else cut(0)
    for column in range(max(left, 0), min(right, len(masks) - 1) + 1):
        following = cut(column + 1)
        upper = stop if column == right else max(lower, following - 1)
        if sign > 0:
            _fill(masks, column, lower, upper, height)
        else:
            _fill(masks, column, -upper, -lower, height)
        lower = following


def dash(masks: Sequence[int], pattern: str, dashed: list[int], begin: int = 0) -> None:
    """Clear the columns that a dash pattern leaves out.

    A dot is kept if it is outside the rows spanned by the drawn columns on both sides, and where the curve ends or
    breaks: a spike and a single point are visible in every pattern.

    Args:
        masks: The solid curve.
        pattern: One of :data:`DASHES`.
        dashed: The result, of the same length, updated in place.
        begin: First column to write.
    """
    period = len(pattern)
    count = len(masks)
    for index in range(begin, count):
        mask = masks[index]
        if mask and pattern[index % period] == "0":
            left, right = index - 1, index + 1
            while left >= 0 and pattern[left % period] == "0" and masks[left]:
                left -= 1
            while right < count and pattern[right % period] == "0" and masks[right]:
                right += 1
            if left >= 0 and right < count and masks[left] and masks[right]:
                both = masks[left] | masks[right]
                mask &= ~((1 << both.bit_length()) - (both & -both))
        dashed[index] = mask


def glyph(left: int, right: int, row: int) -> str:
    """The character of a cell: a space if no dot is set.

    Args:
        left: Mask of its left dot column.
        right: Mask of its right dot column.
        row: Cell row, 0 at the bottom.
    """
    shift = CELL_HEIGHT * row
    return _GLYPHS[left >> shift & 15][right >> shift & 15]
