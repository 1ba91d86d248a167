from __future__ import annotations

import pytest

from kdtui.engine.schedules import warmup_cosine


def test_it_rises_linearly_to_the_peak_and_falls_towards_zero() -> None:
    factors = [warmup_cosine(step, 100, warmup=0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0.0 < factors[-1] < 0.001


def test_half_way_down_is_half_the_peak() -> None:
    assert warmup_cosine(55, 100, warmup=0.1) == pytest.approx(0.5)


def test_without_warmup_it_starts_at_the_peak() -> None:
    assert warmup_cosine(0, 10, warmup=0.0) == 1.0


def test_a_step_beyond_the_horizon_trains_nothing() -> None:
    assert warmup_cosine(120, 100, warmup=0.1) == 0.0
