"""Profiles that name their teacher by a run, trained with one command: real processes and an engine without torch."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from kdtui.store.files import sha256_of
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui
from tests.waiting import eventually, finished


@pytest.fixture(autouse=True)
def chain(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles a, b with the teacher a, c with the teacher b, and others whose teachers do not end well."""
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1")
    taught = 'extends = "baseline"\n[training]\nepochs = 1\n[distillation]\nenabled = true\n[teacher]\n'
    (here / "a.toml").write_text('extends = "baseline"\n[training]\nepochs = 1\n')
    teachers = {"b": "a", "c": "b", "of-fails": "fails", "of-held": "held", "ring": "gnir", "gnir": "ring"}
    for name, teacher in teachers.items():
        (here / f"{name}.toml").write_text(f'{taught}checkpoint = "run:{teacher}"\n')
    for name in ("fails", "held"):
        (here / f"{name}.toml").write_text('extends = "a"\n')


def states(store: RunStore) -> dict[str, State]:
    return {row.name: row.state for row in store.summaries()}


def test_teachers_are_trained_before_their_students(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "c.toml", "b.toml", "a.toml")
    assert done.code == 0, done.err
    runs = [store.find(line) for line in done.out.split()]
    assert [run.manifest().name for run in runs] == ["a", "b", "c"]
    assert [run.profile().teacher.checkpoint for run in runs[1:]] == [str(run.best) for run in runs[:2]]
    rows = store.summaries(runs)
    assert all(row.state is State.FINISHED for row in rows)
    assert all((before.last_event or 0) <= (after.started or 0) for before, after in pairwise(rows))
    assert "teacher run:a, which has to finish first" in done.err


def test_a_run_starts_from_the_weights_of_one_that_is_trained_before_it(kdtui: Kdtui, store: RunStore) -> None:
    older = kdtui("train", "a.toml").out.split()[0]
    Path("tuned.toml").write_text('extends = "a"\n[student]\nweights = "run:a"\n')
    done = kdtui("train", "tuned.toml", "a.toml")
    assert done.code == 0, done.err
    source, tuned = store.find_all(done.out.split())
    assert [run.manifest().name for run in (source, tuned)] == ["a", "tuned"] and source.id != older
    assert getattr(tuned.profile().student, "weights", None) == str(source.best)
    assert (tuned.manifest().weights or {})["sha256"] == sha256_of(source.best)
    before, after = store.summaries([source, tuned])
    assert (before.last_event or 0) <= (after.started or 0)


def test_students_of_a_run_that_fails_fail_and_the_others_are_stopped(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "of-fails.toml", "fails.toml", "held.toml", "of-held.toml")
    assert done.code == 4
    failed = dict.fromkeys(("fails", "of-fails", "of-held"), State.FAILED)
    assert states(store) == failed | {"held": State.STOPPED}
    assert "of-fails: the run of the teacher did not finish" in done.err
    assert "--keep-going" in done.err
    assert len(done.out.split()) == 4


def test_keep_going_trains_what_does_not_wait_for_a_run_that_fails(kdtui: Kdtui, store: RunStore) -> None:
    done = kdtui("train", "fails.toml", "of-fails.toml", "a.toml", "b.toml", "--keep-going")
    assert done.code == 4
    assert states(store) == {"fails": State.FAILED, "of-fails": State.FAILED, "a": State.FINISHED, "b": State.FINISHED}


@pytest.mark.parametrize(
    ("profiles", "found"),
    [(("ring", "gnir"), "ring -> gnir -> ring"), (("ring",), "run:gnir"), (("a", "b", "c", "of-fails"), "run:fails")],
)
def test_nothing_is_started_if_a_teacher_cannot_be_found(
    kdtui: Kdtui, store: RunStore, profiles: tuple[str, ...], found: str
) -> None:
    done = kdtui("train", *(f"{name}.toml" for name in profiles))
    assert done.code == 2
    assert found in done.err
    assert not store.runs()


def test_detached_runs_wait_for_each_other_after_their_terminal_was_closed(kdtui: Kdtui, store: RunStore) -> None:
    words = [sys.executable, "-m", "kdtui", "train", "held.toml", "of-held.toml", "--detach"]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True, text=True)
    out, _ = finished(started)
    teacher, student = store.find_all(out.split())
    signalled = subprocess.run(["pkill", "-HUP", "-s", str(started.pid)], check=False)
    assert signalled.returncode in (0, 1)
    eventually(lambda: "waits for run held" in store.summary(student).detail)
    assert "waits for run held" in kdtui("runs").out
    (teacher.path / "go").touch()
    eventually(lambda: store.summary(student).state is State.FINISHED)


def test_ctrl_c_stops_the_teacher_and_its_students_fail(store: RunStore) -> None:
    words = [sys.executable, "-m", "kdtui", "train", "held.toml", "of-held.toml"]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    assert any(line.startswith("held: started") for line in started.stderr)
    started.send_signal(signal.SIGINT)
    _, err = finished(started)
    assert started.returncode == 130
    assert states(store) == {"held": State.STOPPED, "of-held": State.FAILED}
    assert "kdtui resume" in err
