"""Runs named for teachers and initial weights: how references are resolved, and supervisors that wait for them."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from kdtui.errors import AmbiguousRun, KdtuiError, LaunchError, UsageError
from kdtui.events import Queued
from kdtui.launch.device_queue import places
from kdtui.launch.local import LocalLauncher
from kdtui.launch.references import linked, references
from kdtui.launch.start import resume, start
from kdtui.profile import Distillation, Profile, Teacher, Training
from kdtui.profile.launch_tables import LaunchTable
from kdtui.store.files import sha256_of
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import events, kill, kinds, make, reaches, record_of, slot_is_held, wait_until_exited


def student(name: str = "s", teacher: str = "run:r", **keys: object) -> Profile:
    table = Training(accelerator="cpu", batch_size=1, epochs=1)
    enabled = Distillation(enabled=True)
    return Profile.model_validate(
        {"name": name, "teacher": {"checkpoint": teacher}, "training": table, "distillation": enabled, **keys}
    )


def tuned(name: str = "fine", weights: str = "run:r") -> Profile:
    """A profile that starts from the weights of a run, without a teacher."""
    table = Training(accelerator="cpu", batch_size=1, epochs=1)
    return Profile.model_validate({"name": name, "student": {"weights": weights}, "training": table})


def ended(store: RunStore, launcher: LocalLauncher, *, name: str = "r") -> Run:
    """A finished run with a best checkpoint."""
    run = make(store, name=name)
    run.best.write_text("weights")
    launcher.launch(run)
    reaches(store, run, State.FINISHED)
    return run


def held(store: RunStore, launcher: LocalLauncher, end: dict[str, object] | None = None) -> Run:
    """A running run with a best checkpoint that ends once its folder has a file ``go``."""
    run = make(store, {"*": [{"steps": 1}, {"wait_for": "go"}, *([end] if end else [])]})
    run.best.write_text("of the first epoch")
    launcher.launch(run)
    reaches(store, run, State.RUNNING)
    return run


def waiting(store: RunStore, profile: Profile) -> Run:
    """A launched student that waits for its teacher."""
    run = start(store, linked([profile], store)[0], origin="test")
    assert reaches(store, run, State.QUEUED).detail == "waits for run r"
    return run


def test_a_reference_is_the_newest_finished_run_of_its_name_or_the_run_with_its_id(
    store: RunStore, launcher: LocalLauncher
) -> None:
    first, second = ended(store, launcher), ended(store, launcher)
    third = make(store)
    third.best.write_text("of a run that was never launched")
    among = linked([student(), student("r", "/t.pth")], store)
    assert [one.teacher.checkpoint for one in among] == ["/t.pth", "run:r"]  # the run that is made for the profile
    paths = [linked([student(teacher=text)], store)[0].teacher.checkpoint for text in ("run:r", f"run:{first.id}")]
    assert paths == [str(second.best), str(first.best)]
    run = start(store, linked([student()], store)[0], origin="test")
    entry = {"checkpoint": str(second.best), "sha256": sha256_of(second.best), "run": second.id}
    assert run.manifest().teacher == entry
    assert run.profile().teacher == Teacher(checkpoint=str(second.best))


@pytest.mark.parametrize(
    ("profiles", "error", "found"),
    [
        ([student(teacher="run:rr")], UsageError, "perhaps r"),
        ([student(teacher="run:empty")], UsageError, "this run has no best checkpoint yet"),
        ([student(teacher="run:twice")], AmbiguousRun, "2 runs match 'twice'"),
        ([student(teacher="run:s")], UsageError, "s -> s"),
        ([student("a", "run:c"), student("b", "run:a"), student("c", "run:b")], UsageError, "a -> c -> b -> a"),
    ],
    ids=["nothing", "no checkpoint", "ambiguous", "itself", "a circle"],
)
def test_a_reference_that_cannot_be_a_teacher_is_refused(
    store: RunStore, profiles: list[Profile], error: type[KdtuiError], found: str
) -> None:
    make(store).best.write_text("weights")
    for name in ("empty", "twice", "twice"):
        make(store, name=name)
    with pytest.raises(error, match=found):
        linked(profiles, store)


def test_profiles_are_ordered_by_their_teachers_and_keep_their_order_otherwise(store: RunStore) -> None:
    profiles = [student("c", "run:b"), student("x", "/t.pth"), student("b", "run:a"), student("a", "/t.pth")]
    assert [one.name for one in linked(profiles, store)] == ["a", "b", "c", "x"]
    alone = student("c", "run:none", distillation=Distillation())
    assert linked([alone], store) == [alone]  # without distillation there is no teacher
    assert references(alone) == ()


def test_a_student_waits_for_a_running_teacher_without_a_place_in_the_queue(
    store: RunStore, launcher: LocalLauncher
) -> None:
    teacher = held(store, launcher)
    run = waiting(store, student())
    assert run.profile().teacher.checkpoint == str(teacher.best)
    assert run.manifest().awaited == (teacher.id,)
    assert store.summary(run).waiting_since is None
    assert run.id not in places(store.root)
    other = start(store, student("other", "/t.pth"), origin="test")  # launched later, first in the queue
    teacher.best.write_text("of the last epoch")
    (teacher.path / "go").touch()
    reaches(store, run, State.FINISHED)
    assert kinds(run)[:2] == ["queued", "started"]
    assert run.manifest().awaited == ()
    assert run.manifest().teachers[0]["sha256"] == sha256_of(teacher.best)
    assert record_of(run).waits_for is None
    assert "waits_for" not in json.loads(run.launch_path.read_text())
    reaches(store, other, State.FINISHED)


@pytest.mark.parametrize(
    ("end", "reason"), [({"fail": "no images"}, "failed"), ({"exit": 3}, "failed"), ({"steps": 500}, "stopped")]
)
def test_a_student_fails_if_its_teacher_does_not_finish(
    store: RunStore, launcher: LocalLauncher, end: dict[str, object], reason: str
) -> None:
    teacher = held(store, launcher, end)
    run = waiting(store, student())
    if reason == "stopped":
        launcher.stop(teacher)
    (teacher.path / "go").touch()
    row = reaches(store, run, State.FAILED)
    assert row.error == "LaunchError"
    assert f"{teacher.id}: {reason}" in row.detail
    assert row.hint == f"kdtui resume {teacher.id}, then kdtui resume {run.id}"
    assert "started" not in kinds(run)
    with pytest.raises(LaunchError, match="did not finish"):
        resume(store, run)


def test_a_waiting_student_stops_on_request(store: RunStore, launcher: LocalLauncher) -> None:
    teacher = held(store, launcher)
    run = waiting(store, student())
    launcher.stop(run)
    assert reaches(store, run, State.STOPPED).detail == "stopped while waiting"
    assert store.summary(teacher).state is State.RUNNING
    assert slot_is_held(store)


def test_a_student_whose_waiting_supervisor_was_killed_waits_again_when_it_is_resumed(
    store: RunStore, launcher: LocalLauncher
) -> None:
    teacher = held(store, launcher)
    run = waiting(store, student())
    kill(record_of(run).identity)
    assert reaches(store, run, State.LOST).detail
    resume(store, run)
    assert reaches(store, run, State.QUEUED).detail == "waits for run r"
    (teacher.path / "go").touch()
    reaches(store, run, State.FINISHED)
    assert [event.attempt for event in events(run) if isinstance(event, Queued)] == [1, 2]


def test_a_student_fails_if_its_teacher_is_removed_while_it_waits(store: RunStore, launcher: LocalLauncher) -> None:
    teacher = held(store, launcher)
    run = waiting(store, student())
    kill(record_of(run).identity)
    kill(record_of(teacher).ranks[0])
    reaches(store, teacher, State.FAILED)
    wait_until_exited(record_of(teacher))
    store.remove(teacher)
    with pytest.raises(LaunchError, match=f"{teacher.id}: removed"):
        resume(store, run)


def test_a_run_waits_for_the_run_of_its_initial_weights(store: RunStore, launcher: LocalLauncher) -> None:
    source = held(store, launcher)
    run = waiting(store, tuned())
    weights = {"checkpoint": str(source.best), "sha256": None, "run": source.id, "awaited": True}
    assert run.manifest().weights == weights and run.manifest().awaited == (source.id,)
    source.best.write_text("of the last epoch")
    (source.path / "go").touch()
    reaches(store, run, State.FINISHED)
    assert run.manifest().weights == weights | {"sha256": sha256_of(source.best)}
    assert getattr(run.profile().student, "weights", None) == str(source.best)


def test_a_run_fails_if_the_run_of_its_initial_weights_does_not_finish(
    store: RunStore, launcher: LocalLauncher
) -> None:
    source = held(store, launcher, {"exit": 3})
    run = waiting(store, tuned())
    (source.path / "go").touch()
    row = reaches(store, run, State.FAILED)
    assert row.error == "LaunchError" and "student.weights" in row.detail and "started" not in kinds(run)
    with pytest.raises(LaunchError, match="of the initial weights did not finish"):
        resume(store, run)


def test_weights_name_a_profile_trained_with_this_one_or_an_earlier_run(
    store: RunStore, launcher: LocalLauncher
) -> None:
    earlier = ended(store, launcher, name="fine")
    both = tuned("both", "run:a").model_copy(
        update={"teacher": Teacher(checkpoint="run:a"), "distillation": Distillation(enabled=True)}
    )
    source = tuned("a", "/w.pth")
    pixels = source.data.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.1, 0.2, 0.3)})
    source = source.model_copy(update={"data": pixels})
    profiles = linked([both, tuned(weights="run:fine"), source], store)
    assert [one.name for one in profiles] == ["a", "both", "fine"]
    assert [getattr(one.student, "weights", None) for one in profiles] == ["/w.pth", "run:a", str(earlier.best)]
    assert profiles[1].data.mean == (0.1, 0.2, 0.3)  # its weights were trained with it
    with pytest.raises(UsageError, match="in a circle"):
        linked([tuned("a", "run:b"), tuned("b", "run:a")], store)


def test_a_launch_target_that_does_not_wait_is_refused_for_a_run_that_has_to(store: RunStore) -> None:
    class Elsewhere(LaunchTable):
        target: Literal["elsewhere"] = "elsewhere"

    teacher = student("a", "/t.pth").model_copy(update={"launch": Elsewhere()})
    assert linked([teacher], store) == [teacher]
    with pytest.raises(UsageError, match="elsewhere"):
        linked([student("s", "run:a").model_copy(update={"launch": Elsewhere()}), teacher], store)
