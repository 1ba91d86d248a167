from __future__ import annotations

from typing import Any, Self

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from kdtui.tui.widgets.bars import Bar, Bars, filled_cells
from kdtui.tui.widgets.panel import TONES, Panel
from tests.tui.piloting import strips as screen_strips


class Counted(Panel):
    """Counts the rows that it is asked to write again; None stands for all."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.written: list[int | None] = []

    def refresh(self, *regions: Region, **options: Any) -> Self:
        self.written += [region.y for region in regions] or [None]
        return super().refresh(*regions, **options)


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield Counted("Losses", id="cut")
        yield Counted("Failed", wraps=True, id="wraps")
        yield Bars("IoU", mark="│ teacher")


def screen_text(app: App[None]) -> str:
    return "\n".join(strip.text for strip in screen_strips(app))


async def test_a_panel_without_lines_is_hidden_and_only_changed_lines_are_redrawn() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        panel = app.query_one("#cut", Counted)
        assert panel.size.height == 0
        lines = [[("total ", "muted"), ("0.41", "strong")], [("distill", "")]]
        panel.show(lines)
        await pilot.pause()
        assert panel.region.height == 3
        assert screen_text(app).splitlines()[:3] == [line.ljust(40) for line in (" Losses", " total 0.41", " distill")]
        panel.written.clear()
        panel.show([list(line) for line in lines])
        assert panel.written == []
        panel.show([lines[0], [("distillation", "")]])
        assert panel.written == [2]  # below the title and the first line
        await pilot.pause()
        assert screen_text(app).splitlines()[2] == " distillation".ljust(40)
        panel.show([])
        await pilot.pause()
        assert not panel.display


@pytest.mark.parametrize("no_colour", [False, True])
async def test_markup_and_control_characters_are_not_interpreted(
    monkeypatch: pytest.MonkeyPatch, no_colour: bool
) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        app.query_one("#cut", Panel).show([[("[b]not bold[/] \x1b[31m", tone)] for tone in TONES])
        await pilot.pause()
        assert screen_text(app).count("[b]not bold[/] [31m") == len(TONES)


async def test_long_lines_are_cut_or_wrapped() -> None:
    app = Shown()
    async with app.run_test(size=(20, 12)) as pilot:
        for name in ("cut", "wraps"):
            app.query_one(f"#{name}", Panel).show([[("words " * 10 + "end", "")]])
        await pilot.pause()
        assert app.query_one("#cut").region.height == 2
        assert app.query_one("#wraps").region.height > 3
        assert "…" in screen_text(app) and "end" in screen_text(app)


async def test_a_wrapped_panel_has_the_height_of_its_latest_lines() -> None:
    app = Shown()
    async with app.run_test(size=(20, 12)) as pilot:
        panel = app.query_one("#wraps", Panel)
        for text, rows in (("X " * 15, 2), ("Y " * 15, 2), ("Z " * 25, 3), ("V", 1), ("", 0), ("W " * 15, 2)):
            panel.show([[("before that", "")]] if text else [])  # shown over at once: never laid out
            panel.show([[(text, "")]] if text else [])
            await pilot.pause()
            assert panel.size.height == (rows + 1 if rows else 0)
            assert screen_text(app).count(text[:1] or "Failed") == len(text.split())


async def test_bars_show_values_and_the_mark_of_another() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        bars = app.query_one(Bars)
        assert bars.size.height == 0
        bars.show([Bar("target", 0.5, 0.75), Bar("[b]other\x07", 0.9, 0.25), Bar("absent", None)])
        await pilot.pause()
        rows = [bars.render_line(y).text for y in range(4)]
        assert rows[0].split() == ["IoU", "│", "teacher"]
        assert rows[1].startswith("target   0.5000 ") and rows[2].startswith("[b]other 0.9000 ")
        room = len(rows[1]) - len("target   0.5000 ")
        assert rows[1].count("█") == room // 2
        assert rows[1].index("│") > rows[1].rindex("█")
        assert rows[2].index("│") < rows[2].rindex("█")
        assert rows[3].split() == ["absent", "-"]
        bars.show([])
        await pilot.pause()
        assert not bars.display


@pytest.mark.parametrize("value", [None, -1.0, 0.0, 0.01, 0.5, 1.0, 2.0])
def test_a_bar_fills_its_width_for_any_value(value: float | None) -> None:
    text = filled_cells(value, 10)
    assert len(text) == 10
    assert text.count("█") == round(10 * min(1.0, max(0.0, value or 0.0)) - 0.499)
