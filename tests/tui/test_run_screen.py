from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Input

import kdtui.tui
from kdtui.events import Noted
from kdtui.store.records import Notes
from kdtui.store.run import Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.confirm import Confirm
from kdtui.tui.screens.prompt import Prompt
from kdtui.tui.screens.run import RunScreen
from kdtui.tui.widgets.half_blocks import HalfBlocks
from kdtui.tui.widgets.log_view import LogView
from tests.tui.pictures import draw_epoch
from tests.tui.scenes import Engine, Scene, Still, lines, shows, text, until

SMALL, LARGE = (80, 24), (120, 36)
App = Pilot[Any]


class Recorded(KdtuiApp):
    """Writes down what screens ask for instead of doing it to processes."""

    CSS_PATH = str(Path(kdtui.tui.__file__).with_name("kdtui.tcss"))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[tuple[Any, ...]] = []

    def stop_runs(self, ids: Any, *, kill: bool = False) -> None:
        self.asked.append(("stop", *ids, kill))

    def resume_run(self, run_id: str, total_epochs: int | None = None) -> None:
        self.asked.append(("resume", run_id, total_epochs))

    def compare(self, ids: Any) -> None:
        self.asked.append(("compare", *ids))

    def new_run(self, clone: str | None = None) -> None:
        self.asked.append(("new", clone))

    def copy_text(self, text: str, what: str) -> None:
        self.asked.append(("copy", text))


@asynccontextmanager
async def opened(scene: Scene, run: Run | str, size: tuple[int, int] = SMALL) -> AsyncIterator[App]:
    """The cockpit with the run's screen in front, its row known."""
    app = Recorded(scene.store, ask=Engine(), seconds=0.05, machine=Still("CPU 42%"), clock=lambda: "14:02")
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.board.whole)
        run_id = run if isinstance(run, str) else run.id
        app.open_run(run_id)
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        yield pilot


def asked(pilot: App) -> list[tuple[Any, ...]]:
    return cast(Recorded, pilot.app).asked


@pytest.fixture
def teacher(scene: Scene) -> Run:
    return scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.76)


@pytest.fixture
def student(scene: Scene, teacher: Run) -> Run:
    return scene.running("b0-from-b3", epochs=12, teacher=teacher, tags=("night",), note="the long one")


# what is shown


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_curves_have_the_teachers_line_and_move_while_the_run_trains(
    scene: Scene, student: Run, size: tuple[int, int]
) -> None:
    async with opened(scene, student, size) as pilot:
        await shows(pilot, "RUNNING", "12/80", "losses", "distillation", "validation mIoU", "teacher .754", "95% .716")
        assert "T 4.0  α 0.70" in lines(pilot.app)[1]
        before = text(pilot.app)
        scene.advance(student, 4)
        await shows(pilot, "16/80")
        assert text(pilot.app) != before


async def test_all_pages_are_reached_by_number_at_80_by_24(scene: Scene, student: Run) -> None:
    draw_epoch(student, 12, 2)
    async with opened(scene, student) as pilot:
        for key, words in {
            "2": ("Losses", "Compression", "Validation", "2.10x", "IoU per class"),
            "3": ("epoch 12 (newest)", "picture 1 of 2", "disagreement"),
            "4": ("training_log.txt", "epoch 12 step 120", "following"),
            "5": ("profile.toml", 'name = "b0-from-b3"'),
            "1": ("validation mIoU", "step 120/800"),
        }.items():
            await pilot.press(key)
            await shows(pilot, *words)
            assert len(lines(pilot.app)) == 24


async def test_the_room_of_120_by_36_is_used_for_numbers_and_log_beside_the_curves(scene: Scene, student: Run) -> None:
    async with opened(scene, student, LARGE) as pilot:
        await shows(pilot, "losses", "Compression", "Validation", "training_log.txt", "epoch 12 step 120")
        await pilot.resize_terminal(*SMALL)
        await until(pilot, lambda: "Compression" not in text(pilot.app))
        await shows(pilot, "losses", "validation mIoU")


async def test_pages_are_chosen_by_mouse_too(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.click("#pages", offset=(lines(pilot.app)[2].index("2 numbers"), 0))
        await shows(pilot, "Compression")


async def test_metrics_go_round_in_the_upper_chart(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await shows(pilot, "losses · 1 of")
        await pilot.press("m")
        await shows(pilot, "loss · 2 of")
        await pilot.press("M", "M")
        await until(pilot, lambda: "losses" not in lines(pilot.app)[3])
        last = lines(pilot.app)[3]
        await pilot.press("m")
        await shows(pilot, "losses · 1 of")
        assert last.split(" · ")[1].split()[0] == last.split(" of ")[1].split()[0]  # the last of all


async def test_the_numbers_scroll_by_key_down_to_attempts_and_remarks(scene: Scene, student: Run) -> None:
    scene.write(student, Noted("the learning rate goes from 0.1 to 0.2", time=1.0))
    async with opened(scene, student) as pilot:
        await pilot.press("2")
        await shows(pilot, "Validation")
        await pilot.press("end")
        await shows(pilot, "#night", "the long one", "the learning rate goes", "from the beginning")


async def test_nothing_is_written_again_when_nothing_changed(scene: Scene, teacher: Run) -> None:
    draw_epoch(teacher, 1, 1, parts=4)
    async with opened(scene, teacher, LARGE) as pilot:
        for page in "12345":
            await pilot.press(page)
            await until(pilot, lambda: not pilot.app.screen._dirty_widgets)
            screen = cast(RunScreen, pilot.app.screen)
            for _ in range(3):
                screen.board_changed(frozenset())
                screen.history_changed(teacher.id)
            stale = [widget for widget in screen.query(Widget) if widget._repaint_required or widget._layout_required]
            assert stale == [], page


async def test_foreign_text_stays_text(scene: Scene, teacher: Run) -> None:
    evil = "[red]x[/] \x1b[31m\x07"
    run = scene.failed(
        "b0", f"{evil} broke", hint=f"{evil} next", teacher=teacher, note=evil, tags=("t",), shown_as=evil
    )
    run.training_log.write_text(f"{evil} log\n", encoding="utf-8")
    async with opened(scene, run) as pilot:
        await shows(pilot, "[red]x[/] [31m broke", "next: [red]x[/]")
        await pilot.press("4")
        await shows(pilot, "[red]x[/]  log")
        await pilot.press("2", "end")
        await until(pilot, lambda: "Remarks" in text(pilot.app))
        assert "\x1b" not in text(pilot.app) and "\x07" not in text(pilot.app)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_without_colours_everything_but_pictures_is_shown(
    scene: Scene, student: Run, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    draw_epoch(student, 12, 1)
    async with opened(scene, student, size) as pilot:
        await shows(pilot, "▶", "RUNNING", "losses")
        for key, words in {"2": "Compression", "3": "Too few colours here", "4": "epoch 12", "5": "[data]"}.items():
            await pilot.press(key)
            await shows(pilot, words)


async def test_the_theme_changes_under_an_open_run(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await shows(pilot, "losses")
        await pilot.press("ctrl+t")
        await shows(pilot, "losses", "teacher .754")
        assert not pilot.app.current_theme.dark


# states and broken folders


async def test_a_failure_stands_above_everything_with_its_next_step(scene: Scene, teacher: Run) -> None:
    run = scene.failed("b0-hot", "the loss is no longer finite\n  found: nan", hint="a lower learning rate")
    async with opened(scene, run) as pilot:
        await shows(pilot, "FAILED", "DivergedError: the loss is no longer finite", "found: nan", "next: a lower")
        await pilot.press("2")
        await shows(pilot, "DivergedError: the loss is no longer finite", "next: a lower")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("never_launched", ("NEVER LAUNCHED", "R launches it")),
        ("queued", ("QUEUED", "waits for a cpu slot")),
        ("lost", ("LOST", "kdtui resume")),
        ("killed", ("FAILED", "SIGKILL")),
        ("stopped", ("STOPPED", "40/80")),
    ],
)
async def test_every_state_says_what_it_is(scene: Scene, make: str, words: tuple[str, ...]) -> None:
    run = getattr(scene, make)("b0")
    async with opened(scene, run) as pilot:
        await shows(pilot, *words)
        for page in "2345":
            await pilot.press(page)
            await shows(pilot, words[0])


async def test_a_damaged_folder_says_so_on_every_page(scene: Scene) -> None:
    run = scene.damaged("broken")
    run.events_path.mkdir()
    async with opened(scene, run) as pilot:
        for page in "12345":
            await pilot.press(page)
            await shows(pilot, "profile.toml is damaged", "events cannot be read")


async def test_a_run_that_is_deleted_while_it_is_shown_keeps_what_was_seen(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await shows(pilot, "12/80", "losses")
        shutil.rmtree(student.path)
        await shows(pilot, "REMOVED", "its folder was removed", "losses")
        for page in "2345":
            await pilot.press(page)
            await shows(pilot, "REMOVED")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, RunScreen))


async def test_a_run_that_was_never_there(scene: Scene, teacher: Run) -> None:
    async with opened(scene, "20260101-000000-gone") as pilot:
        await shows(pilot, "20260101-000000-gone", "its folder was removed")
        await pilot.press("x", "X", "R", "t", "c", "2", "5")
        await shows(pilot, "20260101-000000-gone")


async def test_a_long_history_says_that_its_beginning_is_missing_still(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await shows(pilot, "losses")
        app = cast(KdtuiApp, pilot.app)
        app.board.partial.add(student.id)
        cast(RunScreen, app.screen).history_changed(student.id)
        await shows(pilot, "the beginning is being read")


# predictions and log


async def test_pictures_go_by_arrows_and_the_newest_epoch_is_followed(scene: Scene, student: Run) -> None:
    for epoch in (4, 8):
        draw_epoch(student, epoch, 2)
    async with opened(scene, student) as pilot:
        await pilot.press("3")
        await shows(pilot, "epoch 8 (newest)", "picture 1 of 2")
        await pilot.press("right")
        await shows(pilot, "picture 2 of 2")
        draw_epoch(student, 12, 3)
        await shows(pilot, "epoch 12 (newest)", "picture 2 of 3")
        await pilot.press("down")
        await shows(pilot, "epoch 8 of 12")
        draw_epoch(student, 16, 3)
        await until(pilot, lambda: cast(KdtuiApp, pilot.app).board.histories[student.id].visualized[-1].epoch == 16)
        await shows(pilot, "epoch 8 of 16")
        await pilot.press("v", "v")
        await shows(pilot, "truth  v")
        assert "disagreement" not in text(pilot.app)
        assert pilot.app.screen.query_one(HalfBlocks).render_line(1).text.count("█") > 20


async def test_a_picture_that_cannot_be_read_says_so_and_the_next_one_is_shown(scene: Scene, student: Run) -> None:
    draw_epoch(student, 12, 2)
    (student.visualization(12) / "000.png").write_bytes(b"half")
    async with opened(scene, student) as pilot:
        await pilot.press("3")
        await shows(pilot, "The picture cannot be read", "picture 1 of 2")
        await pilot.press("right")
        await shows(pilot, "picture 2 of 2", "disagreement")


async def test_without_pictures_it_says_how_to_get_some(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("3")
        await shows(pilot, "training.visualize_every=1")


async def test_the_log_follows_and_w_shows_the_other_one(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("4")
        await shows(pilot, "epoch 12 step 120", "following")
        scene.advance(student, 20)
        await shows(pilot, "epoch 32 step 320")
        await pilot.press("pageup")
        await shows(pilot, "stands still")
        scene.advance(student, 1)
        view = pilot.app.screen.query_one("#training-log", LogView)
        await until(pilot, lambda: "epoch 33" in "\n".join(view.lines))
        assert "epoch 33" not in text(pilot.app)
        await pilot.press("end")
        await shows(pilot, "epoch 33 step 330", "following")
        await pilot.press("w")
        await shows(pilot, "nothing written yet")
        student.worker_log.write_text("Traceback\n", encoding="utf-8")
        await shows(pilot, "Traceback")
        student.training_log.unlink()
        student.training_log.write_text("begun again\n", encoding="utf-8")
        await pilot.press("w")
        await shows(pilot, "begun again")
        assert "epoch 33" not in text(pilot.app)


# actions


async def test_stop_and_kill_ask_for_what_they_say(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("x")
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


async def test_resume_takes_more_epochs_and_refuses_nonsense(scene: Scene, teacher: Run) -> None:
    run = scene.stopped("b0", teacher=teacher)
    async with opened(scene, run) as pilot:
        await pilot.press("R")
        await until(pilot, lambda: isinstance(pilot.app.screen, Prompt))
        await pilot.press(*"many", "enter")
        await shows(pilot, "no number of epochs")
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


async def test_the_matched_baseline_stands_beside_until_another_is_chosen(scene: Scene, teacher: Run) -> None:
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
        await pilot.press(*"nobody", "enter")
        await shows(pilot, "No run answers")
        pilot.app.screen.query_one(Input).value = "r18"
        await pilot.press("enter")
        await shows(pilot, other.id, "chosen", "student.encoder")
        await pilot.press("c")
        await until(pilot, lambda: len(asked(pilot)) > 1)
        assert asked(pilot) == [("compare", run.id, baseline.id), ("compare", run.id, other.id)]


async def test_compare_finds_the_baseline_itself_and_says_so_where_there_is_none(scene: Scene, teacher: Run) -> None:
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


async def test_leaving_ends_looking_at_the_runs_files(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("4")
        await shows(pilot, "epoch 12")
        watcher = cast(KdtuiApp, pilot.app).watcher
        looking = len(watcher._due)
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(pilot.app.screen, RunScreen))
        assert len(watcher._due) == looking - 2
