from __future__ import annotations

import dataclasses
import itertools

import pytest

from kdtui.store.event_log import Tail
from kdtui.store.history import History
from kdtui.store.run import Run
from kdtui.tui.views.colours import curve_colour, curve_dash
from kdtui.tui.views.curves import Shown, axis_end, horizon, metric_title, metrics, shown
from tests.tui.scenes import STEPS, TEACHER_MIOU, Scene


class Drawn:
    """Some runs with their rows and histories."""

    def __init__(self, scene: Scene, *runs: Run) -> None:
        self.ids = [run.id for run in runs]
        self.rows = {row.id: row for row in scene.store.summaries()}
        self.histories = {run.id: History(Tail(run.events_path).read()) for run in runs}

    def shown(self, metric: str, *ids: str, dark: bool = True) -> Shown:
        letters = dict(zip(self.ids, "ABC", strict=False))
        return shown(metric, ids or self.ids, self.rows, self.histories, letters, dark=dark)


@pytest.fixture
def drawn(scene: Scene) -> Drawn:
    teacher = scene.finished("b3-teacher", horizon=8)
    live = scene.running("b0-t4", teacher=teacher, epochs=3, horizon=8)
    stopped = scene.stopped("b0-t2", teacher=teacher, horizon=8)
    return Drawn(scene, live, stopped, teacher)


def test_one_run_is_drawn_over_steps_up_to_its_last_or_planned_step(drawn: Drawn) -> None:
    live, stopped, _ = drawn.ids
    only = drawn.shown("train/loss", live)
    (series,) = only.series
    curve = drawn.histories[live].curves["train/loss"]
    assert (series.xs, series.ys) == (curve.steps, curve.values)
    assert series.xs is curve.steps  # the live list: what is appended is drawn
    assert (only.x_label, only.x_max) == ("steps", 4 * STEPS)  # three of eight epochs: half of the way is shown
    assert drawn.shown("train/loss", stopped).x_max == drawn.shown("val/miou", stopped).x_max == 4 * STEPS


def test_several_runs_are_drawn_over_images_with_different_colours_and_dashes(drawn: Drawn) -> None:
    several = drawn.shown("train/loss")
    assert several.x_label == "images"
    assert [series.xs[-1] for series in several.series] == [3 * STEPS * 16, 4 * STEPS * 16, 8 * STEPS * 16]
    assert [series.letter for series in several.series] == ["A", "B", "C"]
    assert [series.label for series in several.series] == ["b0-t4", "b0-t2", "b3-teacher"]
    assert len({(series.colour, series.dash) for series in several.series}) == 3
    light = drawn.shown("train/loss", dark=False)
    assert {series.colour for series in light.series}.isdisjoint(series.colour for series in several.series)
    live = drawn.ids[0]
    drawn.rows[drawn.ids[1]] = dataclasses.replace(drawn.rows[live], id=drawn.ids[1])
    assert drawn.histories[drawn.ids[1]].curves["train/loss"].images[-1] == 8 * STEPS * 16 / 2  # in the middle
    assert drawn.shown("train/loss", *drawn.ids[:2]).x_max == 8 * STEPS * 16


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 8])
def test_the_charts_of_a_live_run_share_an_axis_that_its_curves_fill_by_half(scene: Scene, epochs: int) -> None:
    run = scene.running("long", teacher=scene.finished("b3"), epochs=epochs, horizon=64)
    drawn = Drawn(scene, run)
    (loss, miou) = (drawn.shown(metric).x_max for metric in ("train/loss", "val/miou"))
    reached = epochs * STEPS
    assert loss is not None and loss == miou
    assert reached <= loss <= 2 * reached
    assert 64 * STEPS in [loss * 2**halved for halved in range(7)]


def test_the_axis_of_a_run_without_values_ends_at_its_last_planned_step(scene: Scene) -> None:
    run = scene.queued("b0", horizon=64)
    scene.start(run)
    row, history = scene.store.summary(run), History(Tail(run.events_path).read())
    history.curves.clear()
    assert axis_end(row, history) == horizon(row, history) == 64 * STEPS


def test_a_run_without_the_curve_keeps_its_colour_free(drawn: Drawn) -> None:
    live, stopped, teacher = drawn.ids
    del drawn.histories[live]
    assert [series.key for series in drawn.shown("train/loss").series] == [stopped, teacher]
    assert [series.key for series in drawn.shown("train/loss.distill").series] == [stopped]
    assert drawn.shown("train/loss.distill").series[0].colour == curve_colour(1, dark=True)
    assert drawn.shown("nothing").series == ()
    assert drawn.shown("train/loss", "gone").series == ()


def test_the_teacher_is_a_reference_line_if_all_runs_share_it(drawn: Drawn) -> None:
    live, stopped, teacher = drawn.ids
    lines = drawn.shown("val/miou", live, stopped).references
    assert [(line.label, round(line.value, 4)) for line in lines] == [
        ("teacher", TEACHER_MIOU),
        ("95%", round(0.95 * TEACHER_MIOU, 4)),
    ]
    assert drawn.shown("train/loss", live).references == ()
    assert drawn.shown("val/miou", teacher).references == ()
    other = dataclasses.replace(drawn.rows[stopped], teacher_miou=0.5)
    drawn.rows[stopped] = other
    assert drawn.shown("val/miou", live, stopped).references == ()


def test_a_score_of_the_kind_of_network_has_the_line_of_its_teacher(drawn: Drawn) -> None:
    live = drawn.ids[0]
    metrics, of_teacher = {"target_iou": 0.4, "best_target_iou": 0.5}, {"target_iou": 0.6, "boxes": 7.0}
    drawn.rows[live] = dataclasses.replace(drawn.rows[live], metrics=metrics, teacher_metrics=of_teacher)
    for name in ("target_iou", "best_target_iou"):
        assert [line.value for line in drawn.shown(f"val/{name}", live).references] == [0.6, 0.95 * 0.6]
    assert drawn.shown("val/boxes", live).references == ()
    assert metric_title("val/best_target_iou") == "val best target IoU"


def test_the_newest_known_number_of_epochs_is_used(scene: Scene) -> None:
    run = scene.queued("b0", horizon=8)
    row, history = scene.store.summary(run), History(Tail(run.events_path).read())
    assert horizon(row, history) is None
    assert horizon(None, history) is None
    scene.start(run)
    history = History(Tail(run.events_path).read())
    assert horizon(None, history) == horizon(row, history) == 8 * STEPS
    assert horizon(dataclasses.replace(row, epochs=20), history) == 20 * STEPS


def test_metrics_are_ordered_and_have_titles(drawn: Drawn) -> None:
    names = metrics(drawn.histories.values())
    assert names[:4] == ["train/loss", "val/miou", "train/loss.base", "train/loss.distill"]
    assert sorted(names[4:]) == names[4:] and len(set(names)) == len(names)
    assert metrics([]) == metrics([History()]) == []
    titles = [metric_title(name) for name in names]
    assert len(set(titles)) == len(titles)
    assert titles[:3] == ["loss", "val mIoU", "loss: base"]
    assert metric_title("train/lr") == "learning rate"
    assert metric_title("val/iou.target") == "val IoU target"


def test_neighbours_differ_in_colour_and_dash() -> None:
    for dark in (True, False):
        for a, b in itertools.combinations(range(8), 2):
            assert curve_colour(a, dark=dark) != curve_colour(b, dark=dark)
    assert [curve_dash(index) for index in range(5)] == [0, 1, 2, 3, 0]
