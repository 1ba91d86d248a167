"""One device and two: the same gradients, the same validation, one of everything, and the same after a stop.

Real gloo processes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdtui.engine import checkpoint
from kdtui.events import Started
from kdtui.store.run import Run
from tests.engine.first_gradients import keep_first_gradients
from tests.engine.foreign import onnx_teacher
from tests.engine.rank_processes import JOBS, TRAIN, all_end_well, ranks, start_fresh, two_ranks
from tests.engine.runs import curve, events_of, fit, make_run, record, same_counts

# The engine's door in a process whose interpreter never ends: what destroying a process group can come to.
ENDLESS_DOOR = """
import atexit, runpy, time
atexit.register(time.sleep, 600)
runpy.run_module("kdtui.engine", run_name="__main__")
"""


TERMS = [
    {"kind": "kl"},
    {"kind": "kl", "on": "bg_fg", "weight": 0.3},
    {"kind": "kl", "on": "target_nontarget", "weight": 0.3},
    {"kind": "feature", "on": "decoder"},
    {"kind": "cwd", "on": "decoder.2", "teacher_on": "encoder.2"},
]
"""The default terms, and two on features of other widths than the teacher's."""
BASE = [
    {"kind": "ce", "class_weights": "balanced", "label_smoothing": 0.1},
    {"kind": "dice"},
    {"kind": "focal", "class_weights": "effective", "beta": 0.9999},
]
"""Supervised terms, two with weights from the labels, which the ranks count together."""

WINDOWS: dict[str, Any] = {"training__log_every": 2, "data__train_samples": 32}
"""Windows of losses that a stop can be in the middle of."""


def gradients(tmp_path: Path, teacher: Run, name: str, world_size: int, **changes: Any) -> dict[str, torch.Tensor]:
    """The gradients of the first optimizer step of a distilled run, as rank 0 holds them after the reduction."""
    settings: dict[str, Any] = {
        "training__precision": "fp32",
        "training__gradient_clip": 0.0,
        "training__devices": world_size,
        "teacher__checkpoint": str(teacher.best),
        "distillation": {"enabled": True, "terms": TERMS},
        "loss": {"terms": BASE},
        "data__train_limit": 16,
        "data__unlabelled": {"target": "hard", "threshold": 0.4, "share": 0.6},
        "student": {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [8, 8, 4]},
    }
    run = make_run(tmp_path / name, **(settings | changes))
    if world_size == 1:
        keep_first_gradients(run)
    else:
        ranks(world_size, str(Path(__file__).with_name("first_gradients.py")), str(run.path))
    kept: dict[str, torch.Tensor] = torch.load(run.path / "gradients.pth", weights_only=True)
    return kept


def test_gradients_do_not_depend_on_micro_batches_or_ranks(tmp_path: Path, short_teacher: Run) -> None:
    whole = gradients(tmp_path, short_teacher, "whole", 1)
    micro = gradients(tmp_path, short_teacher, "micro", 1, training__micro_batch_size=2)
    two_micro = gradients(tmp_path, short_teacher, "two_micro", 2, training__micro_batch_size=2)
    assert len(whole) > 20
    assert {f"objective.terms.distill_{name}.projection.weight" for name in ("feature", "cwd")} <= whole.keys()
    for other in (micro, two_micro):
        assert_same_gradients(other, whole)


@pytest.mark.parametrize(
    "changes", [{}, {"data__views": 1, "distillation": {"enabled": True}}], ids=["live", "cached logits"]
)
def test_gradients_of_several_teachers_do_not_depend_on_ranks(
    tmp_path: Path, short_teacher: Run, changes: dict[str, Any]
) -> None:
    changes = changes | {"teacher__ensemble": [onnx_teacher(tmp_path, weight=2.0)]}
    whole = gradients(tmp_path, short_teacher, "whole", 1, **changes)
    two = gradients(tmp_path, short_teacher, "two", 2, **changes)
    assert_same_gradients(two, whole)
    alone = gradients(tmp_path, short_teacher, "alone", 1, **(changes | {"teacher__ensemble": []}))
    assert any(not torch.allclose(alone[name], gradient, rtol=1e-2) for name, gradient in whole.items())


def assert_same_gradients(gradients: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name, gradient in wanted.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, short_teacher: Run) -> Run:
    """A run that two ranks trained to its end."""
    run = two_ranks(tmp_path_factory.mktemp("undisturbed"), short_teacher, **WINDOWS)
    ranks(2, TRAIN, str(run.path))
    return run


def assert_trained_by_two(run: Run, folder: Path) -> None:
    """One of everything, and the scores of the saved student are those of one process over the whole split."""
    seen = events_of(run)
    (started,) = [event for event in seen if isinstance(event, Started)]
    assert started.world_size == 2
    assert len({rank["pid"] for rank in started.ranks}) == 2
    assert [event.kind for event in seen][-1] == "finished"
    per_epoch = started.steps_per_epoch
    assert [step for step, *_ in curve(run, "val", "miou")] == [per_epoch, 2 * per_epoch]
    assert len(checkpoint.load(run.last)["resume"]["rng"]) == 2
    # Sharded validation of the saved student equals one process over the whole split.
    from kdtui.engine.evaluate_file import assess

    alone = assess(run.profile(), str(run.last), "val")
    assess(run.profile(), str(run.best), "val", out=folder / "evaluations" / "val.json")
    assert same_counts(run, Run(folder))
    assert alone["miou"] == pytest.approx(curve(run, "val", "miou")[-1][1], abs=1e-6)


def test_two_ranks_train_evaluate_and_write_once(undisturbed: Run, tmp_path: Path) -> None:
    assert_trained_by_two(undisturbed, tmp_path)


@pytest.mark.slow
def test_two_fresh_processes_inside_a_job_of_another_launcher_train_and_end(
    tmp_path: Path, short_teacher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in JOBS.items():
        monkeypatch.setenv(name, value)
    run = two_ranks(tmp_path, short_teacher)
    run.write_launch_record(dataclasses.replace(record(run), devices=2))
    answers = all_end_well(start_fresh(2, "-c", ENDLESS_DOOR, "train", str(run.path)))
    assert [json.loads(answer) for answer in answers] == [{"run": run.id, "word": "finished"}] * 2
    assert_trained_by_two(run, tmp_path)


def test_two_ranks_stopped_between_two_reports_resume_as_if_they_never_had(
    tmp_path: Path, short_teacher: Run, undisturbed: Run
) -> None:
    stopped = two_ranks(tmp_path, short_teacher, **WINDOWS)
    ranks(2, TRAIN, str(stopped.path), "--stopped-at-step", "2")
    resume = checkpoint.load(stopped.last)["resume"]
    assert resume["step"] % 2  # in the middle of a window of losses
    assert resume["window"]
    ranks(2, TRAIN, str(stopped.path), "--attempt", "2")
    for split, names in (("train", ("loss", "loss.distill", "gradient_norm")), ("val", ("miou", "agreement"))):
        assert curve(stopped, split, *names) == curve(undisturbed, split, *names)


def test_one_rank_inside_a_job_of_another_launcher_trains_and_evaluates_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**JOBS, "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    run = make_run(tmp_path, training__epochs=1, training__precision="fp32")
    assert fit(run) == "finished"
    for name, value in JOBS.items():
        monkeypatch.setenv(name, value)
    from kdtui.engine.evaluate_file import assess

    assert assess(run.profile(), str(run.last), "val")["precision"] == "fp32"
