"""The controller of a sampled sweep as a real process: the whole path, kill -9 of anything, pruning, more trials."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdtui.launch.alive import is_running
from kdtui.store.run import Run
from kdtui.store.state import LIVE, PRUNED, State
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import controller_state, stop_all
from kdtui.sweep.folder import SweepFolder, create
from kdtui.sweep.sampled.control import start
from kdtui.sweep.sampled.results import SampledReader, SampledRuns
from kdtui.sweep.sampled.spec import Request, SampledSpec
from kdtui.sweep.sampled.study import COMPARED, Study
from kdtui.sweep.sampled.work import JOURNAL
from kdtui.sweep.trial_work import MOST_LAUNCHES
from tests.launch.conftest import environment as environment
from tests.launch.conftest import store as store
from tests.sweep.sampled.sampling import RATE, T, spec_of, trained
from tests.sweep.search.searching import assert_nothing_ran_twice, ends, kill_controller, notes, own_runs
from tests.waiting import eventually


@pytest.fixture
def spec(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampledSpec:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    monkeypatch.setenv("KDTUI_TEST_PEAK", "3")
    teacher = tmp_path / "teacher.pth"
    teacher.write_bytes(b"")
    return spec_of(store, teacher, f"{T}=1..8", f"{RATE}=1e-4..1e-2:log", "training.epochs=3", prune=True)


@pytest.fixture
def folder(store: RunStore, spec: SampledSpec) -> Iterator[SweepFolder]:
    folder = create(store.root, spec.id, spec.to_tables())
    Request(3).write(folder)
    yield folder
    if controller_state(folder).live:
        kill_controller(folder)


def results(store: RunStore, folder: SweepFolder) -> SampledRuns:
    return SampledReader(store, folder).read()


def kill_workers(store: RunStore, folder: SweepFolder, *, wait: bool = True) -> None:
    """SIGKILL all supervisors and ranks of the sweep."""
    for run in own_runs(store, folder):
        launched = run.launch_record()
        for one in (launched.identity, *launched.ranks) if launched is not None else ():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(one["pid"]), signal.SIGKILL)
    if wait:
        eventually(
            lambda: not [one for one in own_runs(store, folder) if store.summary(one).state in LIVE], "dead runs"
        )


def at_epoch(store: RunStore, folder: SweepFolder, epoch: int, count: int) -> None:
    def reached() -> bool:
        return sum(trial.epoch == epoch for trial in results(store, folder).trials) >= count

    eventually(reached, f"{count} trials at epoch {epoch}")


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_it_never_was(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    start(folder)
    at_epoch(store, folder, 1, 2)
    kill_controller(folder)
    kill_workers(store, folder)
    assert controller_state(folder).state is State.LOST
    data = (folder.path / JOURNAL).read_bytes()
    (folder.path / JOURNAL).write_bytes(data[: len(data) // 2])
    start(folder)
    (gate / "open").touch()
    eventually(lambda: len(own_runs(store, folder)) == 3, "the third trial")
    kill_controller(folder)
    start(folder)

    ended = ends(folder)

    assert (ended.state, ended.error) == (State.FINISHED, "")
    assert_nothing_ran_twice(store, folder)
    found = results(store, folder)
    assert len(found.trials) == 3 == found.ended
    assert found.best is not None and ended.reason.startswith(f"best {found.best.text()}")
    assert found.best.score == max(trial.score or 0 for trial in found.trials if trial.outcome == "finished")


@pytest.mark.slow
def test_values_that_were_chosen_before_a_kill_are_trained(
    store: RunStore, folder: SweepFolder, spec: SampledSpec
) -> None:
    chosen = Study(folder.path / JOURNAL, spec).ask(set())  # killed before it made the run
    Request(1).write(folder)
    start(folder)
    ends(folder)
    assert [dict(trial.cell) for trial in results(store, folder).trials] == [chosen]


def test_a_trial_below_the_median_is_stopped_as_pruned(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    for number in range(COMPARED):
        trained(store, folder, {T: 1.5 + number, RATE: 1e-3}, 0.9)
    Request(COMPARED + 1).write(folder)
    start(folder)
    ended = ends(folder)  # the gate stays closed: the run waits after its first epoch
    assert ended.state is State.FINISHED
    loser = results(store, folder).trials[-1]
    (run,) = loser.runs
    assert (loser.word, run.state, run.detail, loser.epoch) == ("pruned", State.STOPPED, PRUNED, 1)
    assert Run(run.path).stop_reason() == PRUNED
    start(folder)
    ends(folder)
    assert Run(run.path).launch_record().attempt == 1  # type: ignore[union-attr]


@pytest.mark.slow
def test_stopped_it_continues_and_takes_more_trials_while_it_runs(
    store: RunStore, folder: SweepFolder, gate: Path
) -> None:
    Request(1).write(folder)
    start(folder)
    at_epoch(store, folder, 1, 1)
    own_runs(store, folder)[0].request_stop()  # as `kdtui stop RUN`: other trials would be trained
    assert ends(folder).state is State.FAILED
    assert [trial.word for trial in results(store, folder).trials] == ["stopped"]
    start(folder)
    eventually(lambda: results(store, folder).trials[0].state is State.RUNNING, "its run again")
    stop_all(store, folder)
    assert ends(folder).state is State.STOPPED
    start(folder)
    Request(2).write(folder)
    eventually(lambda: len(own_runs(store, folder)) == 2, "the second trial")
    (gate / "open").touch()
    assert ends(folder).state is State.FINISHED
    assert_nothing_ran_twice(store, folder)


@pytest.mark.slow
def test_without_a_controller_its_runs_are_stopped_too(store: RunStore, folder: SweepFolder, gate: Path) -> None:
    start(folder)
    at_epoch(store, folder, 1, 2)
    kill_controller(folder)
    assert len(stop_all(store, folder)[0]) == 2
    eventually(lambda: {one.word for one in results(store, folder).trials} == {"stopped"}, "stopped runs")


@pytest.mark.slow
def test_a_removed_run_is_replaced_by_another_trial(store: RunStore, folder: SweepFolder) -> None:
    Request(1).write(folder)
    start(folder)
    ends(folder)
    (removed,) = own_runs(store, folder)
    cell = results(store, folder).trials[0].cell
    supervisor = removed.launch_record()
    assert supervisor is not None
    eventually(lambda: not is_running(supervisor.identity), "its exit")
    store.remove(removed)
    start(folder)
    ends(folder)
    (trial,) = results(store, folder).trials
    assert trial.cell != cell and trial.outcome == "finished"


@pytest.mark.slow
def test_a_run_whose_processes_are_killed_each_time_does_not_keep_the_sweep_from_its_end(
    store: RunStore, folder: SweepFolder, gate: Path
) -> None:
    Request(1).write(folder)
    start(folder)
    for attempt in range(1, MOST_LAUNCHES + 1):

        def training(attempt: int = attempt) -> bool:
            rows = [(store.summary(run), run.launch_record()) for run in own_runs(store, folder)]
            return [(row.state, record and record.attempt) for row, record in rows] == [(State.RUNNING, attempt)]

        eventually(training, f"attempt {attempt}")
        kill_workers(store, folder, wait=False)
    ended = ends(folder)
    assert ended.state is State.FAILED and "no trial finished" in ended.error
    assert "again and again" in notes(folder)[-1]
    (gate / "open").touch()
    start(folder)
    assert ends(folder).state is State.FINISHED and len(own_runs(store, folder)) == 1
