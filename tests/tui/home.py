"""What is read off the list of runs, and how a person gets about in it."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from kdtui.tui.screens.runs import RunsScreen
from tests.tui.scenes import lines, text


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
