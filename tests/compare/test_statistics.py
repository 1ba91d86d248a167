"""Intervals over seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.compare.statistics import Interval, over_seeds, t_quantile


@pytest.mark.parametrize(
    ("coverage", "freedom", "value"),
    [
        (0.95, 1, 12.7062047362),
        (0.95, 2, 4.3026527297),
        (0.95, 3, 3.1824463053),
        (0.95, 4, 2.7764451052),
        (0.95, 9, 2.2621571628),
        (0.95, 30, 2.0422724563),
        (0.99, 1, 63.6567411629),
        (0.99, 4, 4.6040948714),
        (0.90, 10, 1.8124611228),
    ],
)
def test_quantiles_of_student(coverage: float, freedom: int, value: float) -> None:
    assert t_quantile(coverage, freedom) == pytest.approx(value, abs=1e-9)


DELTAS = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


@given(DELTAS)
def test_swapped_arms_have_the_mirrored_interval(deltas: list[float]) -> None:
    there, back = over_seeds(deltas), over_seeds([-delta for delta in deltas])
    assert there is not None and back is not None
    assert (back.delta, back.low, back.high) == pytest.approx((-there.delta, -there.high, -there.low), abs=1e-12)
    assert there.low <= there.delta <= there.high and there.n == len(deltas)
    assert {there.verdict, back.verdict} in ({"better", "worse"}, {"within noise"})


@given(DELTAS, st.floats(-1, 1))
def test_a_shift_of_all_seeds_shifts_the_interval(deltas: list[float], shift: float) -> None:
    first, second = over_seeds(deltas), over_seeds([delta + shift for delta in deltas])
    assert first is not None and second is not None
    assert (second.low, second.high) == pytest.approx((first.low + shift, first.high + shift), abs=1e-9)


def test_one_seed_has_no_interval_and_equal_seeds_one_of_no_width() -> None:
    assert over_seeds([0.5]) is None
    assert over_seeds([0.25, 0.25]) == Interval(0.25, 0.25, 0.25, 2, "seeds")


def test_the_words() -> None:
    assert Interval(0.0041, -0.002, 0.0103, 3, "seeds").text == (
        "Δ +0.0041, 95 % [-0.0020, +0.0103] over 3 seeds: within noise"
    )
    assert Interval(0.0041, -0.002, 0.0103, 3, "seeds").short == "Δ +0.0041 [-0.0020, +0.0103], 3 seeds: within noise"
    assert Interval(-0.0117, -0.02, -0.0034, 233, "images").text == (
        "Δ -0.0117, 95 % [-0.0200, -0.0034] over 233 images: worse than the baseline for these images; "
        "other seeds not covered"
    )
