from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from kdtui.tui.values import Part
from kdtui.tui.widgets.columns import cut
from kdtui.tui.widgets.line import KeyBar, Line
from tests.tui.scenes import until


def brightness(colour: tuple[int, int, int]) -> float:
    """Relative luminance, as WCAG has it."""
    parts = [part / 255 for part in colour]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


KEYS = [
    ("↵", "open", "open"),
    ("x", "stop", "stop"),
    ("R", "resume", "resume"),
    ("?", "help", "app.help"),
    ("^p", "cmds", "app.cmds"),
]


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.pressed: list[str] = []

    def compose(self) -> ComposeResult:
        yield Line(id="header")
        yield Line(id="status", firm="left")
        yield KeyBar(KEYS, id="keys")

    def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        self.pressed.append(event.action)


def row(app: App[None], selector: str) -> str:
    widget = app.query_one(selector)
    assert isinstance(widget, Line | KeyBar)
    strip = widget.render_line(0)
    assert strip.cell_length == sum(cell_len(segment.text) for segment in strip) == widget.size.width
    return strip.text.rstrip()


@given(st.text(), st.integers(min_value=0, max_value=20))
def test_a_text_is_cut_to_the_available_width(text: str, room: int) -> None:
    shown = cut(text, room)
    assert cell_len(shown) <= room
    if cell_len(text) <= room:
        assert shown == text
    elif room:
        assert "…" in shown


async def test_one_side_is_displayed_in_full_if_both_do_not_fit() -> None:
    app = Shown()
    async with app.run_test(size=(20, 3)) as pilot:
        for name in ("#header", "#status"):
            app.query_one(name, Line).show([Part("left ")], [Part("right")])
        await pilot.pause()
        assert row(app, "#header") == row(app, "#status") == "left           right"
        for name in ("#header", "#status"):
            app.query_one(name, Line).show([Part("the left side ")], [Part("the right side")])
        await pilot.pause()
        assert row(app, "#header") == "the l…the right side"
        assert row(app, "#status") == "the left side the r…"
        await pilot.resize_terminal(40, 3)
        await until(pilot, lambda: row(app, "#header") == "the left side             the right side")


@pytest.mark.parametrize("no_colour", [False, True])
async def test_markup_and_control_characters_are_not_interpreted(
    monkeypatch: pytest.MonkeyPatch, no_colour: bool
) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(60, 3)) as pilot:
        parts = [
            Part("[b]a[/]\x1b[31m\r\x07"),
            Part(""),
            Part("\n\tb\u202e", "error"),
            Part("c", "text-muted", bold=True),
        ]
        app.query_one("#header", Line).show(parts)
        await pilot.pause()
        assert row(app, "#header") == "[b]a[/][31m  bc"


async def test_any_text_fills_exactly_its_row() -> None:
    app = Shown()
    async with app.run_test(size=(30, 3)):
        line = app.query_one("#header", Line)

        @given(st.lists(st.text(), max_size=4))
        def check(texts: list[str]) -> None:
            line.show([Part(text) for text in texts], [Part("end")])
            assert row(app, "#header").endswith("end")

        check()


async def test_an_unchanged_line_is_not_redrawn() -> None:
    app = Shown()
    async with app.run_test(size=(40, 3)) as pilot:
        line = app.query_one("#header", Line)
        drawn: list[int] = []
        draw = line.render_line
        line.render_line = lambda y: drawn.append(y) or draw(y)  # type: ignore[method-assign,func-returns-value]
        line.show([Part("one")])
        await pilot.pause()
        count = len(drawn)
        assert count
        line.show([Part("one")])
        await pilot.pause()
        assert len(drawn) == count


async def test_a_click_on_a_key_presses_it_and_keys_that_do_not_fit_are_left_out() -> None:
    app = Shown()
    async with app.run_test(size=(45, 3)) as pilot:
        assert row(app, "#keys") == "↵ open x stop R resume ? help ^p cmds"
        for x in (0, 5, 6, 7, 12, 26, 44):
            await pilot.click("#keys", offset=(x, 0))
        assert app.pressed == ["open", "open", "stop", "stop", "app.help"]
        await pilot.resize_terminal(37, 3)
        await until(pilot, lambda: app.query_one("#keys").size.width == 37)
        assert row(app, "#keys") == "↵ open x stop R resume ? help ^p cmds"
        await pilot.resize_terminal(36, 3)
        await until(pilot, lambda: row(app, "#keys") == "↵ open x stop ? help ^p cmds")
        await pilot.resize_terminal(14, 3)
        await until(pilot, lambda: row(app, "#keys") == "? help ^p cmds")


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
async def test_curve_colours_are_readable_on_the_background_of_their_theme(theme: str) -> None:
    app = Shown()
    async with app.run_test(size=(40, 3)) as pilot:
        app.theme = theme
        line = app.query_one("#header", Line)
        for name in ("accent", "error", "warning", "success", "primary", "secondary"):
            line.show([Part(name, name)])
            await pilot.pause()
            style = next(iter(line.render_line(0))).style
            assert style is not None and style.color is not None and style.color.triplet is not None
            text, ground = (brightness(colour) for colour in (style.color.triplet, line.background_colors[1].rgb))
            assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) > 2.5, name
