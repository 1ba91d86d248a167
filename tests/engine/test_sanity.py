"""Warnings about teacher and scores: from numbers alone, and in a real run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from kdtui.engine.metrics import Scores
from kdtui.engine.sanity import balance_warnings, score_warnings, teacher_warnings
from kdtui.events import Finished, Started, Warned
from kdtui.profile import Distillation, load
from kdtui.store.run import Run
from tests.engine.runs import StoppedAt, events_of, fit, make_run


def scores(*iou: float | None) -> Scores:
    occurring = [value for value in iou if value is not None]
    miou = sum(occurring) / len(occurring)
    return Scores(miou, {f"class {k}": value for k, value in enumerate(iou)}, dice=miou, pixel_accuracy=miou)


@pytest.mark.parametrize(
    ("iou", "codes"),
    [
        ((0.9, 0.8, 0.7), []),
        ((0.95, 0.0, 0.0), ["teacher-near-chance"]),
        ((0.1, 0.2, 0.1), ["teacher-near-chance"]),
        ((0.9, 0.8, 0.001), ["teacher-misses-class"]),
        ((0.9, 0.8, None), []),
        ((0.9, None, None), []),
    ],
)
def test_a_teacher_that_does_not_know_the_classes(iou: tuple[float | None, ...], codes: list[str]) -> None:
    assert [warning.code for warning in teacher_warnings(scores(*iou))] == codes


def test_one_class_everywhere_is_never_better_than_chance() -> None:
    for classes in range(2, 12):
        for share in (0.2, 0.5, 0.99, 1.0):
            constant = scores(share, *[0.0] * (classes - 1))
            assert [warning.code for warning in teacher_warnings(constant)] == ["teacher-near-chance"]


def test_final_scores() -> None:
    assert score_warnings(scores(0.9, 0.7), 0.8, scores(0.9, 0.9)) == []
    assert score_warnings(scores(0.9, 0.7), 0.8, None) == []
    above = score_warnings(scores(0.9, 0.7), 0.8, scores(0.5, 0.5))
    assert [warning.code for warning in above] == ["retention-over-100"]
    assert "0.8000" in above[0].message
    missed = score_warnings(scores(0.9, 0.0, None), 0.45, None)
    assert [warning.code for warning in missed] == ["class-not-learnt"]
    assert missed[0].message.startswith("the network does not predict 'class 1'")
    (missed_by_student,) = score_warnings(scores(0.9, 0.0), 0.45, scores(0.9, 0.9))
    assert missed_by_student.message.startswith("the student does not")


def test_many_missed_classes_are_counted() -> None:
    (warning,) = score_warnings(scores(0.9, *[0.0] * 7), 0.1, None)
    assert "and 3 more" in warning.message


def balance(terms: list[dict[str, Any]], **parts: float) -> list[Warned]:
    distillation = Distillation.model_validate({"enabled": True, **({"terms": terms} if terms else {})})
    scalars = {f"loss.distill.{name}": value for name, value in parts.items()} | {"loss.base": 1.2}
    return balance_warnings(distillation, scalars)


PAIR: list[dict[str, Any]] = [{"kind": "cwd"}, {"kind": "feature", "weight": 12.5, "on": "decoder"}]


@pytest.mark.parametrize(("cwd", "feature"), [(0.2, 6.4), (6.4, 0.2)])
def test_a_term_next_to_which_the_other_hardly_counts_is_reported_with_balanced_weights(
    cwd: float, feature: float
) -> None:
    (warning,) = balance(PAIR, cwd=cwd, feature=feature)
    largest = "feature" if feature > cwd else "cwd"
    assert f"'{largest}' is 32 times as large as any other" in warning.message
    assert f"(weighted: cwd {cwd:g}, feature {feature:g})" in warning.message
    assert warning.hint is not None
    assert shlex.split(warning.hint)[0] == "--set"
    profile = load("demo-distilled", ["distillation.enabled=true", shlex.split(warning.hint)[1]])
    assert profile.distillation.terms is not None
    before = Distillation.model_validate({"terms": PAIR}).terms
    assert before is not None
    for term, former in zip(profile.distillation.terms, before, strict=True):
        assert term == former.model_copy(update={"weight": term.weight})
        # The first term keeps its weight.
        balanced = former.weight * cwd / feature if term.kind == "feature" else former.weight
        assert term.weight == pytest.approx(balanced, rel=0.2)


@pytest.mark.parametrize(
    ("terms", "parts"),
    [
        (PAIR, {"cwd": 0.2, "feature": 4.0}),
        (PAIR, {"cwd": 0.0, "feature": 4.0}),  # nothing to balance it with
        (PAIR, {"feature": 4.0}),
        ([{"kind": "cwd"}], {"cwd": 100.0}),
        ([{"kind": "kl"}, {"kind": "relation"}], {"logits": 0.9, "relation": 0.0003}),  # matched already
        (
            [{"kind": "kl", "weight": 2.0}, {"kind": "dkd"}],
            {"logits": 3.0, "dkd": 0.1},
        ),  # its weight rises
        ([], {"logits": 100.0, "bg_fg": 0.1, "target_nontarget": 0.1}),  # default weights
    ],
)
def test_no_warning_where_no_weight_is_wrong(terms: list[dict[str, Any]], parts: dict[str, float]) -> None:
    assert balance(terms, **parts) == []


def test_published_weights_are_reported_where_they_outweigh_the_supervised_loss_too() -> None:
    (warning,) = balance([{"kind": "kl"}, {"kind": "attention"}], logits=1.0, attention=150.0)
    assert "'attention' is 150 times as large" in warning.message and 'kind="attention",weight=70.0' in str(
        warning.hint
    )


@pytest.fixture(scope="module")
def untrained_teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("teacher"), name="teacher", training__epochs=1, training__learning_rate=1e-9)
    assert fit(run) == "finished"
    return run


def warned(run: Run) -> list[Warned]:
    return [event for event in events_of(run) if isinstance(event, Warned)]


def test_a_run_warns_before_its_first_step_and_never_twice(tmp_path: Path, untrained_teacher: Run) -> None:
    changes: dict[str, Any] = {
        "distillation__enabled": True,
        "teacher__checkpoint": str(untrained_teacher.untrained),
        "distillation__terms": [{"kind": "kl"}, {"kind": "cwd", "weight": 1e5}],
        "training__epochs": 3,
    }
    run = make_run(tmp_path, **changes)
    stopped = StoppedAt(run.path, lambda events: sum(event.kind == "saved" for event in events) > 0)
    assert fit(stopped) == "stopped"
    before = warned(run)
    assert before, "an untrained teacher is near chance, or misses a class"
    assert [event.code for event in before].count("term-outweighs-others") == 1
    kinds = [event.kind for event in events_of(run)]
    assert kinds.index("warning") < kinds.index("measured")
    assert isinstance(events_of(run)[0], Started)
    assert fit(run, attempt=2) == "finished"
    messages = [(event.code, event.message) for event in warned(run)]
    assert len(messages) == len(set(messages))
    assert isinstance(events_of(run)[-1], Finished)
