from __future__ import annotations

import math
import sys
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kdtui.tui.widgets.chart.scale import (
    Axis,
    HeldRange,
    TickStep,
    brief,
    growing_end,
    labels,
    linear_axis,
    log_axis,
    step_of,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
everyday = st.floats(-1e4, 1e4)


def leading(value: float) -> float:
    """The mantissa in [1, 10), as written with 9 digits."""
    return float(f"{value:.8e}".split("e")[0])


@given(positive.filter(lambda distance: distance < 1e300))
def test_a_step_is_the_next_of_the_sequence_1_2_5(distance: float) -> None:
    step = step_of(distance)
    assert step.mantissa in (1, 2, 5)
    assert step.times(1) >= distance * (1 - 1e-9)
    if distance > 1e-300:
        assert step.times(1) <= distance * 2.5 * (1 + 1e-6)


def test_multiples_of_a_step_are_exact_decimals() -> None:
    assert [TickStep(2, -1).times(count) for count in range(5)] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert TickStep(5, 307).times(9) == math.inf
    assert TickStep(1, -1).below(0.3) == 3
    assert TickStep(1, -1).above(0.3) == 3


@given(finite, finite, st.integers(2, 12), st.integers(2, 12), st.booleans())
def test_an_axis_holds_the_data_and_its_ticks(a: float, b: float, intervals: int, room: int, integer: bool) -> None:
    low, high = sorted((a, b))
    axis = linear_axis(low, high, intervals=intervals, room=room, integer=integer)
    assert axis.low <= low <= high <= axis.high
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= room
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    if integer:
        assert all(tick == round(tick) for tick in axis.ticks)


@given(everyday, everyday, st.integers(2, 10), st.integers(3, 12))
def test_ticks_are_multiples_of_1_2_or_5(a: float, b: float, intervals: int, room: int) -> None:
    low, high = sorted((a, b))
    assume(high - low > 1e-3)
    axis = linear_axis(low, high, intervals=intervals, room=room)
    step = min(after - before for before, after in pairwise(axis.ticks))
    if len(axis.ticks) > 2:
        assert leading(step) in (1.0, 2.0, 5.0)
    # A multiple of 1, 2 or 5 times a power of ten is a whole number of that power: few digits.
    assert all(len(f"{tick:.12g}".strip("-").replace(".", "").strip("0")) <= 8 for tick in axis.ticks)


@given(everyday, everyday, st.integers(3, 10))
def test_the_ends_are_near_the_data(a: float, b: float, intervals: int) -> None:
    low, high = sorted((a, b))
    assume(high - low > 1e-3)
    axis = linear_axis(low, high, intervals=intervals, room=intervals + 1)
    assert axis.high - axis.low <= 6 * (high - low)
    assert axis.ticks[0] == axis.low
    assert axis.ticks[-1] == axis.high


@given(positive, positive, st.integers(2, 12))
def test_a_log_axis_holds_the_data_and_its_ticks(a: float, b: float, room: int) -> None:
    low, high = sorted((a, b))
    axis = log_axis(low, high, intervals=5, room=room)
    assert 0 < axis.low <= low <= high <= axis.high
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= room
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


@given(st.floats(-30, 30), st.floats(0.51, 60), st.integers(3, 12))
def test_log_ticks_over_some_decades_are_1_2_or_5_times_a_power_of_ten(start: float, span: float, room: int) -> None:
    axis = log_axis(10**start, 10 ** (start + span), intervals=5, room=room)
    assert all(leading(tick) in (1.0, 2.0, 5.0) for tick in axis.ticks)


axes = st.one_of(
    st.tuples(finite, finite).map(lambda ends: linear_axis(min(ends), max(ends), intervals=5, room=6)),
    st.tuples(positive, positive).map(lambda ends: log_axis(min(ends), max(ends), intervals=5, room=6)),
)


@given(axes, st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(2, 200))
def test_rows_go_from_the_bottom_to_the_top_in_order(axis: Axis, shares: list[float], rows: int) -> None:
    place = axis.placer(rows)
    assert (place(axis.low), place(axis.high)) == (0, rows - 1)
    values = sorted(min(max(axis.low * (1 - share) + axis.high * share, axis.low), axis.high) for share in shares)
    placed = [place(value) for value in values]
    assert placed == sorted(placed)
    assert all(0 <= row < rows for row in placed)


def test_values_far_outside_the_axis_have_finite_rows() -> None:
    place = linear_axis(0, 1e-300, intervals=5, room=6).placer(24)
    assert place(1e300) > 24
    assert place(-sys.float_info.max) < 0


def fitted(held: HeldRange, low: float, high: float, *, log: bool = False) -> tuple[float, float]:
    axis = held.fit(low, high, intervals=5, room=6, log=log, integer=False)
    return axis.low, axis.high


def test_a_held_range_is_kept_while_the_data_fill_it() -> None:
    held = HeldRange()
    assert fitted(held, 0.36, 1.8) == (0.0, 2.0)
    assert fitted(held, 0.36, 1.9) == (0.0, 2.0)
    assert fitted(held, 0.7, 1.7) == (0.0, 2.0)  # half of it: not worth a jump
    assert fitted(held, 0.36, 2.1) == (0.0, 2.5)  # left
    assert fitted(held, 0.31, 0.48) == (0.3, 0.5)  # lost in it
    held.forget()
    assert fitted(held, 0.31, 0.58) == (0.3, 0.6)


@pytest.mark.parametrize("log", [False, True])
@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=10))
def test_a_held_range_always_holds_the_data(log: bool, spans: list[tuple[float, float]]) -> None:
    held = HeldRange()
    for span in spans:
        low, high = fitted(held, min(span), max(span), log=log)
        assert low <= min(span) <= max(span) <= high


@given(finite, st.floats(0, 1e6), st.booleans())
def test_a_growing_end_is_not_far_ahead(low: float, span: float, integer: bool) -> None:
    high = low + span
    assume(math.isfinite(high))
    end = growing_end(low, high, integer)
    assert end >= high
    if span > max(1, abs(high) * 1e-6):
        assert end - high <= 0.34 * (high - min(low, 0)) + 1


def test_a_growing_end_moves_forward_in_few_steps() -> None:
    ends = [growing_end(1, last, integer=True) for last in range(1, 20_001)]
    assert ends == sorted(ends)
    assert len(set(ends)) < 60


@given(everyday, everyday)
def test_labels_of_ticks_differ(a: float, b: float) -> None:
    low, high = sorted((a, b))
    axis = linear_axis(low, high, intervals=6, room=7)
    assert len(set(axis.labels)) == len(axis.labels)


def test_labels_are_written_alike() -> None:
    assert labels([0.0, 0.5, 1.0], TickStep(5, -1)) == ("0.0", "0.5", "1.0")
    assert labels([0, 20_000, 40_000], TickStep(2, 4)) == ("0", "20k", "40k")
    assert labels([0, 500, 1000], TickStep(5, 2)) == ("0", "500", "1000")
    assert labels([0.0, 1e-5, 2e-5], TickStep(1, -5)) == ("0", "1e-5", "2e-5")
    assert labels([-1e300, 0.0, 1e300], TickStep(1, 300)) == ("-1e300", "0", "1e300")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4123, ".412"),
        (-0.4123, "-.412"),
        (0.0412, ".0412"),
        (1.834, "1.83"),
        (12.34, "12.3"),
        (212.4, "212"),
        (4.0, "4"),
        (0.0, "0"),
        (1.234e-5, "1.2e-5"),
        (2e-5, "2e-5"),
        (12_345_678.0, "1.2e7"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_a_brief_value(value: float, text: str) -> None:
    assert brief(value) == text


def test_a_brief_value_with_decimals() -> None:
    assert brief(0.67312, 4) == ".6731"
    assert brief(1.0, 4) == "1.0000"
