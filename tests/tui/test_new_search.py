"""The form of a search by keys: choosing, mistakes, the dry run, the launch, and ending what it launched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from kdtui.launch.alive import probe
from kdtui.launch.device_queue import places
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import controller_state, files_of
from kdtui.sweep.folder import SweepFolder, listing
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.screens.new_search import ListSuggester, NewSearchScreen, SearchField
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.screens.searches import SearchesScreen
from tests.fake_engine import COMMAND
from tests.launch.processes import end_everything
from tests.sweep.search.searching import kill_controller, own_runs, teacher
from tests.tui.contrast import READABLE, texts
from tests.tui.piloting import Still, text, until

SMALL, LARGE = (80, 24), (120, 36)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """A store whose engine is the double; whatever was started in it ends with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_ENGINE", COMMAND)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1,gpu:0")
    store = RunStore(tmp_path / "runs", alive=probe, places=places)
    yield store
    for folder in listing(store.root):
        if files_of(folder).launch_record() is not None:
            kill_controller(folder)
    end_everything(store)


@pytest.fixture
def run(store: RunStore) -> Run:
    return teacher(store)


def cockpit(store: RunStore) -> KdtuiApp:
    """The app with the engine that the environment names."""
    return KdtuiApp(store, seconds=0.1, machine=Still("CPU 42%"), clock=lambda: "14:02")


async def appears(pilot: Pilot[Any], *sought: str) -> None:
    """Wait until the screen shows all these texts, however their lines are wrapped."""
    await until(pilot, lambda: all(one in " ".join(text(pilot.app).split()) for one in sought))


def form(pilot: Pilot[Any]) -> NewSearchScreen:
    assert isinstance(pilot.app.screen, NewSearchScreen), text(pilot.app)
    return pilot.app.screen


async def opened(pilot: Pilot[Any], *keys: str) -> NewSearchScreen:
    """The form, once it has read its first draft."""
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    await until(pilot, lambda: app.board.whole)
    for key in keys:
        screen = app.screen
        await pilot.press(key)
        await until(pilot, lambda screen=screen: app.screen is not screen)  # type: ignore[misc]
    await until(pilot, lambda: form(pilot).read_draft is not None)
    return form(pilot)


async def typed(pilot: Pilot[Any], **letters: str) -> None:
    """Replace the texts of fields, and wait until they were read."""
    screen = form(pilot)
    for name, word in letters.items():
        next(each for each in screen.query(SearchField) if each.field == name).enter()
        await pilot.press("end", "ctrl+u", *word)
    await until(pilot, lambda: screen.draft.edited(**screen.texts()) == screen.draft == screen.read_draft)


@pytest.mark.parametrize("size", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)])
async def test_from_the_list_of_searches_to_a_dry_run(store: RunStore, run: Run, size: tuple[int, int]) -> None:
    app = cockpit(store)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, "B", "n")
        await appears(pilot, "still to choose: teacher, latency", "kdtui search --teacher 'CKPT|RUN' --latency TIME")
        await until(pilot, lambda: "demo-teacher" in text(app))
        await pilot.press("enter", "tab", *"10")
        await appears(pilot, "1 mistake: latency", "✗ not a latency; allowed:")
        await pilot.press("ctrl+r")
        await appears(pilot, "fix this first")
        await pilot.press(*"ms")
        await appears(pilot, f"kdtui search --teacher {run.id} --latency 10ms", "candidates, 0 over the budget")
        await typed(pilot, parameters="12M", encoders="tu-mobilenetv3_small_050,resnet18", architectures="Unet")
        await appears(pilot, "8 candidates, 2 over the budget of 10.00 ms, 12.00 M parameters, 6 measurements to make")
        await pilot.press("ctrl+g")
        await appears(pilot, "up to 6 trials", "the winner is trained with 3 seeds and its", "checks passed")
        await appears(pilot, "nothing was started", "14.33 M param", "8 2 over the budget, 6 to measure")
        assert screen.focused is screen.query_one("#candidates")
        assert all(contrast >= READABLE for _, contrast in texts(app))
        await pilot.press("ctrl+t")
        await until(pilot, lambda: not app.current_theme.dark)
        assert all(contrast >= READABLE for _, contrast in texts(app))
        await typed(pilot, parameters="1K")
        assert screen.standing.plan is None
        await pilot.press("ctrl+g")
        await appears(pilot, "no candidate is within the budget", "the nearest is tu-mobilenetv3_small_050", "next:")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, SearchesScreen))
    assert not (store.root / ".sweeps").exists()


async def test_the_run_under_the_cursor_teaches_and_the_launched_search_is_under_the_cursor(
    store: RunStore, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_TEST_GATE", str(tmp_path))  # trials wait after their first epoch
    app = cockpit(store)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "b")
        assert screen.draft.text("teacher") == run.id
        await pilot.press(*"10ms")  # the focus is on the latency
        await typed(pilot, trials="1", seeds="0", encoders="resnet18", architectures="Unet")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, SearchesScreen))
        (folder,) = listing(store.root)
        await until(pilot, lambda: app.screen.search_id == folder.id)  # type: ignore[attr-defined]
        await appears(pilot, f"{folder.id}: launched")
        assert " ".join(text(app).split()).count("--detach") <= 1
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await until(pilot, lambda: [one for one in own_runs(store, folder) if store.summary(one).epoch])

        await pilot.press("B")
        await until(pilot, lambda: isinstance(app.screen, SearchesScreen) and app.screen.results is not None)
        await pilot.press("X")
        await appears(pilot, f"Kill {folder.id}?", f"kdtui search stop --kill {folder.id}")
        await pilot.press("y")
        await appears(pilot, f"{folder.id}: killed")
        assert_killed(store, folder)
        await pilot.press("X")
        await appears(pilot, "nothing to kill: this search is not running")


def assert_killed(store: RunStore, folder: SweepFolder) -> None:
    assert not controller_state(folder).live
    runs = own_runs(store, folder)
    assert [store.summary(one).state for one in runs] == [State.STOPPED]
    assert [store.summary(one).detail for one in runs] == ["killed"]


async def test_a_search_without_an_engine_is_one_message(
    store: RunStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", "/nowhere/engine")
    app = cockpit(store)
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot, "b")
        await pilot.press(*"10ms", "ctrl+r")
        await appears(pilot, "/nowhere/engine")
        assert isinstance(app.screen, NewSearchScreen) and not (store.root / ".sweeps").exists()
        await pilot.press("f1")
        await appears(pilot, "New search", "Plan and check the search, then launch it.")


async def test_sections_and_fields_are_reached_by_keys(store: RunStore, run: Run) -> None:
    app = cockpit(store)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "b")
        names = []
        for _ in range(5):
            names.append(next((each.field for each in screen.query(SearchField) if each.has_focus_within), ""))
            await pilot.press("ctrl+down")
        assert names == ["latency", "on", "trials", "encoders", ""]
        for name in ("parameters", "precision", "set", "widths"):  # those that are below are scrolled into view
            field = next(each for each in screen.query(SearchField) if each.field == name)
            field.enter()
            await pilot.pause()
            assert screen.query_one("#form").region.contains_region(field.control.region), name
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))  # nothing was typed


async def test_the_focused_field_stays_visible_when_the_terminal_is_resized(store: RunStore, run: Run) -> None:
    app = cockpit(store)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot, "b")
        field = next(each for each in screen.query(SearchField) if each.field == "widths")
        field.enter()
        for size in ((60, 15), SMALL):  # the first is too small for the cockpit, which says so and keeps the form
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await until(pilot, lambda: app.screen is screen and screen.has_class("-narrow"))
        await until(pilot, lambda: screen.query_one("#form").region.contains_region(field.control.region))


async def test_a_list_is_completed_name_by_name() -> None:
    suggester = ListSuggester(("Unet", "UnetPlusPlus", "FPN"))
    answers = [await suggester.get_suggestion(text) for text in ("U", "FPN, Un", "Unet,U", "Unet,", "X", "")]
    assert answers == ["Unet", "FPN, Unet", "Unet,UnetPlusPlus", None, None, None]
