"""The screen of the sweeps, over runs that were never trained."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from kdtui.events import Queued, Stopped
from kdtui.store.run import EventLog
from kdtui.store.store import RunStore
from kdtui.sweep import render
from kdtui.sweep.controlled import files_of
from kdtui.sweep.folder import SweepFolder, create
from kdtui.sweep.heatmap import heat_map
from kdtui.sweep.runs import SweepRuns
from kdtui.sweep.sampled.results import record_importance
from kdtui.sweep.sampled.spec import Request
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.compare import CompareScreen
from kdtui.tui.screens.run import RunScreen
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.screens.sweeps import SweepsScreen
from tests.sweep.conftest import make, spec_of, store, teacher
from tests.sweep.sampled.sampling import spec_of as sampled_spec
from tests.sweep.sampled.sampling import trained
from tests.sweep.test_heatmap import GRID, RATE, by_cell
from tests.sweep.test_spec import ALPHA, T
from tests.tui.contrast import READABLE, texts
from tests.tui.piloting import cockpit, lines, shows, text, until

__all__ = ["store", "teacher"]  # fixtures


@pytest.fixture
def runs(store: RunStore, teacher: Path) -> SweepRuns:
    return make(store, spec_of(store, teacher, *GRID, f"{RATE}=1e-4,1e-3", with_baseline=True), by_cell, most=11)


@asynccontextmanager
async def opened(
    store: RunStore, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[KdtuiApp, Pilot[Any], SweepsScreen]]:
    app = cockpit(store)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.board.whole)
        await pilot.press("W")
        await until(pilot, lambda: isinstance(app.screen, SweepsScreen))
        assert isinstance(app.screen, SweepsScreen)
        yield app, pilot, app.screen


@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 36), marks=pytest.mark.slow)])
async def test_it_shows_what_the_command_shows(store: RunStore, runs: SweepRuns, size: tuple[int, int]) -> None:
    grid = heat_map(runs)
    best = grid.best()
    async with opened(store, size) as (app, pilot, _):
        await shows(pilot, "best:", "14 runs: 11 finished, 3 missing", "11/14")
        shown = lines(app)
        for line in render.grid_lines(grid, best, 78):
            assert any(line.strip() in one for one in shown), line
        assert render.best_lines(grid, best)[0][:60] in text(app)
        assert "learning rate  0.0001" in text(app)
        assert all(contrast >= READABLE for _, contrast in texts(app))


async def test_keys_choose_what_the_fields_are(store: RunStore, runs: SweepRuns) -> None:
    async with opened(store) as (app, pilot, screen):
        await shows(pilot, "best:")
        await pilot.press("c")
        await shows(pilot, "mean over 3 values of α", "learning rate 0.001")
        await pilot.press("v")
        await shows(pilot, "at α 0.3")
        await pilot.press("C")
        assert screen.grid is not None and screen.grid.fixed == {ALPHA: 0.3}
        await pilot.press("r", "r")
        await until(pilot, lambda: screen.grid is not None and screen.grid.rows.key != T)
        await pilot.press("enter", "down", "right")
        assert screen.heat.cursor == (1, 1) and screen.cell is not None
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_a_field_leads_to_its_runs(store: RunStore, runs: SweepRuns) -> None:
    async with opened(store) as (app, pilot, _screen):
        await shows(pilot, "best:")
        await pilot.press("enter", "enter")  # two runs: the values of the other key
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("escape", "c", "v", "enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape", "f")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await shows(pilot, "11 of 11 runs", f"kdtui runs --filter sweep={runs.id}")
        await pilot.press("W")
        await until(pilot, lambda: isinstance(app.screen, SweepsScreen) and app.screen.sweep_id == runs.id)


async def test_it_follows_the_runs_and_other_sweeps(store: RunStore, teacher: Path, runs: SweepRuns) -> None:
    async with opened(store) as (_, pilot, screen):
        await shows(pilot, "11 finished, 3 missing")
        make(store, runs.spec, by_cell)
        await shows(pilot, "14 runs: 14 finished", "14/14")
        other = make(store, spec_of(store, teacher, f"{T}=5,6"), lambda *_: 0.3)
        (store.root / ".sweeps" / "broken-00000000").mkdir()
        await shows(pilot, other.id[-9:], "broken-00000000")
        screen.table.move_to(other.id)
        await shows(pilot, "T 5  · 0.3000")


async def test_stopping_and_resuming_ask_first(store: RunStore, runs: SweepRuns) -> None:
    async with opened(store) as (_, pilot, screen):
        await shows(pilot, "best:")
        await pilot.press("x")
        await shows(pilot, "nothing to stop")
        await pilot.press("R")
        await shows(pilot, f"Resume {runs.id}?", "3 new runs", f"kdtui sweep resume {runs.id} --detach")
        await pilot.press("n")
        assert screen.row is not None and screen.row.runs is not None and len(screen.row.runs.missing) == 3


@pytest.fixture
def sampled(store: RunStore, teacher: Path) -> SweepFolder:
    """A sampled sweep that was stopped after three of five trials."""
    spec = sampled_spec(store, teacher, f"{T}=1..8", f"{RATE}=1e-4..1e-2:log", prune=True)
    folder = create(store.root, spec.id, spec.to_tables())
    Request(5).write(folder)
    for temperature, score, pruned in ((2.5, 0.6, False), (3.25, 0.7, False), (7.5, 0.2, True)):
        trained(store, folder, {T: temperature, RATE: 0.001}, score, pruned=pruned)
    with EventLog(files_of(folder).events_path) as log:
        for event in (Queued(1), Stopped(0, 0)):
            log.append(event)
    record_importance(folder, {T: 0.75, RATE: 0.25}, 8)
    return folder


@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 36), marks=pytest.mark.slow)])
async def test_a_sampled_sweep_has_its_trials(store: RunStore, sampled: SweepFolder, size: tuple[int, int]) -> None:
    async with opened(store, size) as (app, pilot, screen):
        await shows(pilot, "5 trials: 2 finished, 1 pruned, 2 to begin", "3/5", "★     2  3.25", "■ pruned")
        await shows(pilot, "best: T 3.25, learning rate 0.001: mIoU 0.7000", "T 0.75, learning rate 0.25")
        assert all(contrast >= READABLE for _, contrast in texts(app))
        await pilot.press("enter", "down", "enter")
        assert screen.trial is not None and screen.trial.number == 2
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape", "r")
        await shows(pilot, "trials, not a grid")
        await pilot.press("x")
        await shows(pilot, "nothing to stop")
        await pilot.press("R")
        await shows(pilot, f"Resume {sampled.id}?", f"kdtui sweep resume {sampled.id} --detach")
        await pilot.press("n", "C", "f")
        await shows(pilot, "3 of 3 runs", f"kdtui runs --filter sweep={sampled.id}")


async def test_a_grid_and_a_sampled_sweep_take_turns(store: RunStore, runs: SweepRuns, sampled: SweepFolder) -> None:
    async with opened(store) as (_, pilot, screen):
        await until(pilot, lambda: {runs.id, sampled.id} <= set(screen.table.keys))
        for _ in range(2):
            screen.table.move_to(runs.id)
            await shows(pilot, "14 runs: 11 finished", "learning rate  0.0001")
            assert screen.heat.display and not screen.trials.display
            screen.table.move_to(sampled.id)
            await shows(pilot, "5 trials: 2 finished", "importance of the keys")
            assert screen.trials.display and not screen.heat.display


async def test_without_sweeps_it_says_how_to_make_one(store: RunStore) -> None:
    store.root.mkdir()
    async with opened(store) as (_, pilot, _screen):
        await shows(pilot, "no sweeps yet", "kdtui sweep PROFILE")
        await pilot.press("enter", "x", "R", "r", "c", "v", "f", "y", "C")
