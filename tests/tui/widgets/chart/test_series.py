from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.tui.widgets.chart.braille import DASHES
from kdtui.tui.widgets.chart.scale import linear_axis
from kdtui.tui.widgets.chart.series import DotGrid, Trace

HEIGHT = 24
AXIS = linear_axis(-2, 2, intervals=4, room=5)
values = st.one_of(st.floats(-2, 2), st.sampled_from([math.nan, math.inf, -math.inf]))
steps = st.integers(0, 9)


def plotted(trace: Trace, grid: DotGrid, pattern: str = "1") -> list[int]:
    trace.scan(grid, positive=False)
    trace.plot(AXIS.placer(HEIGHT), AXIS, HEIGHT, pattern)
    return list(trace.masks)


def fresh(xs: list[int], ys: list[float], grid: DotGrid, smoothing: float = 0.0, pattern: str = "1") -> list[int]:
    trace = Trace()
    trace.follow(list(xs), list(ys), smoothing)
    return plotted(trace, grid, pattern)


@given(
    st.lists(st.tuples(steps, values), max_size=60),
    st.lists(st.integers(0, 12), max_size=8),
    st.sampled_from([DotGrid(0, 100, 30), DotGrid(0, 40, 7), DotGrid(50, 90, 40), DotGrid(-5, 0.5, 3)]),
    st.sampled_from([0.0, 0.9]),
    st.sampled_from(DASHES),
)
def test_a_trace_that_grows_equals_one_from_scratch(
    points: list[tuple[int, float]], portions: list[int], grid: DotGrid, smoothing: float, pattern: str
) -> None:
    xs: list[int] = []
    ys: list[float] = []
    trace = Trace()
    rest = iter(points)
    for portion in [*portions, len(points)]:
        for _, (step, value) in zip(range(portion), rest, strict=False):
            xs.append((xs[-1] if xs else 0) + step)
            ys.append(value)
        trace.follow(xs, ys, smoothing)
        before = list(trace.masks)
        trace.scan(grid, positive=False)
        changed = trace.plot(AXIS.placer(HEIGHT), AXIS, HEIGHT, pattern)
        assert trace.masks == fresh(xs, ys, grid, smoothing, pattern)
        if before:
            assert trace.masks[:changed] == before[:changed]


def grown(count: int) -> tuple[Trace, list[int], list[float]]:
    xs, ys = list(range(count)), [math.sin(index / 9) for index in range(count)]
    trace = Trace()
    trace.follow(xs, ys, 0.0)
    return trace, xs, ys


GRID = DotGrid(0, 300, 50)


def test_without_new_points_nothing_changes() -> None:
    trace, xs, ys = grown(200)
    plotted(trace, GRID)
    assert trace.follow(xs, ys, 0.0)
    trace.scan(GRID, positive=False)
    assert trace.plot(AXIS.placer(HEIGHT), AXIS, HEIGHT, "1") == GRID.count


def test_a_new_point_changes_the_last_columns_only() -> None:
    trace, xs, ys = grown(200)
    plotted(trace, GRID)
    xs.append(200)
    ys.append(1.0)
    assert trace.follow(xs, ys, 0.0)
    trace.scan(GRID, positive=False)
    assert GRID.column(200) - 2 <= trace.plot(AXIS.placer(HEIGHT), AXIS, HEIGHT, "1") <= GRID.column(200)


@pytest.mark.parametrize("pattern", DASHES)
@pytest.mark.parametrize("speed", [0.02, 0.4, 3.0])
def test_incremental_updates_equal_a_full_scan_and_return_the_first_change(pattern: str, speed: float) -> None:
    trace = Trace()
    xs: list[int] = []
    ys: list[float] = []
    before = [0] * GRID.count
    for x in range(300):
        xs.append(x)
        ys.append(1.9 * math.sin(x * speed))
        trace.follow(xs, ys, 0.0)
        trace.scan(GRID, positive=False)
        changed = trace.plot(AXIS.placer(HEIGHT), AXIS, HEIGHT, pattern)
        assert trace.masks == fresh(xs, ys, GRID, pattern=pattern)
        assert trace.masks[:changed] == before[:changed]
        before = list(trace.masks)


@pytest.mark.parametrize("smoothing", [0.0, 0.6])
def test_a_truncated_list_is_redrawn(smoothing: float) -> None:
    trace, xs, ys = grown(200)
    trace.follow(xs, ys, smoothing)
    plotted(trace, GRID)
    del xs[80:], ys[80:]
    assert not trace.follow(xs, ys, smoothing)
    assert plotted(trace, GRID) == fresh(xs, ys, GRID, smoothing)


def test_a_list_truncated_and_grown_beyond_its_old_length_is_redrawn() -> None:
    trace, xs, ys = grown(200)
    plotted(trace, GRID)
    del ys[80:]
    ys += [1.5] * 170
    xs += range(200, 250)
    assert not trace.follow(xs, ys, 0.0)
    assert plotted(trace, GRID) == fresh(xs, ys, GRID)


def test_other_lists_are_redrawn() -> None:
    trace, xs, ys = grown(200)
    plotted(trace, GRID)
    other = [-value for value in ys]
    assert not trace.follow(xs, other, 0.0)
    assert plotted(trace, GRID) == fresh(xs, other, GRID)


def test_gaps_at_the_end_do_not_look_like_another_list() -> None:
    trace, xs, ys = grown(20)
    xs.append(20)
    ys.append(math.nan)
    assert trace.follow(xs, ys, 0.0)
    assert trace.follow(xs, ys, 0.0)


def test_the_extent_is_that_of_the_visible_or_adjacent_points() -> None:
    trace = Trace()
    trace.follow([0, 10, 20, 30], [5.0, 1.0, 2.0, 9.0], 0.0)
    trace.scan(DotGrid(8, 22, 10), positive=False)
    assert trace.extent() == (1.0, 2.0)
    trace.scan(DotGrid(21, 29, 10), positive=False)
    assert trace.extent() == (2.0, 9.0)
    trace.follow([1, 2], [math.nan, -1.0], 0.0)
    trace.scan(DotGrid(0, 9, 10), positive=True)
    assert trace.extent() is None


def test_values_are_read_at_or_before_an_x() -> None:
    trace, _, ys = grown(20)
    assert trace.at(7.5) == ys[7]
    assert trace.at(7) == ys[7]
    assert trace.at(-1) is None


@given(st.floats(-1e300, 1e300), st.floats(1e-6, 1e300), st.integers(1, 200), st.floats(allow_nan=True))
def test_columns_ascend_and_hold_their_ends(low: float, span: float, count: int, x: float) -> None:
    high = low + max(span, abs(low) * 1e-9)
    grid = DotGrid(low, high, count)
    assert (grid.column(low), grid.column(high)) == (0, count - 1)
    assert (grid.column(x) < 0) == (x < low)
    assert (grid.column(x) >= count) == (not x <= high)
    assert grid.edges == sorted(grid.edges)
