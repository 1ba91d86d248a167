from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.tui.widgets.chart.braille import CELL_HEIGHT, DASHES, DotColumn, dash, draw, glyph, summarise

HEIGHT = 24
values = st.one_of(st.floats(-2, 2), st.sampled_from([math.nan, math.inf, -math.inf]))
cells = st.lists(st.one_of(st.none(), st.lists(values, min_size=1, max_size=5)), min_size=1, max_size=40)
"""The points of each dot column; None where there is none."""


def place(value: float) -> int:
    """Rows for values in [-2, 2]."""
    return math.floor((value + 2) / 4 * (HEIGHT - 1) + 0.5)


def drawn(points: Sequence[list[float] | None], positive: bool = False) -> list[int]:
    masks = [0] * len(points)
    draw(summaries(points, positive), masks, place, HEIGHT)
    return masks


def summaries(points: Sequence[list[float] | None], positive: bool = False) -> list[DotColumn | None]:
    return [None if column is None else summarise(column, positive) for column in points]


def rows(mask: int) -> set[int]:
    return {row for row in range(mask.bit_length()) if mask >> row & 1}


def fine(value: float, positive: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not positive)


@given(cells, st.booleans())
def test_every_value_that_can_be_drawn_lights_a_dot_at_its_place(
    points: list[list[float] | None], positive: bool
) -> None:
    masks = drawn(points, positive)
    for mask, column in zip(masks, points, strict=True):
        assert {place(value) for value in column or () if fine(value, positive)} <= rows(mask)


@given(cells)
def test_no_dot_is_outside_the_range_of_adjacent_values(points: list[list[float] | None]) -> None:
    filled = [index for index, column in enumerate(points) if column is not None]
    for index, mask in enumerate(drawn(points)):
        if not mask:
            continue
        around = {index} & set(filled)
        around |= {max((other for other in filled if other < index), default=index)}
        around |= {min((other for other in filled if other > index), default=index)}
        near = {place(value) for other in around for value in points[other] or () if math.isfinite(value)}
        assert min(near) <= min(rows(mask)) <= max(rows(mask)) <= max(near)


@given(cells)
def test_nothing_is_drawn_across_a_gap(points: list[list[float] | None]) -> None:
    masks = drawn(points)
    flat = [(index, value) for index, column in enumerate(points) for value in column or ()]
    for (left, before), (right, after) in pairwise(flat):
        if not (math.isfinite(before) and math.isfinite(after)):
            assert not any(masks[left + 1 : right])


@given(cells)
def test_neighbouring_points_are_joined_without_a_hole(points: list[list[float] | None]) -> None:
    masks = drawn(points)
    flat = [(index, value) for index, column in enumerate(points) for value in column or ()]
    for (left, before), (right, after) in pairwise(flat):
        if math.isfinite(before) and math.isfinite(after):
            assert all(masks[left : right + 1])
            for column in range(left, right):
                here, there = rows(masks[column]), rows(masks[column + 1])
                assert min(abs(a - b) for a in here for b in there) <= 1


@given(st.integers(0, HEIGHT - 1), st.integers(0, HEIGHT - 1), st.integers(1, 30))
def test_a_line_is_thin_and_the_same_in_both_directions(start: int, end: int, length: int) -> None:
    def line(first: int, last: int) -> list[set[int]]:
        masks = [0] * (length + 1)
        columns: list[DotColumn | None] = [None] * (length + 1)
        columns[0], columns[-1] = summarise([first]), summarise([last])
        draw(columns, masks, round, HEIGHT)
        return [rows(mask) for mask in masks]

    there = line(start, end)
    assert sum(map(len, there)) <= max(length, abs(end - start)) + 1
    turned = [{HEIGHT - 1 - row for row in column} for column in line(HEIGHT - 1 - start, HEIGHT - 1 - end)]
    assert there == turned


@given(cells, st.data())
def test_a_growing_curve_is_drawn_like_a_complete_one(points: list[list[float] | None], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(points) - 1))
    shown = data.draw(st.integers(0, len(points[begin] or ())))
    part = (points[begin] or [])[:shown] or None
    older = [*points[:begin], part, *[None] * (len(points) - begin - 1)]
    masks = drawn(older)
    draw(summaries(points), masks, place, HEIGHT, begin=begin)
    assert masks == drawn(points)


def test_points_outside_the_view_are_joined_to_those_in_it() -> None:
    masks = [0] * 5
    columns: list[DotColumn | None] = [None, None, summarise([0.0]), None, None]
    draw(columns, masks, place, HEIGHT, before=(-3, 0.0), after=(9, 0.0))
    assert [rows(mask) for mask in masks] == [{place(0.0)}] * 5
    across = [0] * 4
    draw([None] * 4, across, place, HEIGHT, before=(-1, -2.0), after=(4, 2.0))
    assert all(across)


def test_a_value_outside_the_rows_lights_nothing() -> None:
    masks = [0, 0, 0]
    draw([summarise([9.0]), summarise([9.5]), summarise([-7.0])], masks, place, HEIGHT)
    assert masks[0] == 0
    assert rows(masks[1] | masks[2]) == set(range(HEIGHT))  # the fall from one side to the other is seen


@given(st.lists(values, min_size=1, max_size=30), st.booleans())
def test_a_summary_has_low_high_and_the_ends(numbers: list[float], positive: bool) -> None:
    column = summarise(numbers, positive)
    kept = [value for value in numbers if fine(value, positive)]
    assert (column.low, column.high) == (min(kept, default=math.inf), max(kept, default=-math.inf))
    for end, value in ((column.first, numbers[0]), (column.last, numbers[-1])):
        assert end == value if fine(value, positive) else math.isnan(end)
    assert (column.runs is None) == (len(kept) == len(numbers))


def test_a_sum_that_overflows_is_no_gap() -> None:
    column = summarise([1e308, 1.5e308, 1.7e308])
    assert (column.low, column.high, column.runs) == (1e308, 1.7e308, ((1e308, 1.7e308),))


@given(cells, st.sampled_from(DASHES[1:]))
def test_dashes_keep_spikes_and_single_points(points: list[list[float] | None], pattern: str) -> None:
    solid = drawn(points)
    dashed = [0] * len(solid)
    dash(solid, pattern, dashed)
    for index, (before, after) in enumerate(zip(solid, dashed, strict=True)):
        assert after & ~before == 0
        if pattern[index % len(pattern)] == "1":
            assert after == before
        missing = rows(before & ~after)
        if missing:
            period = len(pattern)
            left = max(other for other in range(index) if pattern[other % period] == "1")
            right = min(other for other in range(index, len(solid)) if pattern[other % period] == "1")
            assert all(solid[left : right + 1])
            span = rows(dashed[left] | dashed[right])
            assert min(span) <= min(missing) <= max(missing) <= max(span)


@pytest.mark.parametrize("pattern", DASHES[1:])
def test_a_smooth_curve_is_seen_dashed(pattern: str) -> None:
    solid = drawn([[math.sin(index / 12)] for index in range(60)])
    dashed = [0] * 60
    dash(solid, pattern, dashed)
    assert 0 < sum(map(bool, dashed)) < 50


def test_dashes_continue_where_they_stopped() -> None:
    solid = drawn([[math.sin(index / 5)] for index in range(60)])
    whole = [0] * 60
    dash(solid, DASHES[1], whole)
    begun = [0] * 60
    dash([*solid[:40], *[0] * 20], DASHES[1], begun)
    dash(solid, DASHES[1], begun, 40 - len(DASHES[1]))
    assert begun == whole


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1), st.integers(0, 3))
def test_a_glyph_has_the_dots_of_its_two_columns(left: int, right: int, row: int) -> None:
    # Unicode numbers the dots 1-2-3-7 down the left column and 4-5-6-8 down the right one.
    dots = [(0, 3, 0), (0, 2, 1), (0, 1, 2), (1, 3, 3), (1, 2, 4), (1, 1, 5), (0, 0, 6), (1, 0, 7)]
    bits = sum(1 << bit for side, height, bit in dots if (left, right)[side] >> (row * CELL_HEIGHT + height) & 1)
    assert glyph(left, right, row) == (chr(0x2800 + bits) if bits else " ")
