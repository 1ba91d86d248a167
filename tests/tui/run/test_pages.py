"""What the pages of a run show."""

from __future__ import annotations

from typing import cast

import pytest
from textual.widget import Widget
from textual.widgets import Static

from kdtui.events import Measured, Noted
from kdtui.store.run import EventLog, Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.keys import PAGES, PageEntry
from kdtui.tui.screens.run import RunScreen
from kdtui.tui.screens.run.page import RunPage, RunView
from kdtui.tui.screens.run.predictions import legend_pages
from kdtui.tui.widgets.half_blocks import HalfBlocks
from kdtui.tui.widgets.log_view import LogView
from tests.tui.pictures import draw_epoch
from tests.tui.run.opened import LARGE, SMALL, opened
from tests.tui.scenes import Scene, lines, shows, text, until


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


class Extra(Static, RunPage):
    """A page of another file."""

    HINT = "no keys here"

    def show(self, view: RunView) -> None:
        self.update(f"extra page of {view.row.name}")


async def test_a_page_needs_its_class_and_its_entry(
    scene: Scene, student: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = PageEntry("extra", "a page of another file.", f"{__name__}:{Extra.__name__}")
    monkeypatch.setitem(cast(dict[str, tuple[PageEntry, ...]], PAGES), "run", (*PAGES["run"], entry))
    async with opened(scene, student) as pilot:
        await pilot.click("#pages", offset=(lines(pilot.app)[2].index("6 extra"), 0))
        await shows(pilot, "extra page of b0-from-b3", "no keys here")
        await pilot.press("4")
        await until(pilot, lambda: "extra page" not in text(pilot.app))


async def test_numbers_and_log_are_displayed_with_the_curves_at_120_by_36(scene: Scene, student: Run) -> None:
    async with opened(scene, student, LARGE) as pilot:
        await shows(pilot, "losses", "Compression", "Validation", "training_log.txt", "epoch 12 step 120")
        await pilot.resize_terminal(*SMALL)
        await until(pilot, lambda: "Compression" not in text(pilot.app))
        await shows(pilot, "losses", "validation mIoU")


async def test_pages_are_chosen_by_mouse_too(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.click("#pages", offset=(lines(pilot.app)[2].index("2 numbers"), 0))
        await shows(pilot, "Compression")


async def test_metrics_cycle_in_the_upper_chart(scene: Scene, student: Run) -> None:
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


async def test_an_unchanged_table_writes_nothing(scene: Scene, teacher: Run) -> None:
    draw_epoch(teacher, 1, 1, parts=4)
    async with opened(scene, teacher, LARGE) as pilot:
        screen = cast(RunScreen, pilot.app.screen)

        def stale() -> list[Widget]:
            return [widget for widget in screen.query(Widget) if widget._repaint_required or widget._layout_required]

        for page in "12345":
            await pilot.press(page)
            await until(pilot, lambda: not screen._dirty_widgets and not stale())
            for _ in range(3):
                screen.board_changed(frozenset())
                screen.history_changed(teacher.id)
            assert stale() == [], page


async def test_foreign_text_is_displayed_literally(scene: Scene, teacher: Run) -> None:
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


@pytest.mark.parametrize("size", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)])
async def test_without_colours_everything_but_pictures_is_shown(
    scene: Scene, student: Run, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    draw_epoch(student, 12, 1)
    async with opened(scene, student, size) as pilot:
        await shows(pilot, "▶", "RUNNING", "losses")
        for key, words in {"2": "Compression", "3": "has too few colours", "4": "epoch 12", "5": "[data]"}.items():
            await pilot.press(key)
            await shows(pilot, words)


async def test_the_theme_changes_under_an_open_run(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await shows(pilot, "losses")
        await pilot.press("ctrl+t")
        await shows(pilot, "losses", "teacher .754")
        assert not pilot.app.current_theme.dark


# predictions and log


async def test_arrows_change_pictures_and_the_newest_epoch_is_followed(scene: Scene, student: Run) -> None:
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


async def test_k_shows_further_classes_in_the_legend(scene: Scene, student: Run) -> None:
    draw_epoch(student, 12, 1)
    names = [f"class-{letter}" for letter in "abcdefghijk"]
    with EventLog(student.events_path) as events:
        events.append(Measured("val", 120, 12, 480, {"miou": 0.5} | {f"iou.{name}": 0.5 for name in names}))
    async with opened(scene, student) as pilot:
        await pilot.press("3")
        await shows(pilot, "masks: ", "class-a", "more", "student differs")
        legend = pilot.app.screen.query_one("#legend", Static)
        displayed: list[str] = []
        for _ in legend_pages(names, legend.size.width):
            displayed += [name for name in names if name in legend.render_line(0).text]
            assert legend.render_line(0).text.rstrip().endswith("student differs")
            await pilot.press("k")
        assert displayed == names
        await shows(pilot, "class-a")


async def test_pictures_of_instances_have_a_legend_in_words(scene: Scene, student: Run) -> None:
    draw_epoch(student, 12, 1)
    first = '"student":{'
    events = student.events_path.read_text()
    assert first in events
    student.events_path.write_text(events.replace(first, first + '"picture_legend":"a colour for each instance",'))
    async with opened(scene, student) as pilot:
        await pilot.press("3")
        await shows(pilot, "masks: a colour for each instance", "student differs")
        assert "background" not in pilot.app.screen.query_one("#legend", Static).render_line(0).text


async def test_an_unreadable_picture_is_reported_and_the_next_one_is_displayed(scene: Scene, student: Run) -> None:
    draw_epoch(student, 12, 2)
    (student.visualization(12) / "000.png").write_bytes(b"half")
    async with opened(scene, student) as pilot:
        await pilot.press("3")
        await shows(pilot, "The picture cannot be read", "picture 1 of 2")
        await pilot.press("right")
        await shows(pilot, "picture 2 of 2", "disagreement")


async def test_without_pictures_a_hint_is_displayed(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("3")
        await shows(pilot, "drawn for the best and the last epoch", "training.visualize_every=1")


async def test_the_log_follows_and_w_shows_the_other_one(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await pilot.press("4")
        await shows(pilot, "epoch 12 step 120", "following")
        scene.advance(student, 20)
        await shows(pilot, "epoch 32 step 320")
        await pilot.press("pageup")
        await shows(pilot, "paused: End follows")
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


async def test_the_log_of_a_long_run_names_the_file_with_earlier_lines(scene: Scene, student: Run) -> None:
    with student.training_log.open("a", encoding="utf-8") as log:
        log.write(40_000 * "step 1 of many, of which each has a line of its own\n" + "the last line\n")
    async with opened(scene, student) as pilot:
        await pilot.press("4")
        await shows(pilot, "the last line", "earlier lines: logs/training_log.txt", "following")
        assert len(pilot.app.screen.query_one("#training-log", LogView).lines) < 5000
