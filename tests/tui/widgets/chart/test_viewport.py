from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.tui.widgets.chart.viewport import Viewport, nearest

XS = [0, 10, 20, 30, 40, 50, 60]
AXES = [(XS, len(XS))]


def viewport(low: float = 0, high: float = 100, last: float = 60) -> Viewport:
    view = Viewport()
    view.fit(low, high, last)
    return view


moves = st.sampled_from(["in", "out", "left", "right", "cursor left", "cursor right", "grow"])


@given(st.lists(moves, max_size=40), st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_the_view_is_always_within_the_axis(steps: list[str], low: float, span: float) -> None:
    high = low + span
    last = low + span / 2
    view = viewport(low, high, last)
    axes = [([low, last], 2)]
    for step in steps:
        match step:
            case "in":
                view.zoom(0.5)
            case "out":
                view.zoom(2)
            case "left":
                view.pan(-0.25)
            case "right":
                view.pan(0.25)
            case "cursor left":
                view.move_cursor(-span / 50, axes)
            case "cursor right":
                view.move_cursor(span / 50, axes)
            case "grow":
                last = min(last + span / 7, high)
                axes = [([*axes[0][0], last], len(axes[0][0]) + 1)]
                view.fit(low, high, last)
        left, right = view.span
        assert view.low <= left < right <= view.high
        assert view.zoomed == (view.span != (view.low, view.high))
        if view.cursor is not None:
            assert view.low <= view.cursor <= view.high


def test_zooming_shows_the_last_point_with_a_margin() -> None:
    view = viewport()
    view.zoom(0.5)
    left, right = view.span
    assert right - left == 50
    assert left < 60 < right


def test_a_view_of_the_end_follows_it_in_steps() -> None:
    view = viewport()
    view.zoom(0.25)
    seen = []
    for last in range(60, 100):
        view.fit(0, 100, last)
        left, right = view.span
        assert left <= last <= right
        seen.append(view.span)
    assert len(set(seen)) <= 6


def test_a_view_of_earlier_points_does_not_move() -> None:
    view = viewport()
    view.zoom(0.25)
    view.pan(-1)
    before = view.span
    view.fit(0, 100, 100)
    assert view.span == before


def test_zooming_keeps_the_cursor_where_it_is() -> None:
    view = viewport()
    view.place_cursor(30)
    view.zoom(0.5)
    assert view.span == (15, 65)
    view.zoom(2)
    assert not view.zoomed


def test_zooming_in_is_limited() -> None:
    view = viewport()
    for _ in range(200):
        view.zoom(0.5)
    left, right = view.span
    assert right - left > 1e-6
    for _ in range(200):
        view.zoom(2)
    assert view.span == (0, 100)


def test_the_cursor_starts_at_an_end_of_the_view_and_moves_between_points() -> None:
    view = viewport()
    view.move_cursor(-3, AXES)
    assert view.cursor == 60
    view.move_cursor(-3, AXES)
    assert view.cursor == 50
    view.move_cursor(-14, AXES)
    assert view.cursor == 30
    view.move_cursor(3, AXES)
    assert view.cursor == 40
    view.reset()
    view.move_cursor(3, AXES)
    assert view.cursor == 0
    view.move_cursor(-3, AXES)
    assert view.cursor == 0


def test_the_view_follows_the_cursor() -> None:
    view = viewport()
    view.place_cursor(50)
    view.zoom(0.25)
    for _ in range(4):
        view.move_cursor(-1, AXES)
    assert view.cursor == 10
    left, right = view.span
    assert left <= 10 <= right


def test_without_points_there_is_no_cursor() -> None:
    view = viewport()
    view.move_cursor(-1, [([], 0)])
    assert view.cursor is None
    assert nearest(3, [([], 0)]) is None


def test_a_slightly_changed_end_is_kept() -> None:
    view = viewport(0, 1000, 500)
    view.fit(0, 1000.7, 510)
    assert view.span == (0, 1000)
    view.fit(0, 1200, 520)
    assert view.span == (0, 1200)
    view.fit(0, 1200.5, 1200.2)  # a point is never left out
    assert view.span == (0, 1200.5)


def test_a_view_outside_a_new_axis_is_reset() -> None:
    view = viewport()
    view.place_cursor(60)
    view.zoom(0.25)
    view.fit(0, 20, 20)
    assert not view.zoomed
    assert view.cursor is None


@pytest.mark.parametrize(("x", "point"), [(-9, 0), (14, 10), (16, 20), (99, 60)])
def test_the_nearest_point(x: float, point: float) -> None:
    assert nearest(x, [*AXES, ([], 0)]) == point
