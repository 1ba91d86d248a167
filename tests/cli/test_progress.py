"""The progress display of a running run."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kdtui import events
from kdtui.cli.follow import Followed, ProgressBars, ProgressLines, describe, ending, started_line
from kdtui.store.event_log import Tail
from kdtui.store.run import Run
from kdtui.store.state import RunSummary, State

STARTED = events.Started(
    attempt=1, ranks=(), device="cpu", precision="bf16", threads=2, world_size=1, epochs=4, steps_per_epoch=5,
    resumed_step=0, student={"parameters": 1, "parameters_used": 1}, teacher={"parameters": 2, "miou": 0.8},
)  # fmt: skip
TRAIN = events.Measured("train", 7, 2, 28, {"loss": 0.5, "loss.base": 0.3, "loss.distill": 0.6})
VAL = events.Measured("val", 5, 1, 20, {"miou": 0.4, "best_miou": 0.4, "retention": 0.5}, epochs=4)
GAP = events.Measured("val", 10, 2, 40, {"miou": None, "best_miou": None}, epochs=4)


def followed(*happened: events.Event, **summary: Any) -> Followed:
    path = Path("/runs/20260101-000000-one")
    row = RunSummary(**{"id": path.name, "name": "one", "path": path, "state": State.RUNNING, **summary})
    one = Followed(Run(path), Tail(path / "events.jsonl"), summary=row)
    one.history.extend(happened)
    return one


def drawn(one: Followed, *happened: events.Event) -> str:
    text = io.StringIO()
    with ProgressBars(Console(file=text, force_terminal=True, width=160, color_system=None)) as bars:
        for event in happened:
            bars.event(one, event)
        bars.state(one)
    return text.getvalue()


def test_bars_show_epochs_steps_losses_scores_the_teachers_line_and_eta() -> None:
    text = drawn(followed(STARTED, VAL, TRAIN, eta_seconds=90.0), STARTED)
    for said in ("1/4", "2/5", "loss 0.5000", "base 0.3000", "distill 0.6000", "mIoU 0.4000", "teacher 0.8000 50.0%"):
        assert said in text
    assert "eta 1m30s" in text
    assert "bf16" in text


def test_an_epoch_that_just_ended_is_drawn_full() -> None:
    assert "5/5" in drawn(followed(STARTED, VAL))


@pytest.mark.parametrize("miou", ["0.8", None, [], True, {"a": 1}])
def test_a_teacher_score_that_is_no_number_is_a_dash(miou: Any) -> None:
    begun = dataclasses.replace(STARTED, teacher={"parameters": 2, "miou": miou})
    assert "teacher -" in drawn(followed(begun, VAL))
    assert "epoch 1/4" in describe(followed(begun), VAL)
    assert "teacher mIoU -" in started_line(begun)


def test_bars_survive_gaps_and_runs_that_never_started() -> None:
    assert "mIoU -" in drawn(followed(STARTED, GAP))
    assert "position 2" in drawn(followed(state=State.QUEUED, detail="waits, position 2"))
    assert "✗ FAILED: [bold]no[/bold]" in drawn(followed(state=State.FAILED, detail="[bold]no[/bold]"))


def test_a_progress_line_has_the_same_content() -> None:
    line = describe(followed(STARTED, TRAIN, VAL, eta_seconds=5.0), VAL)
    for said in ("epoch 1/4", "loss 0.5000", "mIoU 0.4000", "best 0.4000", "teacher 0.8000 (50.0%)", "eta 5s"):
        assert said in line
    assert "distill 0.6000" in describe(followed(STARTED), TRAIN)
    assert "mIoU -" in describe(followed(STARTED), GAP)


def test_the_score_that_determines_the_best_epoch_is_shown() -> None:
    own = {"target_iou": 0.3, "best_target_iou": 0.35}
    val = dataclasses.replace(VAL, scalars={**VAL.scalars, **own})
    assert "target IoU 0.3000  best 0.3500  mIoU 0.4000" in describe(followed(STARTED, val), val)
    assert "target IoU 0.3500  last 0.3000" in drawn(followed(STARTED, val))
    over = followed(state=State.FINISHED, best_miou=0.4, metrics=own)
    assert over.summary is not None
    assert ending(over.summary) == "✓ FINISHED, best target IoU 0.3500"


def test_plain_lines_name_what_a_queued_run_waits_for_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ProgressLines()
    detail = "waiting for a cpu slot, position 1; held by theirs in /srv/runs of user ada"
    one = followed(state=State.QUEUED, detail=detail, waiting_since=1.0)
    lines.event(one, events.Queued(1, "cpu"))
    lines.state(one)
    lines.state(one)
    assert capsys.readouterr().err.splitlines() == ["one: attempt 1 is queued", f"one: {detail}"]
