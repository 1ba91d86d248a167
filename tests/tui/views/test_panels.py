from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdtui.events import Failed, Finished, Measured, Noted, Started
from kdtui.store.history import History
from kdtui.store.state import RunSummary, State
from kdtui.tui.form.tables import registered
from kdtui.tui.screens.run.curves import View, curves_of
from kdtui.tui.values import TextLine
from kdtui.tui.views import panels

ROW = RunSummary(
    id="20260101-120000-b0",
    name="b0",
    path=Path("/runs/b0"),
    state=State.RUNNING,
    epoch=2,
    epochs=4,
    miou=0.60,
    best_miou=0.66,
    retention=0.8,
    agreement=0.9,
    teacher_miou=0.75,
    teacher_parameters=300,
    parameters=100,
    temperature=4.0,
    alpha=0.0,
    distilled=True,
    eta_seconds=90.0,
    images_per_second=50.0,
)


def started(attempt: int = 1, resumed: int = 0, **changes: Any) -> Started:
    fields: dict[str, Any] = {
        "attempt": attempt,
        "ranks": (),
        "device": "cpu",
        "precision": "fp32",
        "threads": 2,
        "world_size": 1,
        "epochs": 4,
        "steps_per_epoch": 10,
        "resumed_step": resumed,
        "student": {"parameters": 100},
        "teacher": {"parameters": 300, "miou": 0.75, "iou": {"person": 0.7, "[b]": None}},
        "time": 100.0,
    }
    return Started(**{**fields, **changes})


def trained(step: int, **scalars: float | None) -> Measured:
    values: dict[str, float | None] = {"loss": 1.0 / step, "loss.base": 0.5, "loss.distill": 0.25}
    values |= {"loss.distill.target_nontarget": 0.1, "lr": 0.001, "temperature": 4.0, "alpha": 0.0}
    values |= {"gradient_norm": 1.0, "images_per_second": 50.0, **scalars}
    return Measured("train", step, 1 + (step - 1) // 10, step * 16, values, time=100.0 + step)


def validated(step: int, **scalars: float | None) -> Measured:
    values: dict[str, float | None] = {"miou": 0.6, "best_miou": 0.66, "best_epoch": 1.0, "dice": 0.7, **scalars}
    return Measured("val", step, step // 10, step * 16, values, 4, time=100.5 + step)


def text(lines: Sequence[TextLine]) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def words(lines: Sequence[TextLine]) -> dict[str, list[str]]:
    """First column to the others."""
    return {line[0][0].strip(): "".join(part for part, _ in line[1:]).split() for line in lines}


def test_losses_are_displayed_with_their_value_an_epoch_ago() -> None:
    history = History([started(), *(trained(step) for step in range(1, 16))])
    found = words(panels.losses(history))
    assert found["total"] == [f"{1 / 15:.4f}", f"{1 / 5:.4f}"]
    assert found["target_nontarget"] == ["0.1000", "0.1000"]
    assert [*found][1:] == ["total", "base", "distillation", "target_nontarget", "gradient norm"]


def test_within_the_first_epoch_there_is_nothing_to_compare_losses_with() -> None:
    found = words(panels.losses(History([started(), trained(5), trained(9)])))
    assert found["total"] == [f"{1 / 9:.4f}", "-"]


def test_nan_and_huge_losses_fit_their_column() -> None:
    history = History([started(), trained(1, loss=None, **{"loss.base": 1.5e12})])
    found = words(panels.losses(history))
    assert found["total"][0] == "nan"
    assert found["base"][0] == "1.5e+12"
    assert max(map(len, text(panels.losses(history)).splitlines())) <= 37  # a column of 80x24


def test_an_alpha_of_zero_is_shown() -> None:
    assert words(panels.rates(ROW, History([started(), trained(1)])))["distillation α"] == ["0.00"]
    assert words(panels.rates(ROW, None)) == {"temperature T": ["4.00"], "distillation α": ["0.00"]}
    assert panels.rates(replace(ROW, distilled=False), None) == []


@pytest.mark.parametrize(
    ("row", "history", "share", "said"),
    [
        (ROW, History([started(), trained(10)]), 0.25, "2/4 eta 1m30s"),
        (replace(ROW, eta_seconds=None), None, 0.5, "epoch 2/4"),
        (replace(ROW, epoch=None, epochs=None, eta_seconds=None), None, None, "epoch 0/?"),
        (replace(ROW, epochs=1), History([started(), trained(40)]), 1.0, "2/1 eta 1m30s"),
    ],
)
def test_progress(row: RunSummary, history: History | None, share: float | None, said: str) -> None:
    assert panels.progress(row, history) == (share, said)


def test_speed_leaves_out_unknown_values() -> None:
    history = History([started(), trained(1), trained(2, images_per_second=150.0)])
    found = words(panels.speed(replace(ROW, data_wait=0.125), history))
    assert found["images/s"] == ["150.0", "mean", "100.0"]
    assert found["step"] == ["2", "of", "40"]
    assert found["data wait"] == ["12.5%", "of", "the", "time", "of", "a", "step"]
    assert found["runs on"] == ["cpu", "fp32,", "2", "threads"]
    assert panels.speed(replace(ROW, epoch=None, eta_seconds=None, data_wait=None), None) == []


def test_scores_are_displayed_with_the_teachers_and_the_expected_share() -> None:
    found = words(panels.scores(ROW, History([started(), validated(10)])))
    assert found["best mIoU"] == ["0.6600", "epoch", "1"]
    assert found["teacher"] == ["0.7500", "95%", "is", f"{0.95 * 0.75:.4f}"]
    assert found["last mIoU"] == ["0.6000"]
    assert found["retention"] == ["88.0%", "last", "80.0%"]
    assert found["Dice"] == ["0.7000"]


def test_the_score_of_the_kind_of_network_comes_first() -> None:
    metrics = {"target_iou": 0.4, "mask_ap": 0.2, "best_target_iou": 0.5}
    lines = panels.scores(replace(ROW, metrics=metrics, best_metrics={"target_iou": 0.5}), None)
    labels = [label.strip() for (label, _), *_ in lines]
    assert labels[:3] == ["best target IoU", "mIoU then", "last mIoU"]
    assert labels[-2:] == ["target IoU", "mask AP"]
    assert lines[0][1][0].strip() == "0.5000"


def test_retention_is_that_of_the_score_of_the_kind_of_network() -> None:
    metrics = {"target_iou": 0.4, "best_target_iou": 0.5}
    row = replace(ROW, best_miou=0.9, teacher_miou=0.9, metrics=metrics, best_metrics={"target_iou": 0.5})
    assert row.best_retention is None
    row = replace(row, teacher_metrics={"target_iou": 0.8})
    assert row.best_retention == 0.625
    text = "\n".join("".join(part for part, _ in line) for line in panels.scores(row, None))
    assert "0.8000" in text and "62.5%" in text and "last" not in text.split("62.5%")[1]


def test_the_tone_shows_whether_the_expected_share_is_reached() -> None:
    def tone(best: float) -> str:
        lines = panels.scores(replace(ROW, best_miou=best), None)
        return next(tone for (label, _), (_, tone), *_ in lines if label.startswith("retention"))

    assert (tone(0.72), tone(0.70)) == ("good", "warn")


def test_without_a_teacher_none_is_mentioned() -> None:
    alone = replace(ROW, teacher_miou=None, retention=None, agreement=None)
    assert "teacher" not in text(panels.scores(alone, None))


def test_classes_keep_their_order_and_their_gaps() -> None:
    history = History([started(), validated(10, **{"iou.person": 0.5, "iou.[b]": None})])
    assert panels.class_bars(ROW, history) == [("person", 0.5, 0.7), ("[b]", None, None)]
    assert panels.class_bars(replace(ROW, best_iou={"a": 0.1}), None) == [("a", 0.1, None)]
    huge = replace(started(), teacher={"iou": {"person": 10**400}})  # more than a float holds, and valid JSON
    assert panels.class_bars(ROW, History([huge, validated(10, **{"iou.person": 0.5})])) == [("person", 0.5, None)]


def test_bars_have_the_colours_of_the_run_if_each_class_has_one() -> None:
    def colours(written: object, classes: int = 2) -> list[str]:
        student = {**started().student, "class_colours": written}
        return panels.bar_colours(classes, History([replace(started(), student=student)]))

    own = ["#804080", "#00ff00"]
    assert colours(own) == own
    for other in (None, own[:1], [*own, "#000000"], ["#804080", 7], ["red", "#00ff00"], "#804080"):
        assert colours(other) == ["", ""]
    assert panels.bar_colours(1, None) == [""]


def test_checkpoints_are_listed_with_their_sizes_and_the_total() -> None:
    sizes = {"best_model.pth": 2**20, "last.pth": 3 * 2**20}
    assert text(panels.checkpoints(sizes, 3 * 2**20)).split("\n") == [
        "    1.0 MiB best_model.pth",
        "    3.0 MiB last.pth",
        "    3.0 MiB on disk",
    ]
    assert panels.checkpoints({}, 0) == []


def test_a_failure_is_displayed_in_full_with_the_next_command() -> None:
    history = History([started(), Failed("DataError", "no masks\n  where: /data\n  found: 0", "`kdtui logs RUN`")])
    row = replace(ROW, state=State.FAILED, error="DataError", hint="`kdtui logs RUN`", detail="no masks where: /data")
    lines = panels.failure(row, history, "")
    assert text(lines).splitlines() == [
        "✗ DataError: no masks",
        "  where: /data",
        "  found: 0",
        f"next: `kdtui logs {ROW.id}`",
    ]


@pytest.mark.parametrize(
    ("row", "unreadable", "told"),
    [
        (None, "", "removed"),
        (replace(ROW, state=State.FAILED, detail="killed by SIGKILL"), "", "killed by SIGKILL"),
        (replace(ROW, state=State.LOST, detail="its processes are gone"), "", "kdtui resume"),
        (replace(ROW, state=State.NEVER_LAUNCHED, detail="run.json is damaged"), "", "run.json is damaged"),
        (ROW, "Is a directory", "Is a directory"),
    ],
)
def test_every_error_is_reported(row: RunSummary | None, unreadable: str, told: str) -> None:
    assert told in text(panels.failure(row, None, unreadable))


@pytest.mark.parametrize("state", [State.RUNNING, State.FINISHED, State.STOPPED, State.QUEUED])
def test_without_errors_nothing_is_displayed(state: State) -> None:
    detail = "no events for 4 min" if state is State.RUNNING else ""
    assert panels.failure(replace(ROW, state=state, detail=detail), None, "") == []


def test_remarks_are_tags_note_and_notices_of_the_run() -> None:
    jump = Noted("the learning rate goes from 0 to 0.001", time=100.0)
    row = replace(ROW, tags=("a", "b"), notes="good one")
    told = text(panels.remarks(row, History([started(), jump]))).splitlines()
    assert told[:2] == ["#a #b", "good one"] and told[2].endswith(jump.message)
    assert panels.remarks(replace(ROW, tags=(), notes=""), None) == []


def test_every_attempt_and_the_end_have_a_line() -> None:
    events = [started(), trained(20), started(2, resumed=10, epochs=8), Finished(80, 8)]
    row = replace(ROW, state=State.FINISHED, last_event=200.0, detail="")
    first, second, end = text(panels.attempts(row, History(events))).splitlines()
    assert "from the beginning to epoch 4" in first
    assert second.startswith("2 ") and "from step 10 to epoch 8" in second
    assert end.startswith("✓ finished")


def test_one_line_has_the_numbers_that_are_not_in_the_curves() -> None:
    line = panels.newest(ROW, History([started(), trained(10)]))
    assert line == "loss 0.1000 · 88.0% of teacher · lr 0.001 · 50.0 images/s · step 10/40"
    assert panels.newest(replace(ROW, retention=None, teacher_miou=None, images_per_second=None), None) == ""


def test_the_upper_chart_starts_with_the_losses_and_cycles_through_every_training_curve() -> None:
    history = History([started(), trained(1, **{"loss.distill.logits": 0.2}), validated(10)])
    views = panels.loss_views(list(history.curves))
    assert views[0] == ("losses", ("train/loss", "train/loss.base", "train/loss.distill"))
    assert views[1][1] == ("train/loss.distill.logits", "train/loss.distill.target_nontarget")
    alone = [names[0] for _, names in views if len(names) == 1]
    assert sorted(alone) == sorted(name for name in history.curves if name.startswith("train/"))


def test_losses_without_labels_are_parts_of_their_own() -> None:
    unlabelled = {"loss.unlabelled": 0.4, "loss.unlabelled.hard": 0.3, "loss.unlabelled.kl": 0.1, "confident": 0.75}
    history = History([started(), trained(1, **unlabelled)])
    shown = words(panels.losses(history))
    assert [shown[name][0] for name in ("unlabelled", "hard", "kl", "confident pixels")] == [
        "0.4000", "0.3000", "0.1000", "0.7500"
    ]  # fmt: skip
    views = dict(panels.loss_views(list(history.curves)))
    assert views["losses"] == ("train/loss", "train/loss.base", "train/loss.distill", "train/loss.unlabelled")
    assert views["terms without labels"] == ("train/loss.unlabelled.hard", "train/loss.unlabelled.kl")


def test_terms_of_any_name_are_in_the_panel_and_in_the_charts() -> None:
    terms = {"loss.base.focal": 0.1, "loss.base.ce": 0.3, "loss.distill.loss": 0.2, "loss.distill.deep_features": 0.4}
    history = History([started(), trained(1, **terms)])
    shown = words(panels.losses(history))
    assert [shown[name][0] for name in ("focal", "ce", "loss", "deep_features")] == [
        "0.1000",
        "0.3000",
        "0.2000",
        "0.4000",
    ]
    views = dict(panels.loss_views(list(history.curves)))
    assert views["base terms"] == ("train/loss.base.ce", "train/loss.base.focal")
    distill = View("distillation terms", views["distillation terms"])
    labels = [series.label for series in curves_of(distill, ROW, history, dark=True).series]
    assert labels == ["deep_features", "loss", "target_nontarget"]
    totals = curves_of(View("losses", views["losses"]), ROW, history, dark=True).series
    assert [series.label for series in totals] == ["total", "base", "distillation"]


@pytest.mark.parametrize(
    ("part", "curve", "title"),
    [("distillation.terms", "loss.distill", "distillation terms"), ("loss.terms", "loss.base", "base terms")],
)
def test_every_registered_term_is_in_the_panel_and_in_the_charts(part: str, curve: str, title: str) -> None:
    names = [kind.name for kind in registered(part)]
    history = History([started(), trained(1, **{f"{curve}.{name}": 0.5 for name in names})])
    shown = words(panels.losses(history))
    assert all(shown[name][0] == "0.5000" for name in names)
    view = View(title, dict(panels.loss_views(list(history.curves)))[title])
    labels = [series.label for series in curves_of(view, ROW, history, dark=True).series]
    assert set(labels) >= set(names)
    # Lines of one chart are distinguished by their labels.
    assert len(labels) == len(set(labels))


def test_without_distillation_the_total_is_shown_and_not_the_base_which_is_the_same() -> None:
    names = ["train/loss", "train/loss.base", "train/loss.base.ce", "train/loss.base.dice", "train/lr"]
    views = [names for _, names in panels.loss_views(names)]
    assert views[0] == ("train/loss",)
    assert ("train/loss.base.ce", "train/loss.base.dice") in views
    assert ("train/loss.base",) not in views
    assert panels.loss_views([]) == []


def test_a_curve_of_gaps_has_no_mean() -> None:
    history = History([started(), *(trained(step, images_per_second=None) for step in range(1, 15))])
    assert math.isnan(history.curves["train/images_per_second"].values[0])
    assert words(panels.speed(ROW, history))["images/s"] == ["-"]


def test_it_needs_neither_textual_nor_numpy() -> None:
    heavy = ("textual", "rich", "numpy", "pydantic", "torch")
    code = f"import sys, kdtui.tui.views.panels; print([name for name in {heavy} if name in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"


def test_warnings_are_above_the_pages_and_bounded() -> None:
    warnings = tuple({"code": str(n), "message": f"warning {n}", "hint": "look" if n == 0 else None} for n in range(5))
    lines = ["".join(text for text, _ in line) for line in panels.failure(replace(ROW, warnings=warnings), None, "")]
    assert lines[:3] == ["! warning 0", "  next: look", "! warning 1"]
    assert lines[-1] == f"  2 more warnings: kdtui show {ROW.id}"
