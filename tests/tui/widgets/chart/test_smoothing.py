from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.tui.widgets.chart.series import STRONGEST, Smoother

weights = st.floats(0.0, STRONGEST)
values = st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf])), max_size=60)


def smooth(numbers: list[float], weight: float) -> list[float]:
    """A whole curve at once."""
    return Smoother(weight).extend(numbers)


def tensorboard(numbers: list[float], weight: float) -> list[float]:
    """The average as TensorBoard's page works it out."""
    last, count, smoothed = 0.0, 0, []
    for number in numbers:
        if not math.isfinite(number):
            smoothed.append(math.nan)
            continue
        last = last * weight + (1 - weight) * number
        count += 1
        smoothed.append(last / (1 - weight**count))
    return smoothed


@given(values, weights)
def test_it_is_tensorboards_debiased_average(numbers: list[float], weight: float) -> None:
    expected = tensorboard(numbers, weight)
    given_finite = [number if math.isfinite(number) else math.nan for number in smooth(numbers, weight)]
    assert given_finite == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 200), weights)
def test_smoothing_keeps_a_constant_exactly(value: float, count: int, weight: float) -> None:
    assert smooth([value] * count, weight) == [value] * count


@given(values, weights, st.integers(0, 60))
def test_a_growing_curve_is_smoothed_like_a_complete_one(numbers: list[float], weight: float, cut: int) -> None:
    smoother = Smoother(weight)
    parts = smoother.extend(numbers[:cut]) + smoother.extend(numbers[cut:])
    assert list(map(repr, parts)) == list(map(repr, smooth(numbers, weight)))


@given(values, st.floats(0.01, STRONGEST))
def test_gaps_stay_and_are_skipped(numbers: list[float], weight: float) -> None:
    smoothed = smooth(numbers, weight)
    assert [math.isnan(value) for value in smoothed] == [not math.isfinite(number) for number in numbers]
    finite = [number for number in numbers if math.isfinite(number)]
    assert [value for value in smoothed if math.isfinite(value)] == smooth(finite, weight)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30), weights)
def test_the_average_is_between_the_values_even_if_huge(numbers: list[float], weight: float) -> None:
    low, high = min(numbers), max(numbers)
    room = 1e-9 * max(abs(low), abs(high))
    assert all(low - room <= value <= high + room for value in smooth(numbers, weight))


def test_weight_zero_changes_nothing() -> None:
    assert list(map(repr, smooth([1.0, math.inf, math.nan, -2.0], 0.0))) == ["1.0", "inf", "nan", "-2.0"]
