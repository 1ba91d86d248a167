"""What a person does on the screen of a run."""

from __future__ import annotations

from typing import cast

from textual.widgets import Input

from kdtui.store.run import Notes, Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.dialogs import Confirm, Prompt
from kdtui.tui.screens.run import RunScreen
from tests.tui.run.opened import asked, opened
from tests.tui.scenes import Scene, lines, shows, until


async def test_stop_and_kill_call_the_launcher_accordingly(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("x")
        await shows(pilot, "y yes", f"kdtui stop {student.id}")
        await pilot.press("y")
        await until(pilot, lambda: asked(pilot))
        assert asked(pilot) == [("stop", student.id, False)]
        await pilot.press("X")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await shows(pilot, f"kdtui stop --kill {student.id}")
        await pilot.press("n")
        await pilot.press("X")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: len(asked(pilot)) > 1)
        assert asked(pilot)[1:] == [("stop", student.id, True)]


async def test_resume_accepts_more_epochs_and_refuses_invalid_input(scene: Scene, teacher: Run) -> None:
    run = scene.stopped("b0", teacher=teacher)
    async with opened(scene, run) as pilot:
        await pilot.press("R")
        await until(pilot, lambda: isinstance(pilot.app.screen, Prompt))
        await pilot.press(*"many", "enter")
        await shows(pilot, "not a valid number of epochs")
        pilot.app.screen.query_one(Input).value = "7"
        await pilot.press("enter")
        await shows(pilot, "found: 7")  # 40 epochs are done
        assert asked(pilot) == []
        pilot.app.screen.query_one(Input).value = "120"
        await pilot.press("enter")
        await until(pilot, lambda: asked(pilot))
        assert asked(pilot) == [("resume", run.id, 120)]


async def test_notes_and_tags_are_written_and_shown(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: isinstance(pilot.app.screen, Prompt))
        assert pilot.app.screen.query_one(Input).value == "#night the long one"
        pilot.app.screen.query_one(Input).value = "#day better [b]now"
        await pilot.press("enter")
        await until(pilot, lambda: student.notes() == Notes(("day",), "better [b]now"))
        await pilot.press("2", "end")
        await shows(pilot, "#day", "better [b]now")


async def test_the_matched_baseline_is_compared_until_another_run_is_chosen(scene: Scene, teacher: Run) -> None:
    baseline = scene.finished("alone")
    other = scene.finished("r18", encoder="resnet18")
    run = scene.finished("b0", teacher=teacher, alpha=0.0)
    async with opened(scene, run) as pilot:
        await pilot.press("5")
        await shows(pilot, baseline.id, "its matched baseline", "distillation.enabled", "false")
        assert any("distillation.alpha" in line and "0.0" in line for line in lines(pilot.app))
        await pilot.press("c")
        await until(pilot, lambda: asked(pilot))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, Prompt))
        await pilot.press(*"no-such", "enter")
        await shows(pilot, "No run matches")
        pilot.app.screen.query_one(Input).value = "r18"
        await pilot.press("enter")
        await shows(pilot, other.id, "chosen", "student.encoder")
        await pilot.press("c")
        await until(pilot, lambda: len(asked(pilot)) > 1)
        assert asked(pilot) == [("compare", run.id, baseline.id), ("compare", run.id, other.id)]


async def test_compare_finds_the_baseline_or_reports_that_there_is_none(scene: Scene, teacher: Run) -> None:
    run = scene.finished("b0", teacher=teacher)
    async with opened(scene, run) as pilot:
        await pilot.press("c")
        await shows(pilot, "no matched baseline")
        assert asked(pilot) == []
        baseline = scene.finished("alone")
        await until(pilot, lambda: baseline.id in cast(KdtuiApp, pilot.app).board.rows)
        await pilot.press("c")
        await until(pilot, lambda: asked(pilot))
        assert asked(pilot) == [("compare", run.id, baseline.id)]


async def test_id_path_and_command_are_copied_and_a_clone_is_set_up(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("y", "Y", "C", "N")
        await pilot.pause()
        assert asked(pilot) == [
            ("copy", student.id),
            ("copy", str(student.path)),
            ("copy", f"kdtui watch {student.id}"),
            ("new", student.id),
        ]


async def test_leaving_stops_reading_the_files_of_the_run(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("4")
        await shows(pilot, "epoch 12")
        watcher = cast(KdtuiApp, pilot.app).watcher
        looking = len(watcher._due)
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(pilot.app.screen, RunScreen))
        assert len(watcher._due) == looking - 2
