from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot

from kdtui.tui.app import RunCommands, _named
from kdtui.tui.keys import keys_of
from tests.tui.scenes import Scene, cockpit, settled, shows, text, until


async def opened(pilot: Pilot[Any]) -> None:
    await pilot.press("ctrl+p")
    await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))


async def test_every_action_of_the_screen_is_offered_with_its_command_line(scene: Scene) -> None:
    scene.finished("b0", horizon=2)
    app = cockpit(scene)
    async with app.run_test(size=(120, 120)) as pilot:
        await settled(pilot)
        await opened(pilot)
        await shows(pilot, "Show every key and what it does (F1 in fields).")
        shown = text(app)
        for key in keys_of("runs", "chart", "app"):
            assert (key.help in shown) is key.palette, key
            if key.palette and key.command:
                assert key.command in shown
        assert "Quit the application" not in shown  # Textual's own would say things twice
        assert shown.isascii() or not any(ord(letter) > 0xFFFF for letter in shown)  # no emoji


async def test_an_action_is_found_and_run(scene: Scene) -> None:
    scene.finished("b0", horizon=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await opened(pilot)
        await pilot.press(*"sort by")
        await shows(pilot, "Sort by the next column.")
        await pilot.press("enter")
        await shows(pilot, "sorted by run")
        await opened(pilot)
        await pilot.press(*"dark")
        await shows(pilot, "Switch between the dark and the light theme.")
        await pilot.press("enter")
        await until(pilot, lambda: not app.current_theme.dark)


@pytest.mark.parametrize(
    ("typed", "action"),
    [
        ("stop", "stop"),
        ("cancel", "stop"),
        ("kill", "kill"),
        ("stop --kill", "kill"),
        ("quit", "quit"),
        ("exit", "quit"),
        ("clone", "clone"),
        ("duplicate", "clone"),
        ("export", "export_onnx"),
        ("onnx", "export_onnx"),
        ("resume", "resume"),
        ("continue", "resume"),
        ("delete", "remove"),
        ("remove", "remove"),
        ("train", "new_run"),
        ("kdtui compare", "compare"),
        ("help", "help"),
    ],
)
@pytest.mark.parametrize("scope", ["runs", "run"])
async def test_a_plain_word_or_a_command_finds_the_action_first(typed: str, action: str, scope: str) -> None:
    elsewhere = {"run": ("remove", "new_run")}  # actions that the list alone has
    keys = [key for key in keys_of("runs" if action in elsewhere.get(scope, ()) else scope, "app") if key.palette]
    best = max(keys, key=lambda key: _named(key, typed))
    assert _named(best, typed) > 0 and best.action == action


async def test_typing_a_word_finds_and_runs_its_action(scene: Scene) -> None:
    scene.running("b0", epochs=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await opened(pilot)
        await pilot.press(*"cancel")
        await shows(pilot, "Save and stop the run or the marked runs")
        await pilot.press("enter")
        await shows(pilot, "Stop b0?")


async def test_a_run_is_found_by_its_name(scene: Scene) -> None:
    for name in ("b0-alone", "r18-alone", "[b]odd[b]", "[odd] [!]"):
        scene.never_launched("x", folder=f"20260821-143000-{name}")
    app = cockpit(scene)
    asked: list[str] = []
    app.open_run = asked.append  # type: ignore[method-assign,assignment]
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await opened(pilot)
        await pilot.press(*"r18")
        await shows(pilot, "open 20260821-143000-r18-alone")
        await pilot.press("enter")
        await until(pilot, lambda: asked == ["20260821-143000-r18-alone"])
        await opened(pilot)
        await pilot.press(*"odd")
        await shows(pilot, "open 20260821-143000-[b]odd[b]", "open 20260821-143000-[odd] [!]")
        await pilot.press("escape", "escape")


async def test_keys_are_handled_while_many_runs_are_searched(scene: Scene) -> None:
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.board.order = [f"20260821-143000-b{index}-from-b3" for index in range(5_000)]
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        found = [hit async for hit in RunCommands(app.screen).search("no run has this name")]
        counting.cancel()
        assert found == [] and turns >= 9
        offered = [hit async for hit in RunCommands(app.screen).search("b3")]
        assert 0 < len(offered) < 400  # a filter finds the others
        app.board.order = []
