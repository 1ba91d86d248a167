from __future__ import annotations

import math
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.geometry import Region

from kdtui.tui.widgets.chart.scatter import Cloud, Dot, Scatter, paint
from tests.tui.piloting import strips as screen_strips

DOTS = (
    Dot("quick", "a", 10.0, 0.60),
    Dot("good", "b", 20.0, 0.70),
    Dot("neither", "c", 30.0, 0.55, front=False),
    Dot("best", "d", 80.0, 0.75),
)


def place(text: str, letter: str) -> tuple[int, int]:
    """Column and row of a letter in the plot."""
    rows = text.splitlines()[1:-1]
    return next((row.index(letter), y) for y, row in enumerate(rows) if letter in row)


def test_points_are_at_their_values() -> None:
    text = paint(Cloud(DOTS, "mIoU"), 60, 16).text()
    quick, good, neither, best = (place(text, letter) for letter in "abcd")
    assert quick[0] < good[0] < neither[0] < best[0]
    assert best[1] < good[1] < quick[1] < neither[1]
    assert text.startswith("mIoU\n") and "no room" not in text


def test_points_of_the_front_are_joined_and_dominated_ones_are_not() -> None:
    canvas = paint(Cloud(DOTS), 60, 16)
    assert "┘" in canvas.text()
    inks = {canvas.chars[y][x]: canvas.inks[y][x] for y in range(1, 15) for x in range(60)}
    assert inks["a"].startswith("best") and inks["c"].startswith("worse") and inks["┘"] == "front"
    alone = paint(Cloud((DOTS[0], DOTS[2])), 60, 16)
    assert not any(ink == "front" for row in alone.inks for ink in row)


def test_a_logarithmic_scale_spreads_the_cheap_points() -> None:
    linear, log = (paint(Cloud(DOTS, log=log), 60, 16).text() for log in (False, True))
    gap = [place(text, "b")[0] - place(text, "a")[0] for text in (linear, log)]
    assert gap[1] > gap[0]
    below_zero = (Dot("a", "a", -1.0, 0.5), Dot("b", "b", 5.0, 0.6))
    assert paint(Cloud(below_zero, log=True), 60, 16).text() == paint(Cloud(below_zero), 60, 16).text()


def test_letters_at_one_position_are_moved_and_hidden_ones_are_counted() -> None:
    text = paint(Cloud(tuple(Dot(letter, letter, 1.0, 1.0) for letter in "xyz")), 40, 12).text()
    assert all(text.count(letter) == 1 for letter in "xyz")
    many = paint(Cloud(tuple(Dot(str(n), "w", 1.0, 1.0) for n in range(30))), 60, 12).text()
    (_, _, told) = many.splitlines()[0].partition("· ")
    shown = sum(line.count("w") for line in many.splitlines()[1:])
    assert told == f"{30 - shown} more points, no room"


def test_the_selected_point_is_visible_among_overlapping_ones() -> None:
    dots = tuple(Dot(str(n), chr(ord("A") + n), 1.0, 1.0) for n in range(20))
    canvas = paint(Cloud(dots, selected="19"), 60, 12)
    (found,) = [ink for row in canvas.inks for ink in row if ink.startswith("chosen")]
    assert found and "T" in canvas.text()


def test_one_point_no_points_and_nan() -> None:
    assert paint(Cloud(DOTS[:1]), 40, 10).text().count("a") == 1
    assert "nothing here" in paint(Cloud(empty="nothing here"), 40, 10).text()
    odd = (Dot("nan", "n", math.nan, 0.5), Dot("inf", "i", math.inf, 0.5))
    assert "nothing here" in paint(Cloud(odd, empty="nothing here"), 40, 10).text()


def test_foreign_text_is_displayed_literally() -> None:
    assert "\x1b" not in paint(Cloud((), "a\x1b[31mtitle\n", "em\x1b]pty"), 40, 10).text()


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e9), st.floats(0, 1), st.booleans()), max_size=30),
    st.integers(0, 70),
    st.integers(0, 20),
    st.booleans(),
)
def test_any_points_at_any_size(points: list[tuple[float, float, bool]], width: int, height: int, log: bool) -> None:
    dots = tuple(Dot(str(n), "•", x, y, front=front) for n, (x, y, front) in enumerate(points))
    canvas = paint(Cloud(dots, "title", "empty", None, log), width, height)
    assert (canvas.width, canvas.height) == (width, height)
    text = canvas.text()
    if dots and width >= 40 and height >= 5:
        left = text.splitlines()[-1].index("└")
        assert all("•" not in row[: left + 1] for row in text.splitlines()[1:])
        assert "•" not in text.splitlines()[-1]
        assert "•" in text


class Plain(App[None]):
    def compose(self) -> ComposeResult:
        yield Scatter()


def seen(app: App[None]) -> str:
    return "\n".join(strip.text.rstrip() for strip in screen_strips(app))


@pytest.mark.parametrize("colours", [True, False])
async def test_the_chart_fills_its_container_and_follows_its_size(
    colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    app = Plain()
    async with app.run_test(size=(60, 16)) as pilot:
        scatter = app.query_one(Scatter)
        scatter.show([*DOTS, Dot("blue", "e", 40.0, 0.65, "#56b4e9", front=False)], title="mIoU", selected="good")
        await pilot.pause()
        assert seen(app) == paint(scatter.cloud, 60, 16).text()
        await pilot.resize_terminal(30, 8)
        await pilot.pause()
        assert seen(app) == paint(scatter.cloud, 30, 8).text()
        await pilot.resize_terminal(1, 1)
        await pilot.pause()
        assert seen(app) == "…"
        await pilot.resize_terminal(60, 16)
        scatter.log_x = True
        await pilot.pause()
        assert scatter.cloud.log and seen(app) == paint(scatter.cloud, 60, 16).text()


class Counting(Scatter):
    """Keeps the regions it was asked to write."""

    def __init__(self) -> None:
        self.asked: list[tuple[Region, ...]] = []
        super().__init__()

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        self.asked.append(regions)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)


class Counted(App[None]):
    def compose(self) -> ComposeResult:
        yield Counting()


async def test_only_cells_that_changed_are_written() -> None:
    app = Counted()
    async with app.run_test(size=(60, 16)) as pilot:
        scatter = app.query_one(Counting)
        scatter.show(DOTS, title="mIoU")
        await pilot.pause()
        scatter.asked.clear()
        scatter.show(DOTS, title="mIoU")
        assert scatter.asked == []
        scatter.show(DOTS, title="mIoU", selected="good")
        assert [[region.area for region in regions] for regions in scatter.asked] == [[1]]
