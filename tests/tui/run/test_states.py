"""A run in every state, damaged, deleted, or never there."""

from __future__ import annotations

import shutil
from typing import cast

import pytest

from kdtui.store.run import Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.run import RunScreen
from tests.tui.run.opened import opened
from tests.tui.scenes import Scene, shows, until


async def test_a_failure_is_displayed_above_the_pages_with_its_next_step(scene: Scene, teacher: Run) -> None:
    run = scene.failed("b0-hot", "the loss is no longer finite\n  found: nan", hint="a lower learning rate")
    async with opened(scene, run) as pilot:
        await shows(pilot, "FAILED", "DivergedError: the loss is no longer finite", "found: nan", "next: a lower")
        await pilot.press("2")
        await shows(pilot, "DivergedError: the loss is no longer finite", "next: a lower")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("never_launched", ("NEVER LAUNCHED", "press R to launch it")),
        ("queued", ("QUEUED", "waiting for a cpu slot")),
        ("lost", ("LOST", "kdtui resume")),
        ("killed", ("FAILED", "SIGKILL")),
        ("stopped", ("STOPPED", "40/80")),
    ],
)
async def test_every_state_is_displayed(scene: Scene, make: str, words: tuple[str, ...]) -> None:
    run = getattr(scene, make)("b0")
    async with opened(scene, run) as pilot:
        await shows(pilot, *words)
        for page in "2345":
            await pilot.press(page)
            await shows(pilot, words[0])


async def test_a_damaged_folder_is_reported_on_every_page(scene: Scene) -> None:
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


async def test_a_run_that_never_existed(scene: Scene, teacher: Run) -> None:
    async with opened(scene, "20260101-000000-gone") as pilot:
        await shows(pilot, "20260101-000000-gone", "its folder was removed")
        await pilot.press("x", "X", "R", "t", "c", "2", "5")
        await shows(pilot, "20260101-000000-gone")


async def test_a_long_history_reports_that_its_beginning_is_still_being_read(scene: Scene, student: Run) -> None:
    async with opened(scene, student) as pilot:
        await shows(pilot, "losses")
        app = cast(KdtuiApp, pilot.app)
        app.board.partial.add(student.id)
        cast(RunScreen, app.screen).history_changed(student.id)
        await shows(pilot, "reading the beginning")
