"""Schedules of the distillation during a training; each run resumes as if it had never been stopped."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import keystr, tree_flatten_with_path

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.engine.evaluate_file import assess
from kdtui.engine.schedules import rate_factor
from kdtui.engine.setup import set_up
from kdtui.engine.teacher_report import inspect
from kdtui.store.run import Run
from tests.engine.runs import StoppedAt, curve, fit, make_run, record

SCHEDULED, UNFROZEN = "schedules and average", "adaptive, unfrozen"
RECIPES: dict[str, dict[str, Any]] = {
    SCHEDULED: {
        "distillation__temperature_schedule": "cosine",
        "distillation__alpha_schedule": "exponential",
        "distillation__terms": [{"kind": "kl"}, {"kind": "cwd", "temperature": 2.0}],
        "training__ema": 0.5,
    },
    # Every student reaches so little.
    UNFROZEN: {
        "distillation__alpha_schedule": "adaptive",
        "distillation__alpha_upper": 1e-6,
        "distillation__alpha_lower": 0.0,
        "training__optimizer": "sgd",
        "training__schedule": "poly",
        "training__unfreezing": {"start": 2, "stages": 2},
    },
}


def recipe(root: Path, teacher: Run, name: str, **changes: Any) -> Run:
    """A run of three short epochs."""
    return make_run(
        root,
        **{
            "teacher__checkpoint": str(teacher.best),
            "distillation__enabled": True,
            "data__train_samples": 16,
            "data__val_samples": 4,
            "training__epochs": 3,
            "training__log_every": 1,
            "training__precision": "fp32",
            "training__visualize_every": -1,
            "training__keep_checkpoints": 9,
            **RECIPES[name],
            **changes,
        },
    )


def in_the_middle_of_epoch_3(seen: list[events.Event]) -> bool:
    return any(isinstance(event, events.Measured) and event.split == "train" and event.step == 5 for event in seen)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, short_teacher: Run) -> Callable[[str], Run]:
    """The run of a recipe that was never stopped."""

    @functools.cache
    def trained(name: str) -> Run:
        run = recipe(tmp_path_factory.mktemp(name), short_teacher, name)
        assert fit(run) == "finished"
        return run

    return trained


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_resumes_as_if_never_stopped(
    tmp_path: Path, short_teacher: Run, whole: Callable[[str], Run], name: str
) -> None:
    run, undisturbed = recipe(tmp_path, short_teacher, name), whole(name)
    assert fit(StoppedAt(run.path, in_the_middle_of_epoch_3)) == "stopped"
    assert fit(Run(run.path), attempt=2) == "finished"
    ours, theirs = (dict(tree_flatten_with_path(checkpoint.load(one.last))[0]) for one in (run, undisturbed))
    assert ours.keys() == theirs.keys()
    differing = {keystr(key) for key, value in ours.items() if not _same(value, theirs[key])}
    assert {name for name in differing if "scalars" not in name and "['time']" not in name} <= {"['run']"}
    scalars = ("loss", "temperature", "alpha", "lr")
    assert curve(run, "train", *scalars) == curve(undisturbed, "train", *scalars)
    assert curve(run, "val", "miou") == curve(undisturbed, "val", "miou")


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other


def test_temperature_and_weight_of_each_epoch_are_measured(whole: Callable[[str], Run]) -> None:
    temperatures, alphas = (curve(whole(SCHEDULED), "train", name) for name in ("temperature", "alpha"))
    assert temperatures == [(1, 4.0), (2, 4.0), (3, 2.5), (4, 2.5), (5, 1.0), (6, 1.0)]
    assert [alpha for _, alpha in alphas[::2]] == pytest.approx([0.7, (0.7 * 0.1) ** 0.5, 0.1])


def test_an_adaptive_weight_drops_after_the_evaluation_that_reached_the_share(whole: Callable[[str], Run]) -> None:
    assert [alpha for _, alpha in curve(whole(UNFROZEN), "train", "alpha")] == [
        0.7,
        0.7,
        0.1,
        0.1,
        0.1,
        0.1,
    ]


def test_the_encoder_has_its_own_rate_on_the_same_schedule(whole: Callable[[str], Run]) -> None:
    run = whole(UNFROZEN)
    rates = [group["lr"] for group in checkpoint.load(run.last)["resume"]["optimizer"]["param_groups"]]
    assert rates == pytest.approx([rates[0], rates[0], 0.3 * rates[0], 0.3 * rates[0]])
    assert [rate for _, rate in curve(run, "train", "lr")] == pytest.approx(
        [run.profile().training.learning_rate * rate_factor(step, 6, warmup=0.05, course="poly") for step in range(6)]
    )


def test_the_average_is_evaluated_and_exported(whole: Callable[[str], Run]) -> None:
    run = whole(SCHEDULED)
    last, best = checkpoint.load(run.last), checkpoint.load(run.best)
    average, student = last["student"], last["resume"]["student"]
    # Parameters and statistics of batch norms are averaged, counters copied.
    assert {key for key, value in average.items() if torch.equal(value, student[key])} == {
        key for key, value in average.items() if not value.is_floating_point()
    }
    assert "resume" not in best
    assert inspect(run.last).candidates[0] == "student"
    assert assess(run.profile(), str(run.best), "val")["miou"] == pytest.approx(best["best"])


def test_a_new_run_continues_the_student_without_its_average_and_with_another_optimizer(
    tmp_path: Path, short_teacher: Run, whole: Callable[[str], Run]
) -> None:
    parent = whole(SCHEDULED)
    run = recipe(
        tmp_path,
        short_teacher,
        SCHEDULED,
        training__ema=None,
        training__optimizer="lion",
        resume_from=parent.last,
    )
    stage = set_up(run, record(run), world_size=1)
    student = checkpoint.load(parent.last)["resume"]["student"]
    assert all(torch.equal(value, student[key]) for key, value in stage.student.state_dict().items())
    assert [warning.code for warning in stage.warnings] == ["optimizer-restarted"]
    assert not stage.optimizer.state_dict()["state"]


def test_the_check_states_the_schedules_in_one_line(whole: Callable[[str], Run]) -> None:
    checks = check(whole(SCHEDULED).profile())["checks"]
    (line,) = [one["message"] for one in checks if one["name"] == "optimizer and schedules"]
    assert line == "T 4 → 1 (cosine), α 0.7 → 0.1 (exponential); EMA 0.5"
