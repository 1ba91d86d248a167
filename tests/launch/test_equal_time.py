"""Baselines with equal time, from the events of earlier runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from kdtui.errors import UsageError
from kdtui.events import Event, Exited, Finished, Measured, Started
from kdtui.launch.equal_time import equal_time_baseline
from kdtui.launch.groups import check_group, plan_group
from kdtui.profile import Profile, load
from kdtui.profile.matched import baseline_of
from kdtui.store.active import ActiveTime, active_time
from kdtui.store.identity import hostname
from kdtui.store.run import EventLog, LaunchRecord, Run
from kdtui.store.store import RunStore
from tests.fake_engine import Engine

STEPS = 5


def attempt(number: int, begin: float, seconds: float, epochs: range) -> list[Event]:
    started = Started(
        attempt=number, ranks=(), device="cpu", precision="fp32", threads=1, world_size=1, epochs=epochs.stop,
        steps_per_epoch=STEPS, resumed_step=STEPS * epochs.start, student={}, time=begin,
    )  # fmt: skip
    each = seconds / len(epochs)
    vals = [
        Measured("val", STEPS * (at + 1), at + 1, 9, {"miou": 0.5, "best_miou": 0.5}, time=begin + each * (place + 1))
        for place, at in enumerate(epochs)
    ]
    return [started, *vals]


def trained(store: RunStore, profile: Profile, seconds: float, *, begin: float = 1000.0) -> Run:
    """A finished run that took so long."""
    run = store.create(profile)
    run.write_launch_record(
        LaunchRecord(1, hostname(), 1, 1, "b", None, (), "cpu", 1, None, created=begin)  # no such process
    )
    epochs = profile.training.epochs
    final = Finished(STEPS * epochs, epochs, time=begin + seconds)
    with EventLog(run.events_path) as log:
        for event in [*attempt(1, begin, seconds, range(epochs)), final, Exited(1, 0, time=begin + seconds)]:
            log.append(event)
    return run


@pytest.fixture
def profile(store: RunStore) -> Profile:
    """A distilled profile of 10 epochs, whose teacher took 100 s."""
    teacher = trained(store, load("hierarchical-b3", ["training.epochs=2"]), 100.0, begin=0.0)
    teacher.best.write_text("weights")
    sets = [f'teacher.checkpoint="{teacher.best}"', "distillation.enabled=true", "name=d", "training.epochs=10"]
    return load("baseline", sets)


def test_pauses_and_repeated_epochs_are_told_apart_from_training(store: RunStore) -> None:
    run = store.create(Profile(name="a"))
    with EventLog(run.events_path) as log:
        for event in [*attempt(1, 0.0, 30.0, range(3)), *attempt(2, 500.0, 20.0, range(2, 4))]:
            log.append(event)
    assert active_time(run) == ActiveTime(50.0, 5.0)
    assert active_time(store.create(Profile(name="b"))).seconds_per_epoch is None


def test_epochs_fill_the_time_of_the_distilled_run_or_also_of_its_teacher(store: RunStore, profile: Profile) -> None:
    trained(store, profile.model_copy(update={"seed": 3}), 400.0, begin=2000.0)
    short = profile.training.model_copy(update={"epochs": 5})
    trained(store, baseline_of(profile).model_copy(update={"training": short}), 100.0, begin=3000.0)
    found = {mode: equal_time_baseline(store, profile, mode) for mode in ("student", "total")}
    assert {mode: one.profile.training.epochs for mode, one in found.items()} == {"student": 20, "total": 25}
    student = found["student"]
    assert (student.profile.name, student.shared) == ("d-baseline-equal-time-20", ())
    assert "equal-time" in student.profile.tags
    assert "20 epochs for the baseline; 10 epochs of d take" in student.basis


def test_a_group_has_both_baselines_and_reuses_what_is_finished(store: RunStore, profile: Profile) -> None:
    trained(store, profile, 400.0, begin=2000.0)
    trained(store, baseline_of(profile), 200.0, begin=2100.0)
    group = plan_group(store, [profile], seeds=(0, 1), with_baseline=True, equal_time="student")
    assert [(run.profile.name, run.profile.seed) for run in group.new] == [
        ("d-baseline-equal-time-20", 0),
        *((name, 1) for name in ("d", "d-baseline", "d-baseline-equal-time-20")),
    ]
    assert len(group.reused) == 2
    planned = check_group(store, group, ask=Engine({"check": {"checks": [], "warnings": []}}))
    assert [caution.code for run in planned.runs for caution in run.warnings] == ["time-shared"]


@pytest.mark.parametrize("missing", ["distilled", "baseline", "teacher"])
def test_what_was_not_measured_is_refused(store: RunStore, profile: Profile, missing: str, tmp_path: Path) -> None:
    if missing == "teacher":
        foreign = profile.teacher.model_copy(update={"checkpoint": str(tmp_path / "foreign.pth")})
        profile = profile.model_copy(update={"teacher": foreign})
    for name, one in (("distilled", profile), ("baseline", baseline_of(profile))):
        if name != missing:
            trained(store, one, 100.0)
    with pytest.raises(UsageError, match="is not known") as error:
        equal_time_baseline(store, profile, "total")
    assert ("--equal-time student" if missing == "teacher" else "--with-baseline") in (error.value.hint or "")
    hint = error.value.hint or ""
    command = shlex.split(hint.split("`")[1])
    checkpoint = str(profile.teacher.checkpoint)
    name = checkpoint if missing == "teacher" else Path(checkpoint).parent.parent.name
    assert command[:5] == ["kdtui", "train", profile.name, "--teacher", name]
    if missing != "teacher":
        assert "batch size" in (error.value.allowed or "") and "cpu" in (error.value.found or "")
