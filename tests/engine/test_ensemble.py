"""Several teachers: the mean of their softened probabilities in every term on logits, and how they are evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdtui.engine.check import check
from kdtui.engine.data import build_dataset
from kdtui.engine.ensemble import Ensemble, MeanOutputs, mean_logits
from kdtui.engine.losses import StepShare
from kdtui.engine.models import Outputs, compose, outputs_of
from kdtui.engine.taps import tapped
from kdtui.engine.teacher import teacher_of
from kdtui.events import Started
from kdtui.profile.tables import Teacher
from kdtui.profile.term_tables import DistillationTerm, DistTerm, DkdTerm, EdgeBodyTerm, KlTerm
from tests.engine.foreign import onnx_teacher
from tests.engine.losses.test_golden import LABELS, STUDENT, TEACHER, built
from tests.engine.runs import StoppedAt, curve, events_of, fit, make_run, same_weights, tiny_profile

_I = torch.arange(120, dtype=torch.float64)
SECOND = Outputs((2.5 * torch.sin(0.29 * _I + 1)).reshape(2, 3, 4, 5))


def together(*members: Outputs, weights: tuple[float, ...] = (0.5, 0.5)) -> Outputs:
    return MeanOutputs(members[0].main, {}, members[0].features, members, weights).softened(1.0)


def value(table: DistillationTerm, teacher: Outputs) -> float:
    term = built(table)
    share = StepShare(40, 2, masses=term.masses(teacher, LABELS))
    return float(term(STUDENT, teacher, LABELS, share).detach())


def test_the_kl_to_several_teachers_equals_its_golden_value() -> None:
    assert value(KlTerm(temperature=4.0), together(TEACHER, SECOND)) == pytest.approx(0.9761818882, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softened_logits_are_those_of_the_weighted_mean_of_softened_probabilities(temperature: float) -> None:
    def softened(logits: Tensor) -> Tensor:
        return (logits / temperature).softmax(dim=1)

    logits = mean_logits([TEACHER.main, SECOND.main], [0.25, 0.75], temperature)
    torch.testing.assert_close(softened(logits), 0.25 * softened(TEACHER.main) + 0.75 * softened(SECOND.main))
    assert logits.dtype == torch.float64


@pytest.mark.parametrize(
    "table",
    [
        KlTerm(temperature=4.0),
        KlTerm(temperature=4.0, standardise=True),
        KlTerm(temperature=4.0, weight_by="correct"),
        KlTerm(temperature=4.0, weight_by="confidence"),
        DistTerm(temperature=4.0),
        DkdTerm(temperature=4.0),
        EdgeBodyTerm(temperature=4.0),
    ],
    ids=lambda table: f"{table.kind} {table.model_dump(exclude_defaults=True)}",
)
def test_a_term_on_several_equal_teachers_is_that_on_one(table: DistillationTerm) -> None:
    twice = together(TEACHER, TEACHER, weights=(0.3, 0.7))
    assert value(table, twice) == pytest.approx(value(table, TEACHER), abs=1e-9)
    assert value(table, together(TEACHER, SECOND)) != pytest.approx(value(table, TEACHER), abs=1e-3)


@pytest.mark.parametrize("table", [KlTerm, DistTerm, DkdTerm, EdgeBodyTerm])
def test_a_term_on_several_teachers_softens_each_of_them_at_its_own_temperature(table: type[DistillationTerm]) -> None:
    term = table.model_validate({"temperature": 4.0})
    softened = Outputs(mean_logits([TEACHER.main, SECOND.main], [0.5, 0.5], 4.0))
    assert value(term, together(TEACHER, SECOND)) == pytest.approx(value(term, softened), abs=1e-9)


def test_both_decisions_of_a_hierarchical_task_are_means_too() -> None:
    raw = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    members = [compose(one, "hierarchical") for one in raw]
    mean = Ensemble([torch.nn.Identity(), torch.nn.Identity()], [1, 3]).compose(tuple(raw), "hierarchical")
    for name in ("logits", "bg_fg", "target_nontarget"):
        expected = 0.25 * members[0][name].softmax(dim=1) + 0.75 * members[1][name].softmax(dim=1)
        torch.testing.assert_close(mean[name].softmax(dim=1), expected)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two trained networks of different seeds."""
    folder = tmp_path_factory.mktemp("teachers")
    runs = [make_run(folder / str(seed), seed=seed, training__epochs=1) for seed in (0, 1)]
    for run in runs:
        fit(run)
    return [str(run.best) for run in runs]


def test_a_run_with_several_teachers(checkpoints: list[str], tmp_path: Path) -> None:
    first, second = checkpoints
    changed = {"checkpoint": second, "weight": 3.0, "mean": [0.3], "std": [0.3]}
    teacher = {"checkpoint": first, "ensemble": [changed]}
    terms = [{"kind": "kl"}, {"kind": "feature"}]
    profile = tiny_profile(teacher=teacher, distillation={"enabled": True, "terms": terms}, training__epochs=1)
    answer = check(profile)
    described = {one["name"]: one["message"] for one in answer["checks"]}["teacher"]
    assert all(one["ok"] for one in answer["checks"])
    assert "weight 0.25" in described
    assert "weight 0.75" in described
    assert "mean 0.3" in described
    run = make_run(tmp_path, teacher=teacher, distillation={"enabled": True, "terms": terms}, training__epochs=1)
    assert fit(run) == "finished"
    (started,) = [event for event in events_of(run) if isinstance(event, Started)]
    assert started.teacher is not None
    each = started.teacher["ensemble"]
    assert [one["checkpoint"] for one in each] == checkpoints
    assert started.teacher["parameters"] == sum(one["parameters"] for one in each)
    assert each[0]["miou"] != each[1]["miou"]
    assert len(list((tmp_path / ".cache" / "teachers").glob("*.json"))) == 3  # each was evaluated, and all together


def test_an_ensemble_predicts_the_mean_and_has_the_features_of_the_first(checkpoints: list[str]) -> None:
    first, second = checkpoints
    profile = tiny_profile(teacher={"checkpoint": first, "ensemble": [{"checkpoint": second}]})
    profile = profile.model_copy(update={"distillation": profile.distillation.model_copy(update={"enabled": True})})
    dataset = build_dataset(profile.data, "val", stride=8, seed=0)
    both = teacher_of(profile, dataset)
    assert both is not None
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw, features = tapped(both.network, images, ["encoder"])
        outputs = outputs_of(both.network, raw, "semantic", features)
        alone = [tapped(one.network, images, ["encoder"]) for one in both.members]
    mean = torch.stack([raw.softmax(dim=1) for raw, _ in alone]).mean(dim=0)
    torch.testing.assert_close(outputs.main.softmax(dim=1), mean)
    torch.testing.assert_close(outputs["encoder"], alone[0][1]["encoder"])


@pytest.mark.parametrize("views", [0, 2], ids=["live", "cached logits"])
def test_a_resumed_run_with_a_checkpoint_and_an_onnx_file_equals_one_that_never_stopped(
    checkpoints: list[str], tmp_path: Path, views: int
) -> None:
    teacher = {"checkpoint": checkpoints[0], "ensemble": [onnx_teacher(tmp_path)]}
    changes: dict[str, Any] = {"teacher": teacher, "distillation": {"enabled": True}, "data__views": views}
    whole, stopped = (make_run(tmp_path / name, training__log_every=1, **changes) for name in ("whole", "stopped"))
    assert fit(whole) == "finished"
    early = StoppedAt(stopped.path, lambda seen: any(getattr(event, "step", 0) >= 4 for event in seen))
    assert fit(early) == "stopped"
    assert fit(stopped, attempt=2) == "finished"
    assert same_weights(stopped.last, whole.last)
    (started,) = [event for event in events_of(whole) if isinstance(event, Started)]
    assert started.teacher is not None
    assert [one["architecture"] for one in started.teacher["ensemble"]] == ["Unet", "ONNX"]
    assert [share is not None for _, share in curve(whole, "train", "teacher_cached")] == [bool(views)] * 6


def test_an_empty_list_of_further_teachers_is_none() -> None:
    assert Teacher.model_validate({"checkpoint": "/t.pth", "ensemble": []}) == Teacher(checkpoint="/t.pth")
