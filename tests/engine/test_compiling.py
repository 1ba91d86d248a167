"""``training.compile``: a compiled training is that of the same networks, and what cannot be compiled is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.check import check
from kdtui.engine.compiling import compile_networks, why_not_compiled
from kdtui.engine.fit import Fit
from kdtui.engine.network import build_student
from kdtui.engine.report import Report
from kdtui.engine.setup import set_up
from kdtui.store.run import Run
from tests.engine.runs import curve, events_of, fit, make_run, record, same_weights, tiny_profile


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("teacher"), name="teacher", seed=7, training__epochs=1)
    fit(run)
    return run


def made(root: Path, teacher: Run, **changes: Any) -> Run:
    return make_run(root, teacher__checkpoint=str(teacher.best), distillation__enabled=True, **changes)


def refuses(graph: object, inputs: object) -> None:
    raise NotImplementedError("this backend cannot compile this")


def train(run: Run, *, backend: str | Callable[..., Any], seconds: dict[str, float]) -> list[str]:
    """Train a run after compiling with a backend that is as fast as ``seconds`` says; the lines on its networks."""
    stage = set_up(run, record(run), world_size=1)

    def measure(name: str, call: Callable[[], None]) -> float:
        call()
        return seconds[name]

    with Report(run, active=True) as report:
        one = Fit(stage, report)
        one.load_teacher()
        assert one.teacher is not None
        lines = list(compile_networks(stage, one.teacher.frozen, backend=backend, measure=measure))
        one.load_teacher = lambda: None  # type: ignore[method-assign]
        one.train()
    return lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "compiled", "words"),
    [("eager", 1.0, "compiled in"), ("eager", 3.0, "1.50 times as long"), (refuses, 1.0, "cannot compile this")],
)
def test_a_training_is_the_same_with_a_compiler_that_computes_the_same_or_is_not_used(
    tmp_path: Path, teacher: Run, backend: str | Callable[..., Any], compiled: float, words: str
) -> None:
    plain, other = (made(tmp_path / name, teacher) for name in ("plain", "other"))
    fit(plain)
    lines = train(other, backend=backend, seconds={"plain": 2.0, "compiled": compiled})
    assert len(lines) == 2
    for line, role in zip(lines, ("student", "teacher"), strict=True):
        assert line.startswith(f"{role}: ")
        assert words in line
    assert curve(other, "train", "loss") == curve(plain, "train", "loss")
    assert same_weights(other.last, plain.last)
    assert checkpoint.load(other.best)["student"].keys() == checkpoint.load(plain.best)["student"].keys()


@pytest.mark.slow
def test_a_compiled_training_by_the_compiler_of_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path, training__compile="auto")
    assert fit(run) == "finished"
    (line,) = [event.message for event in events_of(run) if isinstance(event, events.Noted)]
    assert line.startswith("student: ")
    assert "a pass takes" in line or "a compiled pass takes" in line
    plain = make_run(tmp_path / "plain")
    fit(plain)
    for (_, ours), (_, theirs) in zip(curve(run, "train", "loss"), curve(plain, "train", "loss"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2)
    assert checkpoint.load(run.best)["student"].keys() == checkpoint.load(plain.best)["student"].keys()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training__devices": 2}, "several ranks"),
        ({"training__unfreezing": {}}, "training.unfreezing"),
        (
            {"distillation__enabled": True, "distillation__terms": [{"kind": "feature", "on": "decoder"}]},
            "terms read decoder",
        ),
        (
            {
                "student": {"kind": "roi", "encoder": "tu-test_resnet", "encoder_depth": 3},
                "data__sample": "image",
            },
            "one map of logits",
        ),
    ],
    ids=["ranks", "unfreezing", "features", "boxes"],
)
def test_what_cannot_be_compiled_is_known_before_the_start(changes: dict[str, Any], words: str) -> None:
    profile = tiny_profile(training__compile="auto", **changes)
    student = build_student(profile.student, task=profile.data.task, classes=3, download=False)
    assert words in why_not_compiled(profile, student)


def test_without_a_compiler_the_check_warns_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    run = make_run(tmp_path, training__compile="auto", training__epochs=1)
    (warning,) = [one for one in check(run.profile())["warnings"] if one["code"] == "not-compiled"]
    assert "there is no C++ compiler (no-such-compiler)" in warning["message"]
    assert fit(run) == "finished"
    notes = [event.message for event in events_of(run) if isinstance(event, events.Noted)]
    assert [note for note in notes if "training.compile has no effect" in note]


def test_the_key_is_not_written_while_it_has_its_default() -> None:
    assert "compile" not in tiny_profile().model_dump(mode="json")["training"]
    assert tiny_profile(training__compile="auto").model_dump(mode="json")["training"]["compile"] == "auto"
