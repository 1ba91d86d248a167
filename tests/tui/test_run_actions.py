"""What is done to runs from the list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from kdtui.errors import UsageError
from kdtui.launch.alive import probe
from kdtui.launch.local import LocalLauncher
from kdtui.profile import Profile, dump
from kdtui.store.identity import hostname
from kdtui.store.run import Notes
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore
from kdtui.tui.screens.dialogs import Confirm, Prompt
from kdtui.tui.screens.run_actions import horizon
from tests.fake_engine import COMMAND
from tests.tui.home import go_to, names, screen, status, write
from tests.tui.scenes import Scene, cockpit, settled, shows, text, until


async def test_stop_requires_confirmation_and_stops_the_chosen_live_runs(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("x")
        await shows(pilot, "nothing to stop")
        runs = {run.id: run for run in crowd.store.runs()}
        await go_to(pilot, next(key for key in runs if key.endswith("-b0-t4")))
        for answer in ("n", "escape", "q", "enter"):
            await pilot.press("x")
            await shows(pilot, "Stop b0-t4?", "kdtui stop 20260821-163000-b0-t4", "y yes")
            await pilot.press("x", answer)
            await until(pilot, lambda: len(app.screen_stack) == 1)
        assert not any(run.stop_requested() for run in runs.values())
        await pilot.press("x", "y")
        await shows(pilot, "b0-t4: stopping", "kdtui stop 20260821-163000-b0-t4")
        asked = [run.id for run in runs.values() if run.stop_requested()]
        assert asked == ["20260821-163000-b0-t4"]
        await pilot.press("down", "space", "down", "space", "end", "space", "x")
        await shows(pilot, "Stop 2 runs?", "b0-t2, b0-quiet")
        await pilot.press("y")
        await shows(pilot, "2 runs: stopping", "kdtui stop 20260821-16")
        assert sum(run.stop_requested() for run in runs.values()) == 3
        await pilot.press("up")
        assert "stopping" not in status(pilot)


async def test_stop_names_what_the_filter_hides(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        runs = {run.id: run for run in crowd.store.runs()}
        live = [key for key, row in app.board.rows.items() if row.state in LIVE]
        seen, *others = live
        for key in live:
            await go_to(pilot, key)
            await pilot.press("space")
        await pilot.press("slash")
        await write(pilot, f"id:{seen}")
        await pilot.press("enter")
        await until(pilot, lambda: names(pilot) == [app.board.rows[seen].name])
        await pilot.press("x")
        await shows(pilot, f"Stop {len(live)} runs?", "Hidden by the filter", "kdtui stop", "y yes")
        assert all(app.board.rows[other].name in text(app) for other in others)
        await pilot.press("y")
        await shows(pilot, f"{len(live)} runs: stopping")
        assert [key for key in live if runs[key].stop_requested()] == live


async def test_stop_names_the_one_marked_run_that_is_hidden(scene: Scene) -> None:
    hidden, seen = scene.running("b0", epochs=2), scene.running("b1", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await go_to(pilot, hidden.id)
        await pilot.press("space", "slash")
        await write(pilot, "name:b1")
        await pilot.press("enter", "x")
        await shows(pilot, "Stop b0?", "Hidden by the filter: b0", f"kdtui stop {hidden.id}")
        assert not hidden.stop_requested()
        await pilot.press("y")
        await shows(pilot, "b0: stopping")
        assert hidden.stop_requested() and not seen.stop_requested()


async def test_kill_requires_confirmation(scene: Scene) -> None:
    scene.processes.host = hostname()
    run = scene.running("b0", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key in ("n", "escape", "q", "enter"):
            await pilot.press("X")
            await shows(pilot, "Kill b0?", f"kdtui stop --kill {run.id}", "y yes")
            assert isinstance(app.screen, Confirm)
            await pilot.press("x", "space", "down", key)
            await until(pilot, lambda: len(app.screen_stack) == 1)
        assert scene.store.summary(run).state is State.RUNNING
        await pilot.press("X", "y")
        await shows(pilot, "b0: killed", f"kdtui stop --kill {run.id}", "■ b0")
        assert scene.store.summary(run).state is State.STOPPED
        await pilot.press("X")
        await shows(pilot, "nothing to kill: b0 is stopped")


async def test_a_run_on_another_host_is_not_killed(scene: Scene) -> None:
    scene.running("b0", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("X", "y")
        await shows(pilot, "A run can be killed only on its own host · found: here · next:")


async def test_remove_requires_confirmation_and_refuses_a_live_run(scene: Scene) -> None:
    done = scene.finished("b0-alone", horizon=2)
    kept = scene.finished("b0-other", horizon=2)
    live = scene.running("b0-t4", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("delete")
        await shows(pilot, "b0-t4 is running or queued; press x to stop it first")
        await pilot.press("end", "space", "delete")
        await shows(pilot, "Delete b0-alone?", f"kdtui remove {done.id}")
        await pilot.press("n")
        assert done.path.exists()
        await pilot.press("delete", "y")
        await shows(pilot, "1 run removed", f"kdtui remove {done.id}")
        await until(pilot, lambda: names(pilot) == ["b0-t4", "b0-other"])
        assert not done.path.exists() and kept.path.exists() and live.path.exists()
        assert app.board.marked == [] and screen(pilot).table.marks == frozenset()
        assert screen(pilot).run_id == kept.id


async def test_resume_refuses_invalid_input(scene: Scene) -> None:
    scene.finished("b0-done", horizon=4)
    scene.stopped("b0-half", horizon=8)
    scene.running("b0-live", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("R")
        await shows(pilot, "b0-live is running or queued already")
        await pilot.press("down", "R")
        await shows(pilot, "Resume b0-half up to which epoch?", "Leave empty to keep 8 epochs")
        for typed in ("3", "²"):
            await write(pilot, typed)
            await shows(pilot, "not a valid number of epochs", "an integer from 4 to")
            await pilot.press("enter")
            assert isinstance(app.screen, Prompt)
        await pilot.press("escape", "end", "R", "enter")
        await shows(pilot, "It finished 4 epochs; enter a larger number.")
        await pilot.press("4")
        await shows(pilot, "an integer from 5 to")
        await pilot.press("escape")
        assert len(app.screen_stack) == 1
    assert all(scene.store.summary(run).attempt == 1 for run in scene.store.runs())


@pytest.mark.parametrize("typed", ["0", "-1", "3", "1e3", "4.0", "many", "²", "4 4", "9" * 60, "9" * 5000])
def test_an_invalid_number_of_epochs(typed: str) -> None:
    with pytest.raises(UsageError):
        horizon(typed, done=4)


def test_a_number_of_epochs() -> None:
    assert [horizon(typed, done=4) for typed in ("", " ", "4", " 80 ")] == [None, None, 4, 80]
    assert horizon("1") == 1
    assert horizon("5", done=4, finished=True) == 5
    for typed in ("", "4"):
        with pytest.raises(UsageError):
            horizon(typed, done=4, finished=True)


@pytest.fixture
def engine(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """The store with real processes; whatever still lives in it at the end is killed."""
    monkeypatch.setenv("KDTUI_ENGINE", COMMAND)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    store = RunStore(scene.store.root, alive=probe)
    yield store
    for run in store.runs():
        if store.summary(run).state in LIVE:
            LocalLauncher(store).stop(run, kill=True)


async def test_resume_accepts_the_new_path_of_moved_data_with_the_epochs(
    scene: Scene, engine: RunStore, tmp_path: Path
) -> None:
    data = tmp_path / "my data"
    data.mkdir()
    run = scene.never_launched("slow", horizon=3)
    places = {"kind": "folder", "root": str(data), "augmentation": "light"}
    run.profile_path.write_bytes(dump(Profile.model_validate({**run.profile_table(), "data": places})))
    moved = data.rename(tmp_path / "else where")
    app = cockpit(engine)
    async with app.run_test(size=(400, 24)) as pilot:
        await settled(pilot)
        await pilot.press("R", "enter")
        await shows(pilot, "the run's data are not at the recorded location", "--set data.root=FOLDER")
        assert run.launch_record() is None
        await pilot.press("R")
        await shows(pilot, "Resume slow up to which epoch?", "--set data.root=FOLDER")
        await write(pilot, f"600 'data.root={moved}'")
        await pilot.press("enter")
        await shows(pilot, "slow: resumed", f"--total-epochs 600 --set 'data.root={moved}' --detach")
        await shows(pilot, "▶ slow", "/600")
        assert run.overrides() == {"data": {"root": str(moved)}}
        await pilot.press("x", "y")
        await shows(pilot, "■ slow")


async def test_resume_launches_and_quitting_does_not_stop_the_run(scene: Scene, engine: RunStore) -> None:
    run = scene.never_launched("slow", horizon=3)
    app = cockpit(engine)
    async with app.run_test(size=(120, 24)) as pilot:
        await settled(pilot)
        await shows(pilot, "· slow")
        await pilot.press("R", *"600", "enter")
        await shows(pilot, "slow: resumed", f"kdtui resume {run.id} --total-epochs 600 --detach")
        await shows(pilot, "▶ slow", "/600")
        step = engine.summary(run).step or 0
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
    again = cockpit(engine)
    async with again.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: (again.board.rows[run.id].step or 0) > step)
        await pilot.press("x", "y")
        await shows(pilot, "slow: stopping")
        await shows(pilot, "■ slow")
    assert engine.summary(run).state is State.STOPPED


async def test_a_failed_launch_displays_the_reason(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", "/no/such/engine")
    scene.never_launched("b0")
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("R", "enter")
        await shows(pilot, "The engine's program was not found", "/no/such/engine", "next:")


async def test_tags_and_a_note_are_written_on_one_line(scene: Scene) -> None:
    run = scene.finished("b0", horizon=2, tags=("old",), note="see #3\nsecond line \x1b[31m")
    before = run.notes()
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await shows(pilot, "#old  see #3 second line")
        await pilot.press("t")
        await shows(pilot, "Tags and note of")
        field = app.screen.query_one(Input)
        assert field.value == "#old see #3 second line [31m"
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert run.notes() == before  # unchanged
        await pilot.press("t")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await write(pilot, "good #best #best")
        await pilot.press("enter")
        await shows(pilot, "note saved", f"kdtui note {run.id} TEXT")
        assert run.notes() == Notes(("best",), "good")
        await pilot.press("down", "escape")
        await until(pilot, lambda: app.board.rows[run.id].notes == "good")
        await pilot.press("t", "escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert run.notes() == Notes(("best",), "good")


async def test_copying_reports_the_target(scene: Scene) -> None:
    run = scene.finished("b0", horizon=2)
    app = cockpit(scene)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("y")
        await shows(pilot, f"{run.id}: copied", "OSC 52")
        assert app.clipboard == run.id == (scene.store.root / ".cache" / "copied.txt").read_text()
