from __future__ import annotations

import math
from typing import get_args

import pytest

from kdtui.engine.schedules import alpha_at, rate_factor, temperature_at
from kdtui.profile import Distillation
from kdtui.profile.schedules import AlphaCourse, Course, RateCourse


def test_it_rises_linearly_to_the_peak_and_falls_towards_zero() -> None:
    factors = [rate_factor(step, 100, warmup=0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0.0 < factors[-1] < 0.001


def test_half_way_down_is_half_the_peak() -> None:
    assert rate_factor(55, 100, warmup=0.1) == pytest.approx(0.5)


def test_without_warmup_it_starts_at_the_peak() -> None:
    assert rate_factor(0, 10, warmup=0.0) == 1.0


def test_a_step_beyond_the_horizon_trains_nothing() -> None:
    assert rate_factor(120, 100, warmup=0.1) == 0.0


@pytest.mark.parametrize(
    ("course", "half_way"), [("cosine", 0.5), ("poly", 0.5**0.9), ("linear", 0.5), ("constant", 1.0)]
)
def test_every_schedule_of_the_learning_rate_has_its_ends_and_its_middle(course: RateCourse, half_way: float) -> None:
    rising, peak, middle, last, after = (
        rate_factor(step, 110, warmup=1 / 11, course=course) for step in (0, 10, 60, 109, 120)
    )
    assert (rising, peak) == (0.1, 1.0)
    assert middle == pytest.approx(half_way)
    assert after == (1.0 if course == "constant" else 0.0) <= last <= middle


def course(name: str, start: float, end: float, epochs: int = 5) -> list[float]:
    table = Distillation.model_validate(
        {"temperature": start, "temperature_schedule": name, "temperature_end": end, "alpha": 0.5}
    )
    return [temperature_at(table, epoch, epochs) for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(
    ("name", "start", "end", "expected"),
    [
        ("constant", 10.0, 1.0, [10.0] * 5),
        ("linear", 9.0, 1.0, [9.0, 7.0, 5.0, 3.0, 1.0]),
        ("cosine", 10.0, 1.0, [10.0, 5.5 + 4.5 * math.sqrt(0.5), 5.5, 5.5 - 4.5 * math.sqrt(0.5), 1.0]),
        ("exponential", 16.0, 1.0, [16.0, 8.0, 4.0, 2.0, 1.0]),
        ("linear", 1.0, 9.0, [1.0, 3.0, 5.0, 7.0, 9.0]),
    ],
)
def test_a_schedule_has_its_ends_and_its_middle(name: str, start: float, end: float, expected: list[float]) -> None:
    assert course(name, start, end) == pytest.approx(expected)


@pytest.mark.parametrize("name", get_args(Course))
def test_a_run_of_one_epoch_has_the_first_value_and_later_epochs_the_last_one(name: str) -> None:
    assert course(name, 4.0, 1.0, epochs=1) == [4.0]
    table = Distillation(temperature=4.0, temperature_schedule=name)
    assert temperature_at(table, 9, 3) == temperature_at(table, 3, 3)


def test_alpha_has_the_same_schedules_and_a_warm_up() -> None:
    alphas = {
        name: [alpha_at(table, epoch, 5, ()) for epoch in range(1, 6)]
        for name in get_args(AlphaCourse)
        for table in [Distillation(alpha=0.8, alpha_schedule=name, alpha_end=0.2, alpha_warmup=4)]
    }
    for name in get_args(Course):
        assert alphas[name] == pytest.approx(course(name, 0.8, 0.2))
    assert alphas["warmup"] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert alphas["adaptive"] == [0.8] * 5


def test_an_adaptive_alpha_returns_only_below_the_lower_share() -> None:
    table = Distillation(alpha=0.8, alpha_schedule="adaptive", alpha_end=0.2)
    retentions = [0.94, 0.95, 0.91, 0.9, 0.899, 0.94, 0.96]
    alphas = [alpha_at(table, epoch, 9, retentions[:epoch]) for epoch in range(8)]
    assert alphas == [0.8, 0.8, 0.2, 0.2, 0.2, 0.8, 0.8, 0.2]
