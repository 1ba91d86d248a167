from __future__ import annotations

import math

from kdtui.events import Exited, Failed, Finished, Noted, Saved, Stopped, Visualized, Warned
from kdtui.store.history import History
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


def test_exited_does_not_take_the_last_word_away() -> None:
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
