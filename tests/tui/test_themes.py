"""Every text of every screen can be read, on the dark and on the light theme."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.pilot import Pilot
from textual.theme import Theme

from kdtui.tui.themes import THEMES
from kdtui.tui.views.colours import curve_colour
from kdtui.tui.widgets.bars import Bar, Bars
from tests.tui.contrast import READABLE, contrast, texts
from tests.tui.scenes import Scene, cockpit, settled, shows, until


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast(Color.parse("#000000"), Color.parse("#ffffff")) == pytest.approx(21.0)
    assert contrast(Color.parse("#777777"), Color.parse("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_curve_has_contrast_to_its_background(theme: Theme) -> None:
    for index in range(8):
        colour = Color.parse(curve_colour(index, dark=theme.dark))
        for ground in ("background", "surface"):
            assert contrast(colour, Color.parse(theme.to_color_system().generate()[ground])) >= READABLE


class _Bars(App[None]):
    def compose(self) -> ComposeResult:
        yield Bars("IoU")


async def test_every_bar_colour_is_visible() -> None:
    app = _Bars()
    own = ("#000000", "#ffffff", "#000080", "#ffff00", "")
    async with app.run_test(size=(40, 12)) as pilot:
        bars = app.query_one(Bars)
        for theme in THEMES.values():
            app.register_theme(theme)
            app.theme = theme.name
            bars.show([Bar(f"{theme.name} {colour}", 0.5, colour=colour) for colour in own])
            await pilot.pause()
            shown = []
            for row in range(1, len(own) + 1):
                style = next(part.style for part in bars.render_line(row) if "█" in part.text)
                assert style is not None and style.color is not None and style.bgcolor is not None
                shown.append(Color.from_rich_color(style.color))
                assert contrast(shown[-1], Color.from_rich_color(style.bgcolor)) >= 3.0
            assert len(set(shown)) == len(own)


@pytest.mark.parametrize(
    ("theme", "screens"),
    [("kdtui-dark", "all"), ("kdtui-light", "some"), pytest.param("kdtui-light", "all", marks=pytest.mark.slow)],
)
async def test_every_text_of_every_screen_has_enough_contrast(crowd: Scene, theme: str, screens: str) -> None:
    """Of the screens that share their styles, the fast tests look at some in the light theme."""
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        app.theme = theme
        await settled(pilot)
        hard: dict[str, float] = {}

        async def look(name: str) -> None:
            await pilot.pause()
            hard.update({f"{name}: {text.strip()}": ratio for text, ratio in texts(app) if ratio < READABLE})

        await (_walk if screens == "all" else _short_walk)(pilot, look)
    assert not hard, "\n".join(f"{ratio:.2f}  {where}" for where, ratio in hard.items())


async def _short_walk(pilot: Pilot[Any], look: Any) -> None:
    """The list of runs with a message, a dialog, a run and the form."""
    await pilot.press("x")
    await look("runs")
    await pilot.press("escape", "t")
    await look("prompt")
    await pilot.press("escape", "end", "enter")
    await look("run 1")
    await pilot.press("escape", "n")
    await until(pilot, lambda: pilot.app.screen.query("#verdict"))
    await shows(pilot, "camvid-baseline", "$ kdtui")
    await look("new run")


async def _walk(pilot: Pilot[Any], look: Any) -> None:
    """Every screen, page and dialog."""
    await look("runs")
    await pilot.press("x")
    await look("runs")
    await pilot.press("escape", "question_mark")
    await look("help")
    await pilot.press("escape", "slash", "n", "b", "0")
    await look("filter")
    await pilot.press("escape", "t")
    await look("prompt")
    await pilot.press("escape", "ctrl+p")
    await shows(pilot, "Show every key")
    await look("palette")
    await pilot.press("escape", "space", "down", "space", "end", "space", "enter")
    for page in "12345":
        await pilot.press(page)
        await look(f"run {page}")
    await pilot.press("escape", "c")
    await shows(pilot, "Δ base")
    for page in "12345":
        await pilot.press(page)
        await look(f"compare {page}")
    await pilot.press("escape", "e")
    await look("export")
    await pilot.press("escape", "n")
    await until(pilot, lambda: pilot.app.screen.query("#verdict"))
    await shows(pilot, "camvid-baseline", "$ kdtui")
    await look("new run")
