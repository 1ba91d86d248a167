from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from kdtui.events import Event, Exited, Failed, Finished, Noted, Saved, Stopped, Visualized, Warned
from kdtui.store.history import MOST_CURVES, MOST_ENTRIES, MOST_POINTS, NEWEST, Curve, History
from tests.store.conftest import queued, started, trained, validated


def test_curves_are_keyed_by_split_and_name() -> None:
    history = History([queued(), started(), trained(5), validated(10, 0.3, 0.3, 0.4), trained(15)])
    assert history.curves["train/loss"].steps == [5, 15]
    assert history.curves["train/loss"].images == [20, 60]
    assert history.curves["val/miou"].values == [0.3]
    assert history.curves["val/miou"].last == 0.3
    assert history.step == 15
    assert history.epoch == 2
    assert not history.waiting


def test_what_was_not_finite_is_a_gap() -> None:
    history = History([started(), trained(5)])
    gap = trained(10)
    history.extend([type(gap)(**{**vars(gap), "scalars": {"loss": None}})])
    assert math.isnan(history.curves["train/loss"].values[-1])
    assert history.curves["train/loss"].last is None
    assert len(history.curves["train/loss"]) == 2


def test_a_resumed_attempt_voids_the_later_points_of_the_earlier_one() -> None:
    history = History(
        [
            started(),
            *(trained(step) for step in range(1, 31)),
            validated(10, 0.3, 0.3, 0.4),
            validated(30, 0.5, 0.5, 0.6),
        ]
    )
    history.extend([Saved(30, "best", "b"), Saved(20, "last", "l"), Stopped(30, 3), Exited(1, 0)])
    assert isinstance(history.word, Stopped)
    history.extend([queued(2)])
    assert history.waiting
    assert history.word is None
    assert history.exited is None
    history.extend([started(2, resumed=20)])
    assert history.curves["train/loss"].steps[-1] == 20
    assert history.curves["val/miou"].steps == [10]
    assert [saved.step for saved in history.saved] == [20]
    assert history.step == 20
    history.extend([trained(21)])
    assert history.curves["train/loss"].steps == list(range(1, 22))
    assert len(history.attempts) == 2


def test_a_run_that_starts_over_has_no_empty_curves() -> None:
    history = History([started(), trained(5), started(2, resumed=0)])
    assert history.curves == {}
    assert history.last_train is None


def test_exited_does_not_take_the_final_event_away() -> None:
    history = History([queued(), started(), Failed("DataError", "no"), Exited(1, 4)])
    assert isinstance(history.word, Failed)
    assert history.exited is not None
    history = History([started(), Finished(5, 1), Noted("n"), Visualized(1, "v")])
    assert isinstance(history.word, Finished)
    assert len(history.notes) == len(history.visualized) == 1


def test_piecewise_is_the_same_as_at_once() -> None:
    events = [queued(), started(), *(trained(step) for step in range(1, 20)), started(2, resumed=9), trained(10)]
    whole, pieces = History(events), History()
    for event in events:
        pieces.extend([event])
    assert whole.curves == pieces.curves
    assert (whole.step, whole.epoch, whole.last_event) == (pieces.step, pieces.epoch, pieces.last_event)


def test_a_warning_is_kept_once() -> None:
    warning = Warned("a", "the labels look wrong", "look at them")
    history = History([started(), warning, trained(1), Warned("a", "the labels look wrong", "look at them")])
    assert history.warnings == [warning]


def long_curve(count: int, gap: int | None = None) -> Curve:
    """A curve of ``count`` points around 0.5 with one low and one high value in its older part."""
    curve = Curve()
    for step in range(1, count + 1):
        value = {count // 3: -7.0, count // 2: 9.0}.get(step, 0.5 + 0.001 * (step % 97))
        curve.append(step, 16 * step, 100.0 + step, math.nan if step == gap else value)
    return curve


@pytest.mark.parametrize("count", [MOST_POINTS, MOST_POINTS + 1, 10 * MOST_POINTS, 150_000])
def test_a_long_curve_keeps_its_extremes_its_ends_and_a_bounded_number_of_points(count: int) -> None:
    curve = long_curve(count, gap=count // 4)
    assert len(curve) <= MOST_POINTS
    assert len(curve) >= min(count, MOST_POINTS // 4)
    assert len(curve.steps) == len(curve.images) == len(curve.times) == len(curve.values)
    assert curve.steps == sorted(set(curve.steps))
    assert curve.steps[0] == 1
    assert curve.last == 0.5 + 0.001 * (count % 97)
    assert curve.steps[-NEWEST:] == list(range(count - NEWEST + 1, count + 1))
    finite = [value for value in curve.values if not math.isnan(value)]
    assert (min(finite), max(finite)) == (-7.0, 9.0)
    assert curve.steps[curve.values.index(-7.0)] == count // 3
    assert math.isnan(curve.values[curve.steps.index(count // 4)])


def test_points_of_a_long_curve_are_spread_evenly() -> None:
    curve = long_curve(200_000)
    older = curve.steps[:-NEWEST]
    widest = max(after - before for before, after in itertools.pairwise(older))
    assert widest <= 4 * 200_000 * 2 / (MOST_POINTS / 4)


def test_a_long_curve_is_cut_where_a_resumed_attempt_starts_and_grows_again() -> None:
    curve = long_curve(5 * MOST_POINTS)
    curve.cut(MOST_POINTS)
    assert curve.steps[-1] <= MOST_POINTS
    for step in range(MOST_POINTS + 1, 4 * MOST_POINTS):
        curve.append(step, step, float(step), 1.0)
    assert len(curve) <= MOST_POINTS
    assert curve.steps == sorted(set(curve.steps))
    assert curve.values[-1] == 1.0


def test_a_curve_of_gaps_alone_is_bounded() -> None:
    curve = Curve()
    for step in range(5 * MOST_POINTS):
        curve.append(step, step, float(step), math.nan)
    assert len(curve) <= MOST_POINTS
    assert curve.last is None


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda n: Noted(f"note {n}"), "notes"),
        (lambda n: Saved(n, "last", "last.pth"), "saved"),
        (lambda n: Visualized(n, "pictures"), "visualized"),
        (lambda n: Warned("a", f"warning {n}"), "warnings"),
        (lambda n: started(n, resumed=0), "attempts"),
    ],
)
def test_entries_of_a_history_are_bounded(make: Callable[[int], Event], kept: str) -> None:
    history = History(make(n) for n in range(1, MOST_ENTRIES + 50))
    entries = getattr(history, kept)
    assert len(entries) == MOST_ENTRIES
    newest = make(1 if kept == "warnings" else MOST_ENTRIES + 49)
    assert {**vars(entries[0 if kept == "warnings" else -1]), "time": 0} == {**vars(newest), "time": 0}


def test_names_of_curves_are_bounded() -> None:
    history = History([started()])
    for first in range(0, 3 * MOST_CURVES, MOST_CURVES // 2):
        point = trained(1)
        scalars = {f"name{n}": 1.0 for n in range(first, first + MOST_CURVES // 2)}
        history.extend([type(point)(**{**vars(point), "scalars": scalars})])
    assert len(history.curves) == MOST_CURVES
