from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from kdtui.tui.values import ReferenceLine, Series
from kdtui.tui.widgets.chart.painter import Painter
from kdtui.tui.widgets.chart.series import ChartState
from tests.tui.widgets.chart.painted import LOSS, SLOWER, curve, plot, text

numbers = st.one_of(
    st.floats(), st.sampled_from([0.0, 1.0, 1e-300, 1e300, -1e300, 5e-324, 1.7e308, math.nan, math.inf, -math.inf])
)
steps = st.one_of(st.integers(0, 1000), st.floats(0, 1e300), st.sampled_from([1e-300, 1.7e308, 0, 1, 1_755_786_611.9]))


@st.composite
def pictures(draw: st.DrawFn) -> ChartState:
    series = []
    for number in range(draw(st.integers(0, 4))):
        points = draw(st.lists(st.tuples(steps, numbers), max_size=12))
        xs = sorted(step for step, _ in points)
        letter = draw(st.sampled_from(["A", "B", "AB", "", "名", "\x1b"]))
        label = draw(st.text(max_size=12))
        ys = [value for _, value in points]
        series.append(Series(str(number), letter, label, xs, ys, "red", draw(st.integers(0, 5))))
    references = draw(st.lists(st.builds(ReferenceLine, numbers, st.text(max_size=8)), max_size=3))
    return ChartState(
        tuple(series),
        tuple(references),
        title=draw(st.text(max_size=12)),
        x_label=draw(st.sampled_from(["", "step", "時間", "\n"])),
        x_max=draw(st.one_of(st.none(), numbers)),
        places=draw(st.sampled_from([None, 0, 4])),
        log_y=draw(st.booleans()),
        smoothing=draw(st.sampled_from([0.0, 0.6, 0.99])),
    )


sizes = st.tuples(st.integers(0, 130), st.integers(0, 30))
moves = st.lists(st.sampled_from(["in", "out", "left", "right", "cursor left", "cursor right", "reset"]), max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(pictures(), min_size=1, max_size=3), st.lists(sizes, min_size=1, max_size=3), moves)
def test_nothing_it_is_given_breaks_it_or_its_rows(
    shown: list[ChartState], asked: list[tuple[int, int]], steps: list[str]
) -> None:
    painter = Painter()
    for picture in shown:
        for width, height in asked:
            painter.paint(picture, width, height)
            for step in steps:
                match step:
                    case "in":
                        painter.viewport.zoom(0.5)
                    case "out":
                        painter.viewport.zoom(2)
                    case "left" | "right":
                        painter.viewport.pan(0.25 if step == "right" else -0.25)
                    case "reset":
                        painter.viewport.reset()
                    case _:
                        sign = 1 if step == "cursor right" else -1
                        painter.viewport.move_cursor(sign * painter.cell_width, painter.axes)
            canvas = painter.paint(picture, width, height)
            assert len(canvas.chars) == height
            for y, row in enumerate(canvas.chars):
                assert cell_len("".join(row)) == width
                assert "".join(row).isprintable()
                assert "".join(part for part, _ in canvas.runs(y)) == "".join(row)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 5), max_size=9), min_size=1, max_size=6), st.integers(0, 3), st.booleans())
def test_an_updated_picture_equals_one_painted_from_scratch(portions: list[list[float]], dash: int, log: bool) -> None:
    xs: list[int] = []
    ys: list[float] = []
    other = [2.0, 3.0]
    painter = Painter()
    # The range of y holds still on purpose; lines at its ends keep it still in both.
    ends = (ReferenceLine(0.01, "low"), ReferenceLine(5.0, "high"))
    for portion in portions:
        xs += range(len(xs), len(xs) + len(portion))
        ys += portion
        live = (Series("a", "A", "live", xs, ys, "red", dash), Series("b", "B", "still", [3, 9], other, "blue"))
        whole = tuple(replace(series, xs=list(series.xs), ys=list(series.ys)) for series in live)
        canvas = painter.paint(ChartState(live, ends, x_max=60, log_y=log), 70, 9)
        scratch = Painter().paint(ChartState(whole, ends, x_max=60, log_y=log), 70, 9)
        assert canvas.text() == scratch.text()
        assert canvas.inks == scratch.inks


def test_the_axis_does_not_move_while_a_curve_grows() -> None:
    painter = Painter()
    series = curve([])
    rows = set()
    for loss in LOSS:
        assert isinstance(series.xs, list)
        assert isinstance(series.ys, list)
        series.xs.append(len(series.xs) + 1)
        series.ys.append(loss)
        rows.add(painter.paint(ChartState((series,), x_max=40), 78, 8).text().splitlines()[-1])
    assert len(rows) == 1


def test_without_a_horizon_the_axis_moves_in_few_steps() -> None:
    painter = Painter()
    xs: list[int] = []
    ys: list[float] = []
    rows = []
    for step in range(1, 400):
        xs.append(step)
        ys.append(1.0)
        rows.append(painter.paint(ChartState((Series("a", "A", "a", xs, ys, "red"),)), 78, 8).text().splitlines()[-1])
    assert len(set(rows)) < 40


def test_the_later_curve_colours_a_shared_cell_and_all_dots_are_drawn() -> None:
    first, second = curve([1.0] * 40, colour="red"), curve([1.0] * 40, "B", colour="blue")
    canvas = Painter().paint(ChartState((first, second), x_max=80), 50, 8)
    inks = {
        ink for row, line in enumerate(canvas.inks) for ink in line if plot(canvas.text()).splitlines()[row].strip()
    }
    assert "=blue" in inks
    braille = [
        canvas.inks[y][x]
        for y, row in enumerate(plot(canvas.text()).splitlines())
        for x, char in enumerate(row)
        if char != " "
    ]
    assert set(braille) == {"=blue"}


def test_each_curve_has_its_letter_at_its_end() -> None:
    series = tuple(curve([0.5] * 9, letter, f"run {letter.lower()}") for letter in "ABCDEF")
    canvas = Painter().paint(ChartState(series, x_max=20), 40, 8)
    rows = canvas.text().splitlines()[1:7]
    assert all(any(letter in row for row in rows) for letter in "ABCDEF")


def test_dashes_distinguish_curves_without_colour() -> None:
    dumps = {plot(text(ChartState((curve(LOSS, dash=dash),), x_max=40))) for dash in range(4)}
    assert len(dumps) == 4


def test_the_legend_has_the_unsmoothed_last_value() -> None:
    assert "9.87" in text(ChartState((curve([1.0] * 30 + [9.87]),), smoothing=0.9))
    assert "nan" in text(ChartState((curve([1.0, math.nan]),)))


def test_smoothing_reduces_noise() -> None:
    noisy = [1.0 + (-1) ** number for number in range(400)]

    def height(smoothing: float) -> int:
        return sum(
            bool(row.strip())
            for row in plot(text(ChartState((curve(noisy),), smoothing=smoothing), 78, 20)).split("\n")
        )

    ends = (ReferenceLine(0.0, ""), ReferenceLine(2.0, ""))
    assert text(ChartState((curve(noisy),), ends)) != text(ChartState((curve(noisy),), ends, smoothing=0.9))
    assert height(0.0) == 18


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (ChartState(), "no values yet"),
        (ChartState((curve([]),)), "no values yet"),
        (ChartState((curve([math.nan, math.inf]),)), "no finite value in view"),
        (ChartState((curve([-1.0, 0.0]),), log_y=True), "log: no value above 0"),
        (ChartState((curve([1.0]),), log_y=True, smoothing=0.6), "log · smooth .6"),
    ],
)
def test_a_missing_curve_is_explained(picture: ChartState, said: str) -> None:
    assert said in text(picture)


def test_a_log_axis_draws_what_is_above_zero() -> None:
    dump = text(ChartState((curve([-1.0, 0.0, 1.0, 10.0, 100.0, 0.0]),), log_y=True))
    assert plot(dump).strip()
    assert "100" in dump
    assert "no value" not in dump


def test_foreign_text_is_displayed_literally() -> None:
    dump = text(ChartState((curve([1.0], label="[red]a\x1b[31m\nb"),), title="[b]x\x07"))
    assert "[red]a[31m b" in dump
    assert "[b]x" in dump
    assert "\x1b" not in dump


def test_a_wide_character_is_not_cut_in_two() -> None:
    picture = ChartState((curve([1.0, 2.0], label="名前名前名前"),), title="名前名前名前名前名前名前")
    for edge in range(1, 78):
        canvas = Painter().paint(picture, 78, 8, [edge])
        assert all(row[edge] != "" for row in canvas.chars)
        assert all(cell_len("".join(row)) == 78 for row in canvas.chars)


def test_a_cursor_reads_every_curve() -> None:
    painter = Painter()
    picture = ChartState((curve(LOSS), curve(SLOWER, "B")), title="both", x_label="epoch", x_max=80)
    painter.paint(picture, 78, 8)
    painter.viewport.place_cursor(10)
    title = painter.paint(picture, 78, 8).text().splitlines()[0]
    assert title == "both  epoch 10  A .854  B .316"
    painter.viewport.place_cursor(35)
    assert "B -" in painter.paint(picture, 78, 8).text().splitlines()[0]


def test_zooming_fits_the_y_range_to_the_view() -> None:
    painter = Painter()
    picture = ChartState((curve(LOSS),), x_max=40)
    wide = painter.paint(picture, 78, 8).text()
    painter.viewport.zoom(0.25)
    painter.refit()
    near = painter.paint(picture, 78, 8).text()
    assert "2.0┤" in wide
    assert "2.0┤" not in near
    assert "zoom" in near
    painter.viewport.reset()
    painter.refit()
    assert painter.paint(picture, 78, 8).text() == wide


def test_other_curves_get_a_new_range() -> None:
    painter = Painter()
    painter.paint(ChartState((curve([0.1, 2.0]),), x_max=2), 78, 8)
    same_run = ChartState((curve([0.4, 1.3]),), x_max=2)
    assert painter.paint(same_run, 78, 8).text() == text(same_run)


def test_integers_have_integer_ticks() -> None:
    xs, ys = [1, 2, 3], [3, 4, 5]
    dump = text(ChartState((Series("a", "A", "epochs", xs, ys, "red"),), x_max=3))
    assert "." not in dump
