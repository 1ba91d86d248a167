from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from kdtui.tui.widgets.bars import SplitBar
from kdtui.tui.widgets.distribution import Distribution, entropy, in_words, softened
from tests.tui.piloting import strips as screen_strips

EXAMPLE = [("target", 0.9), ("other", 0.08), ("background", 0.02)]


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield Distribution("example pixel")
        yield SplitBar()

    def text(self) -> str:
        return "\n".join(strip.text for strip in screen_strips(self))


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=6), st.floats(0.05, 50))
def test_it_is_the_softmax_of_the_logits_over_the_temperature(logits: list[float], temperature: float) -> None:
    def softmax(values: list[float]) -> list[float]:
        weights = [math.exp(value - max(values)) for value in values]
        return [weight / sum(weights) for weight in weights]

    expected = softmax([value / temperature for value in logits])
    assert softened(softmax(logits), temperature) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(st.floats(1, 20), st.floats(1.01, 3))
def test_a_higher_temperature_increases_the_entropy(temperature: float, factor: float) -> None:
    probabilities = [p for _, p in EXAMPLE]
    assert softened(probabilities, 1.0) == pytest.approx(probabilities)
    assert entropy(softened(probabilities, temperature * factor)) > entropy(softened(probabilities, temperature))


def test_an_impossible_class_stays_impossible() -> None:
    assert softened([1.0, 0.0], 1000.0) == [1.0, 0.0]


def test_the_description_matches_the_entropy() -> None:
    assert in_words([0.9, 0.08, 0.02], [1 / 3] * 3).endswith("→ nearly uniform")
    assert in_words([1.0, 0.0], [1.0, 0.0]) == "entropy 0.00 of 1.00 bits: nearly one-hot"


async def test_bars_follow_the_temperature_and_an_invalid_one_displays_none() -> None:
    app = Shown()
    async with app.run_test(size=(50, 12)) as pilot:
        picture = app.query_one(Distribution)
        picture.show(EXAMPLE, 1.0)
        await pilot.pause()
        assert "example pixel" in app.text()
        assert "0.9000" in app.text()
        picture.show(EXAMPLE, 4.0)
        await pilot.pause()
        assert "0.9000" not in app.text()
        assert "│" in app.text()
        for nothing in (None, 0.0, -1.0):
            picture.show(EXAMPLE, nothing)
            await pilot.pause()
            assert "target" not in app.text()


async def test_the_least_probable_of_many_classes_share_a_row() -> None:
    many = [("sky", 0.02), ("road", 0.5), ("car", 0.3), *((f"class {n}", 0.18 / 8) for n in range(8))]
    app = Shown()
    async with app.run_test(size=(50, 12)) as pilot:
        picture = app.query_one(Distribution)
        for temperature in (1.0, 1000.0):
            picture.show(many, temperature)
            await pilot.pause()
            rows = [line for line in app.text().splitlines() if "road" in line or "car" in line or "class 0" in line]
            (rest,) = [line for line in app.text().splitlines() if "8 others" in line]
            shown = [float(re.search(r"\d\.\d{4}", line).group()) for line in [*rows, rest]]  # type: ignore[union-attr]
            assert sum(shown) == pytest.approx(1, abs=2e-4)
        assert shown[-1] == pytest.approx(8 / 11, abs=1e-3)  # nearly uniform


@pytest.mark.parametrize("no_colour", [False, True])
async def test_the_split_shows_both_shares(monkeypatch: pytest.MonkeyPatch, no_colour: bool) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(52, 12)) as pilot:
        bar = app.query_one(SplitBar)
        for alpha in (0.0, 0.7, 1.0):
            bar.show(alpha)
            await pilot.pause()
            assert app.text().count("█") == round(alpha * 50)
            assert app.text().count("░") == 50 - round(alpha * 50)
            assert f"{alpha:g}·distill" in app.text()
        for nothing in (None, 1.1, -0.1):
            bar.show(nothing)
            await pilot.pause()
            assert "█" not in app.text()
