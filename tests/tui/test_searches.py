"""The screen of the searches, over runs that were never trained."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from kdtui.events import Event, Failed, Finished, Noted, Queued
from kdtui.store.files import write_atomically
from kdtui.store.run import EventLog
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import files_of
from kdtui.sweep.folder import BASELINE, STUDENT, SweepFolder
from kdtui.sweep.search.finals import Final, record_final
from kdtui.sweep.search.results import record_candidates
from kdtui.sweep.search.screening import Screened, judged
from kdtui.sweep.search.spec import from_tables
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.run import RunScreen
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.screens.searches import SearchesScreen
from tests.sweep.search.searching import made, trained
from tests.tui.contrast import READABLE, texts
from tests.tui.piloting import cockpit, shows, text, until


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1")
    return RunStore(tmp_path / "runs")


@pytest.fixture
def search(store: RunStore) -> SweepFolder:
    """A finished search: two encoders, of which the first candidate of each was trained."""
    folder = made(store, retention=0.95)
    spec = from_tables(folder)
    found = [
        judged(spec, Screened(one, 1_000_000, None, 4_000_000, 0.003 * (place + 1), 0.003, 0.003))
        for place, one in enumerate(spec.candidates())
    ]
    record_candidates(folder, found, 2)
    trained(store, folder, 2, STUDENT, 0.72)
    trained(store, folder, 2, BASELINE, 0.70)
    trained(store, folder, 1, STUDENT, 0.60, pruned=True)
    says(folder, Queued(1), Noted("…"), Finished(0, 0, reason="the winner"))
    return folder


def says(folder: SweepFolder, *events: Event) -> None:
    with EventLog(files_of(folder).events_path) as log:
        for event in events:
            log.append(event)


@asynccontextmanager
async def opened(
    store: RunStore, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[KdtuiApp, Pilot[Any], SearchesScreen]]:
    app = cockpit(store)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.board.whole)
        await pilot.press("B")
        await until(pilot, lambda: isinstance(app.screen, SearchesScreen))
        assert isinstance(app.screen, SearchesScreen)
        yield app, pilot, app.screen


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_front_networks_and_remarks(store: RunStore, search: SweepFolder, size: tuple[int, int]) -> None:
    async with opened(store, size) as (app, pilot, screen):
        await shows(pilot, "budget 10.00 ms, 95% of the teacher", "ms ┊ budget", "★", "0.7200", "points below the goal")
        assert screen.scatter.cloud.limit == 10.0
        assert {dot.letter for dot in screen.scatter.cloud.dots} == {"★", "○", "•"}
        assert "┊" in text(app).replace("┊ budget", "")
        assert all(contrast >= READABLE for _, contrast in texts(app))


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_why_a_better_network_is_not_the_student(
    store: RunStore, search: SweepFolder, size: tuple[int, int]
) -> None:
    winner, nearest = (one.key for one in from_tables(search).candidates()[2:0:-1])
    record_final(search, Final(winner, "run", (0.012, 0.013), 4_000_000, 1_000_000))
    async with opened(store, size) as (_, pilot, screen):
        await shows(pilot, f"{winner} is over the budget", "untrained 9.00 ms")
        assert screen.results is not None
        assert [entry.key for entry in screen.results.of("student")] == [nearest]
        await shows(pilot, "over budg", "-w0.25")


async def test_by_keys_to_the_run_of_a_network(store: RunStore, search: SweepFolder) -> None:
    async with opened(store) as (app, pilot, screen):
        await shows(pilot, "points below the goal")
        await pilot.press("enter")
        await until(pilot, lambda: screen.networks.has_focus)
        await pilot.press("down")
        assert screen.entry is not None and screen.entry.role == "student"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)
        await pilot.press("end", "enter")
        await shows(pilot, "this network has no run")
        await pilot.press("l", "q")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        assert screen.scatter.log_x


async def test_it_follows_files_and_names_failures(store: RunStore, search: SweepFolder) -> None:
    async with opened(store) as (_, pilot, _screen):
        await shows(pilot, "the winner")
        await pilot.press("x")
        await shows(pilot, "nothing to stop")
        await pilot.press("R")
        await shows(pilot, "nothing to resume: this search is finished")
        says(search, Queued(2), Failed("LaunchError", "the disk is full", None))
        trained(store, search, 3, STUDENT, 0.5)
        await shows(pilot, "the disk is full")
        await pilot.press("R")
        await shows(pilot, f"Resume {search.id}?", f"kdtui search resume {search.id} --retry --detach")
        await pilot.press("n")


async def test_a_damaged_search_is_listed_with_its_problem(store: RunStore, search: SweepFolder) -> None:
    write_atomically(search.spec_path, b"format = 999\n")
    async with opened(store) as (_, pilot, _screen):
        await shows(pilot, "later version")


async def test_without_searches_it_names_the_command(store: RunStore) -> None:
    store.root.mkdir()
    async with opened(store) as (_, pilot, _screen):
        await shows(pilot, "no searches yet", "kdtui search --teacher RUN --latency 10ms")
