"""The list of runs, by keys and by mouse."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from kdtui.launch.alive import hostname, probe
from kdtui.launch.local import LocalLauncher
from kdtui.store.records import Notes
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore
from kdtui.tui.screens.confirm import Confirm
from kdtui.tui.screens.prompt import Prompt
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.widgets.line_chart import LineChart
from tests.tui.scenes import Scene, cockpit, lines, settled, shows, text, until

ENGINE = Path(__file__).parents[1] / "cli" / "engine.py"


def screen(pilot: Pilot[Any]) -> RunsScreen:
    found = pilot.app.screen_stack[0]
    assert isinstance(found, RunsScreen)
    return found


def names(pilot: Pilot[Any]) -> list[str]:
    """Names of the rows that are seen, from the top."""
    shown = []
    for line in lines(pilot.app)[2:]:
        if not line.strip() or line.startswith("╭"):
            break
        shown.append(line[4:].split()[0])
    return shown


def row(pilot: Pilot[Any], name: str) -> str:
    """The line of a run in the table."""
    return next(line for line in lines(pilot.app)[2:] if f"{line[4:]} ".startswith(f"{name} "))


def chart(pilot: Pilot[Any]) -> str:
    """The chart with its frame."""
    everything = text(pilot.app)
    return everything[everything.index("╭") : everything.index("╯")]


def status(pilot: Pilot[Any]) -> str:
    return lines(pilot.app)[-2]


async def go_to(pilot: Pilot[Any], run_id: str) -> None:
    """Put the cursor on a run."""
    screen(pilot).table.move_to(run_id)
    await pilot.pause()
    assert screen(pilot).run_id == run_id


async def write(pilot: Pilot[Any], typed: str) -> None:
    """Replace what stands in the line that is asked for."""
    pilot.app.screen.query_one(Input).value = typed
    await pilot.pause()


async def test_rows_come_newest_first_and_live_ones_move(scene: Scene) -> None:
    scene.finished("b0-alone", horizon=4, best=0.6)
    run = scene.running("b0-t4", epochs=2, horizon=20)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await shows(pilot, "> ▶ b0-t4", "● b0-t4")
        assert names(pilot) == ["b0-t4", "b0-alone"]
        assert "1▶ 1✓" in lines(app)[0] and lines(app)[0].endswith("CPU 42%  mem 6.1/16G  14:02")
        before = row(pilot, "b0-t4")
        curve = chart(pilot)
        assert " 2/20 " in before
        scene.advance(run, 3)
        await shows(pilot, " 5/20 ")
        await until(pilot, lambda: chart(pilot) != curve)
        assert row(pilot, "b0-t4") != before
        new = scene.queued("b0-t8")
        await shows(pilot, "… b0-t8", "q#1")
        assert names(pilot) == ["b0-t8", "b0-t4", "b0-alone"]
        assert screen(pilot).run_id == run.id  # the cursor stays with its run
        scene.start(new)
        await shows(pilot, "▶ b0-t8")
        await pilot.press("down")
        await shows(pilot, "loss b0-alone", "● b0-alone")


async def test_marked_runs_share_the_chart_by_images(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c")
        assert "mark two runs or more" in status(pilot)
        await pilot.press("down", "down", "down", "space", "down", "space", "end", "space")
        await settled(pilot)
        await shows(pilot, "loss 3 runs", "images", "A b0-t4", "B b0-t2", "C b3-teacher")
        assert row(pilot, "b0-t4").startswith(" A▶")
        await pilot.press("m")
        await shows(pilot, "val mIoU 3 runs")
        await until(pilot, lambda: "teacher .754" in chart(pilot) and "95% .716" in chart(pilot))
        await pilot.press("space")
        await shows(pilot, "val mIoU 2 runs")
        await pilot.press("M")
        await shows(pilot, "loss 2 runs")
        assert app.board.letters == dict(zip(app.board.marked, "AB", strict=True))
        await pilot.press("escape")
        await shows(pilot, "b3-teacher", "steps")
        assert app.board.marked == []


async def test_chart_keys_work_from_the_table(scene: Scene) -> None:
    scene.finished("b0", horizon=20)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        view = pilot.app.query_one("#chart", LineChart)
        await shows(pilot, "● b0")
        whole = before = chart(pilot)
        for key in ("l", "full_stop", "z", "{", "}", "["):
            await pilot.press(key)
            assert chart(pilot) != before, key
            before = chart(pilot)
        assert view.log_y and view.smoothing > 0
        await pilot.press("l", "comma", "0")
        assert chart(pilot) == whole
        count = len(screen(pilot)._metrics())
        titles = []
        for _ in range(count):
            await pilot.press("m")
            titles.append(chart(pilot).splitlines()[1].strip("│ "))
        assert len(set(titles)) == count > 5
        assert chart(pilot) == whole


async def test_a_filter_is_tried_while_it_is_typed(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        everything = names(pilot)
        await pilot.press("slash", *"stu")
        line = app.screen.query_one("#filter", Input)
        await until(pilot, lambda: line._suggestion == "student")
        await pilot.press("tab")
        assert line.value == "student"
        await pilot.press("colon", *"res")
        await until(pilot, lambda: line._suggestion == "student:resnet18")
        await pilot.press("tab")
        await until(pilot, lambda: names(pilot) == ["r18-from-b3"])
        await pilot.press("enter")
        await shows(pilot, "1 of 16 runs", "kdtui runs --filter student:resnet18")
        assert screen(pilot).table.has_focus
        await pilot.press("slash", "end", "space", *"T>=x", "enter")
        await shows(pilot, "no number")
        assert names(pilot) == ["r18-from-b3"] and line.has_focus  # the last one that could be read stands
        await write(pilot, "shoe:size")
        await shows(pilot, "knows no field 'shoe'")
        await pilot.press("escape")
        await until(pilot, lambda: names(pilot) == everything)
        assert screen(pilot).table.has_focus and not line.display
        await pilot.press("slash")
        await write(pilot, "miou>.99")
        await pilot.press("enter")
        await shows(pilot, "no run fits 'miou>.99'; esc takes the filter away", "0 of 16 runs")
        await pilot.press("down", "x", "X", "R", "t", "delete", "y", "space", "N", "enter")
        assert len(app.screen_stack) == 1  # nothing to do it to
        await pilot.press("escape")
        await until(pilot, lambda: names(pilot) == everything)


async def test_order_by_key_and_by_a_click_on_a_title(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        newest = names(pilot)
        await pilot.press("s")
        await shows(pilot, "sorted by run, smallest first", "run▲")
        assert names(pilot) == sorted(newest)
        await pilot.press("S")
        await shows(pilot, "sorted by run, largest first", "run▼")
        assert names(pilot) == sorted(newest, reverse=True)
        title = lines(app)[1].index("mIoU")
        await pilot.click("#runs", offset=(title + 1, 0))
        await shows(pilot, "sorted by mIoU, largest first")
        assert names(pilot)[:2] == ["b3-teacher", "b0-from-b3"]
        assert set(names(pilot)[-3:]) == {"draft", "b0-t8", "b0-t16"}  # without one, last
        await pilot.click("#runs", offset=(title + 1, 0))
        await shows(pilot, "sorted by mIoU, smallest first")
        assert names(pilot)[0] in ("b0-hot", "b0-wide") and "draft" in names(pilot)[-3:]
        await pilot.click("#runs", offset=(2, 0))
        await shows(pilot, "sorted by state, smallest first")
        await pilot.press("S")
        for _ in range(20):
            if "newest first" in status(pilot):
                break
            await pilot.press("s")
        assert names(pilot) == newest
        await pilot.press("S")  # nothing to turn round
        assert names(pilot) == newest


async def test_a_click_takes_the_cursor_and_the_key_bar_its_keys(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.click("#runs", offset=(8, 4))
        await shows(pilot, "> ▶ b0-t4")
        bar = lines(app)[-1]
        await pilot.click("#keys", offset=(bar.index("mark"), 0))
        await until(pilot, lambda: app.board.marked == [screen(pilot).run_id])
        await pilot.click("#keys", offset=(bar.index("? help"), 0))
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await shows(pilot, "Keys of this screen first")


async def test_stop_asks_the_chosen_live_runs(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("x")
        await shows(pilot, "nothing to stop")
        runs = {run.id: run for run in crowd.store.runs()}
        await go_to(pilot, next(key for key in runs if key.endswith("-b0-t4")))
        await pilot.press("x")
        await shows(pilot, "b0-t4: asked to stop", "kdtui stop 20260821-163000-b0-t4")
        asked = [run.id for run in runs.values() if run.stop_requested()]
        assert asked == ["20260821-163000-b0-t4"]
        await pilot.press("down", "space", "down", "space", "end", "space", "x")
        await shows(pilot, "2 runs: asked to stop", "kdtui stop 20260821-16")
        assert sum(run.stop_requested() for run in runs.values()) == 3
        await pilot.press("up")
        assert "asked to stop" not in status(pilot)


async def test_kill_asks_first(scene: Scene) -> None:
    scene.processes.host = hostname()
    run = scene.running("b0", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key in ("n", "escape", "q"):
            await pilot.press("X")
            await shows(pilot, "Kill b0?", f"kdtui stop --kill {run.id}", "y yes")
            assert isinstance(app.screen, Confirm)
            await pilot.press("x", "enter", "down", key)
            await until(pilot, lambda: len(app.screen_stack) == 1)
        assert scene.store.summary(run).state is State.RUNNING
        await pilot.press("X", "y")
        await shows(pilot, "b0: killed", f"kdtui stop --kill {run.id}", "■ b0")
        assert scene.store.summary(run).state is State.STOPPED
        await pilot.press("X")
        await shows(pilot, "nothing to kill: b0 is stopped")


async def test_a_run_elsewhere_is_not_killed_from_here(scene: Scene) -> None:
    scene.running("b0", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("X", "y")
        await shows(pilot, "A run can be killed only on its own host · here · next:")


async def test_remove_asks_first_and_refuses_a_living_run(scene: Scene) -> None:
    done = scene.finished("b0-alone", horizon=2)
    kept = scene.finished("b0-other", horizon=2)
    live = scene.running("b0-t4", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("delete")
        await shows(pilot, "b0-t4 lives; x stops it first")
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


async def test_resume_refuses_nonsense(scene: Scene) -> None:
    scene.finished("b0-done", horizon=4)
    scene.stopped("b0-half", horizon=8)
    scene.running("b0-live", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("R")
        await shows(pilot, "b0-live lives already")
        await pilot.press("down", "R")
        await shows(pilot, "Resume b0-half up to which epoch?", "keeps the horizon of 8")
        for typed in ("0", "-1", "3", "1e3", "many", "²", "9" * 60):
            await write(pilot, typed)
            await shows(pilot, "no number of epochs", "a whole number from 4 to")
            await pilot.press("enter")
            assert isinstance(app.screen, Prompt)
        await pilot.press("escape", "end", "R", "enter")
        await shows(pilot, "It finished 4 epochs; give it more.")
        await pilot.press("4")
        await shows(pilot, "a whole number from 5 to")
        await pilot.press("escape")
        assert len(app.screen_stack) == 1
    assert all(scene.store.summary(run).attempt == 1 for run in scene.store.runs())


@pytest.fixture
def engine(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """The store with real processes; whatever still lives in it at the end is killed."""
    monkeypatch.setenv("KDTUI_ENGINE", shlex.join([sys.executable, str(ENGINE)]))
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    store = RunStore(scene.store.root, alive=probe)
    yield store
    for run in store.runs():
        if store.summary(run).state in LIVE:
            LocalLauncher(store).stop(run, kill=True)


async def test_resume_launches_and_quitting_leaves_it_alone(scene: Scene, engine: RunStore) -> None:
    run = scene.never_launched("slow", horizon=3)
    app = cockpit(engine)
    async with app.run_test(size=(120, 24)) as pilot:
        await settled(pilot)
        await shows(pilot, "· slow")
        await pilot.press("R", *"600", "enter")
        await shows(pilot, "slow: launched again", f"kdtui resume {run.id} --total-epochs 600 --detach")
        await shows(pilot, "▶ slow", "/600")
        step = engine.summary(run).step or 0
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
    again = cockpit(engine)
    async with again.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: (again.board.rows[run.id].step or 0) > step)
        await pilot.press("x")
        await shows(pilot, "slow: asked to stop")
        await shows(pilot, "■ slow")
    assert engine.summary(run).state is State.STOPPED


async def test_a_run_that_cannot_be_launched_says_why(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", "/no/such/engine")
    scene.never_launched("b0")
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("R", "enter")
        await shows(pilot, "The engine's program is not there", "/no/such/engine", "next:")


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
        assert run.notes() == before  # nobody changed it
        await pilot.press("t")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await write(pilot, "good #best #best")
        await pilot.press("enter")
        await shows(pilot, "noted", f"kdtui note {run.id} TEXT")
        assert run.notes() == Notes(("best",), "good")
        await pilot.press("down", "escape")
        await until(pilot, lambda: app.board.rows[run.id].notes == "good")
        await pilot.press("t", "escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert run.notes() == Notes(("best",), "good")


async def test_the_status_line_says_why_a_run_waits_or_failed(crowd: Scene) -> None:
    app = cockpit(crowd)
    wanted = {
        "b0-t16": "queued: waits for a cpu slot, number 2 in line",
        "b0-quiet": "running: silent 14 min",
        "b0-night": "lost: its processes are gone without a last word",
        "b0-wide": "failed: rank 0 killed by SIGKILL · next: `kdtui logs RUN` shows what it printed",
        "b0-hot": "failed: the loss is no longer a number · next: a lower learning rate",
        "b3-teacher": "20260821-143000-b3-teacher  #teacher",
    }
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        for run_id in list(app.board.order):
            said = wanted.get(app.board.rows[run_id].name)
            if said is not None:
                await go_to(pilot, run_id)
                await shows(pilot, said)
                assert said in status(pilot)


async def test_copying_says_where_to(scene: Scene) -> None:
    run = scene.finished("b0", horizon=2)
    app = cockpit(scene)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("y")
        await shows(pilot, f"{run.id}: copied", "OSC 52")
        assert app.clipboard == run.id == (scene.store.root / ".cache" / "copied.txt").read_text()


async def test_a_run_deleted_under_the_cursor_or_a_dialog(scene: Scene) -> None:
    first, second, third = (scene.finished(f"run-{n}", horizon=2) for n in range(3))
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("down")
        assert screen(pilot).run_id == second.id
        scene.store.remove(second)
        await until(pilot, lambda: names(pilot) == ["run-2", "run-0"])
        assert screen(pilot).run_id == first.id
        await settled(pilot)
        await shows(pilot, "● run-0")
        await pilot.press("delete")
        await shows(pilot, "Delete run-0?")
        scene.store.remove(first)
        await until(pilot, lambda: first.id not in app.board.rows)
        await pilot.press("y")
        await shows(pilot, "could not be removed")
        await pilot.press("t")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        scene.store.remove(third)
        await until(pilot, lambda: third.id not in app.board.rows)
        await pilot.press(*"gone", "enter")
        await shows(pilot, "no runs yet")
        assert not third.path.exists()


async def test_a_damaged_folder_and_half_written_events_are_shown_as_such(scene: Scene) -> None:
    scene.damaged("b0-broken")
    run = scene.running("b0-half", epochs=2, horizon=20)
    with run.events_path.open("ab") as file:
        file.write(b'not an event\n\xff\xfe\n{"v":1,"kind":"measured","time":"soon"}\n{"v":1,"kind":"meas')
    app = cockpit(scene)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await shows(pilot, "b0-broken", " 2/20 ")
        await pilot.press("end")
        await shows(pilot, "profile.toml is damaged; run.json is damaged")
        await pilot.press("R", "enter")
        await shows(pilot, "profile.toml is damaged")
        scene.advance(run, 1)
        await shows(pilot, " 3/20 ")
        aside = run.events_path.rename(run.path / "aside")
        run.events_path.mkdir()
        await pilot.press("home")
        await shows(pilot, "events.jsonl cannot be read")
        await until(pilot, lambda: "cannot be read" in chart(pilot))
        run.events_path.rmdir()
        aside.rename(run.events_path)
        await shows(pilot, "▶ b0-half", " 3/20 ")
        await until(pilot, lambda: "cannot be read" not in chart(pilot))
