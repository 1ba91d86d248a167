"""The controller of a search as a real process: the whole path, kill -9, stop, and two at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtui.errors import UsageError
from kdtui.store.state import PRUNED, State
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import controller_state, files_of, start, stop, stop_all
from kdtui.sweep.folder import SweepFolder
from kdtui.sweep.members import Member
from kdtui.sweep.search.results import ResultReader
from tests.sweep.search.searching import (
    KEYS,
    assert_nothing_ran_twice,
    ends,
    kill_controller,
    made,
    members,
    notes,
    own_runs,
)
from tests.waiting import eventually


@pytest.fixture
def folder(store: RunStore) -> Iterator[SweepFolder]:
    folder = made(store)
    yield folder
    if files_of(folder).launch_record() is not None:
        kill_controller(folder)


def test_killed_again_and_again_it_ends_as_if_it_never_was(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    start(folder)
    eventually(lambda: len(own_runs(store, folder)) == 1, "the first trial")
    kill_controller(folder)
    assert controller_state(folder).state is State.LOST
    start(folder)  # the trial is still training, and continues
    eventually(lambda: any(member.epoch == 1 for member in members(store, folder).values()), "an epoch")
    kill_controller(folder)
    (gate / "open").touch()
    start(folder)
    eventually(lambda: len(own_runs(store, folder)) >= 2, "the second trial")
    kill_controller(folder)
    start(folder)

    ended = ends(folder)

    assert (ended.state, ended.error) == (State.FINISHED, "")
    assert_nothing_ran_twice(store, folder)
    found = members(store, folder)
    assert {(place.key, place.role) for place in found} == {
        *((key, "student") for key in KEYS),
        (ResultReader(store, folder).read().decision.winner, "baseline"),  # type: ignore[union-attr]
    }


def test_a_finished_search_has_nothing_left_to_do(store: RunStore, folder: SweepFolder) -> None:
    start(folder)
    ends(folder)
    before = own_runs(store, folder)
    results = ResultReader(store, folder).read()
    (student,) = results.of("student")
    assert student.key in KEYS and student.seeds == 1 and student.score is not None
    assert [entry.state for entry in results.of("candidate")].count("over budget") == 3

    start(folder)

    assert ends(folder).state is State.FINISHED
    assert own_runs(store, folder) == before
    assert_nothing_ran_twice(store, folder)


@pytest.mark.parametrize("slots", ["cpu:1", "cpu:2"])
def test_a_trial_that_others_beat_is_stopped_as_pruned(
    store: RunStore, folder: SweepFolder, gate: Path, monkeypatch: pytest.MonkeyPatch, slots: str
) -> None:
    """With one slot the first trial is paused at the rung, and pruned without another start."""
    monkeypatch.setenv("KDTUI_SLOTS", slots)
    (gate / "epoch-1").touch()  # they wait at the rung, after their second epoch
    start(folder)
    loser = eventually(
        lambda: next((one for one in members(store, folder).values() if one.summary.pruned), None), "a loser"
    )
    assert isinstance(loser, Member)
    assert (loser.summary.state, loser.summary.detail, loser.epoch) == (State.STOPPED, PRUNED, 2)
    assert loser.run.stop_reason() == PRUNED
    (gate / "open").touch()
    ends(folder)
    assert_nothing_ran_twice(store, folder)


def test_stop_saves_the_runs_and_resume_continues_them(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    start(folder)
    eventually(lambda: any(member.epoch == 1 for member in members(store, folder).values()), "an epoch")
    stop(folder)
    assert ends(folder).state is State.STOPPED
    assert {member.summary.state for member in members(store, folder).values()} == {State.STOPPED}
    (gate / "open").touch()
    start(folder)
    assert ends(folder).state is State.FINISHED
    assert_nothing_ran_twice(store, folder)


def test_of_two_that_ask_at_once_one_starts_it(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from kdtui.sweep.controlled import start;"
        "from kdtui.sweep.folder import SweepFolder; print(start(SweepFolder(Path(sys.argv[1]))))"
    )
    asked = [subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE) for _ in range(2)]
    answers = sorted(process.communicate()[0] for process in asked)
    (gate / "open").touch()
    assert answers == [b"False\n", b"True\n"]
    ends(folder)
    assert_nothing_ran_twice(store, folder)


def test_a_budget_that_none_meets_names_the_nearest(store: RunStore) -> None:
    from kdtui.sweep.search.budget import Budget

    folder = made(store, budget=Budget(0.001))
    start(folder)
    ended = ends(folder)
    assert ended.state is State.FAILED
    assert "tu-mobilenetv3_small_050-Unet-w0.25: 4.00 ms > 1.00 ms" in ended.error
    assert own_runs(store, folder) == [] and len(notes(folder)) == 1


def test_a_killed_search_leaves_no_process_and_continues(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    start(folder)
    eventually(lambda: any(member.epoch == 1 for member in members(store, folder).values()), "an epoch")

    stopped, errors = stop_all(store, folder, kill=True)

    assert ([run.id for run in stopped], errors) == ([run.id for run in own_runs(store, folder)], [])
    assert controller_state(folder).state is State.STOPPED
    assert [store.summary(run).detail for run in own_runs(store, folder)] == ["killed"]
    with pytest.raises(UsageError, match="nothing to stop"):
        stop_all(store, folder, kill=True)
    (gate / "open").touch()
    start(folder)
    assert ends(folder).state is State.FINISHED
    assert_nothing_ran_twice(store, folder)


def test_runs_of_a_lost_controller_are_stopped(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    start(folder)
    eventually(lambda: any(member.epoch == 1 for member in members(store, folder).values()), "an epoch")
    kill_controller(folder)
    (gate / "open").touch()
    stopped, errors = stop_all(store, folder)
    assert ([run.id for run in stopped], errors) == ([run.id for run in own_runs(store, folder)], [])
