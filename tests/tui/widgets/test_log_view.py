from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from kdtui.tui.widgets.log_view import LogView


class Logged(App[None]):
    """A log alone."""

    def __init__(self, most: int = 5000) -> None:
        super().__init__()
        self.most = most
        self.most_text = 4 << 20
        self.told: list[bool] = []

    def compose(self) -> ComposeResult:
        yield LogView(most=self.most, most_text=self.most_text)
        yield Static("below", id="below")

    def on_log_view_following(self, event: LogView.Following) -> None:
        self.told.append(event.following)


def lines(begin: int, end: int) -> str:
    return "".join(f"line {n}\n" for n in range(begin, end))


def shown(view: LogView) -> list[str]:
    return [view.render_line(y).text.rstrip() for y in range(view.scrollable_content_region.height)]


async def test_the_log_follows_its_end_and_continues_half_lines() -> None:
    app = Logged()
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LogView)
        view.add(lines(0, 100) + "half")
        await pilot.pause()
        assert shown(view)[-1] == "half"
        view.add(" and whole\n" + lines(100, 130))
        await pilot.pause()
        assert shown(view)[-1] == "line 129"
        assert "half and whole" in view.lines


async def test_a_scrolled_up_log_does_not_move_and_follows_again_at_the_end() -> None:
    app = Logged(most=200)
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LogView)
        view.focus()
        view.add(lines(0, 190))
        await pilot.pause()
        await pilot.press("pageup")
        before = shown(view)
        assert not view.following
        view.add(lines(190, 300))
        await pilot.pause()
        assert shown(view) == before
        await pilot.press("end")
        assert view.following
        view.add(lines(300, 401))
        await pilot.pause()
        assert shown(view)[-1] == "line 400"
        assert len(view.lines) <= 200
        assert app.told == [False, True]


async def test_text_added_while_hidden_or_shrunk_is_followed() -> None:
    app = Logged()
    async with app.run_test(size=(40, 20)) as pilot:
        view = app.query_one(LogView)
        view.display = False
        await pilot.pause()
        view.add(lines(0, 100))
        view.display = True
        await pilot.pause()
        assert shown(view)[-1] == "line 99"
        await pilot.resize_terminal(40, 8)
        await pilot.pause()
        assert len(shown(view)) < 8 and shown(view)[-1] == "line 99"
        assert view.following


async def test_restart_clears_the_log_and_follows_again() -> None:
    app = Logged()
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LogView)
        view.focus()
        view.add(lines(0, 100))
        await pilot.pause()
        await pilot.press("home")
        view.restart()
        view.add("new\n")
        await pilot.pause()
        assert list(view.lines) == ["new", ""] and view.following


@pytest.mark.parametrize("no_colour", [False, True])
async def test_foreign_text_is_displayed_literally(monkeypatch: pytest.MonkeyPatch, no_colour: bool) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    app = Logged()
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LogView)
        view.add("[red]not red[/red] [/]\n\n\tafter a blank line ☃ 漢字\n")
        await pilot.pause()
        assert shown(view)[0] == "[red]not red[/red] [/]"
        assert shown(view)[1] == ""
        assert shown(view)[2].strip() == "after a blank line ☃ 漢字"


async def test_a_scrolled_up_log_keeps_a_bounded_number_of_lines_and_its_position() -> None:
    app = Logged(most=100)
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LogView)
        view.focus()
        view.add(lines(0, 190))
        await pilot.pause()
        await pilot.press("pageup")
        before = shown(view)
        for first in range(190, 330, 10):
            view.add(lines(first, first + 10))
        await pilot.pause()
        assert shown(view) == before
        assert view.dropped == 0
        for first in range(330, 600, 10):
            view.add(lines(first, first + 10))
            await pilot.pause()
        assert len(view.lines) <= 401
        assert view.dropped == int(view.lines[0].removeprefix("line "))
        assert not view.following
        view.add(lines(600, 200_000))
        assert len(view.lines) <= 401
        assert view.dropped == int(view.lines[0].removeprefix("line "))
        assert not view.following


async def test_visible_lines_keep_their_position_when_older_ones_are_dropped() -> None:
    app = Logged(most=100)
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LogView)
        view.focus()
        view.add(lines(0, 190))
        await pilot.pause()
        await pilot.press("up")
        before = shown(view)
        view.add(lines(190, 450))
        await pilot.pause()
        assert view.dropped and shown(view) == before
        assert not view.following


@pytest.mark.parametrize("following", [True, False])
async def test_long_lines_are_bounded_too(following: bool) -> None:
    app = Logged()
    app.most_text = 1000
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LogView)
        view.focus()
        view.add(lines(0, 20))
        await pilot.pause()
        if not following:
            await pilot.press("home")
        for _ in range(20):
            view.add(400 * "x" + "\n" + 250 * "y")
            await pilot.pause()
            assert sum(map(len, view.lines)) <= 2 * 1000
        view.add(5000 * "z")
        assert sum(map(len, view.lines)) <= 2 * 1000
        assert view.lines[-1].endswith("zzz")
        assert view.following is following
