"""The form in front of the cockpit, and how a person types into it."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot

from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.new_run import NewRunScreen
from kdtui.tui.screens.new_run.verdict import CheckResult
from tests.tui.scenes import settled, until

SMALL, LARGE = (80, 24), (120, 36)


def form(app: KdtuiApp) -> NewRunScreen:
    assert isinstance(app.screen, NewRunScreen)
    return app.screen


def verdict(app: KdtuiApp) -> str:
    return form(app).query_one(CheckResult).text


async def opened(pilot: Pilot[Any], clone: str | None = None) -> NewRunScreen:
    """The form, once it has read its first draft."""
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    await settled(pilot)
    app.new_run(clone)
    await until(pilot, lambda: form(app).read_draft is not None)
    return form(app)


async def read(pilot: Pilot[Any]) -> None:
    """Wait until what is typed was read."""
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    await pilot.pause()
    screen = form(app)
    await until(pilot, lambda: screen.draft.edited(**screen.texts()) == screen.draft)
    await until(pilot, lambda: screen.read_draft == screen.draft)


async def typed(pilot: Pilot[Any], name: str, letters: str) -> None:
    """Type into a field."""
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    form(app).focus_field(name)
    await pilot.pause()
    await pilot.press(*letters)
    await read(pilot)
