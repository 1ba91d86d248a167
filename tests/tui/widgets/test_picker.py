from __future__ import annotations

from collections.abc import Sequence

from textual.app import App, ComposeResult
from textual.widgets import Input

from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.picker import CHOSEN, Picker
from tests.tui.piloting import strips as screen_strips

NAMES = ["resnet18", "resnet34", "mobilenet", "[b]odd[/] \x1b[31m"]


def found(text: str) -> Sequence[str]:
    return [name for name in NAMES if text in name]


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str | None] = []

    def compose(self) -> ComposeResult:
        yield Picker([Column("name", "name", 8, grow=True)], lambda key: [Cell(key)], find=found, empty="none fits")
        yield Input()

    @property
    def picker(self) -> Picker:
        return self.query_one(Picker)

    def on_picker_picked(self, event: Picker.Picked) -> None:
        self.told.append(f"picked {event.key}")

    def on_picker_entered(self, event: Picker.Entered) -> None:
        self.told.append(f"entered {event.text}")

    def on_picker_moved(self, event: Picker.Moved) -> None:
        self.told.append(event.key)

    def text(self) -> str:
        return "\n".join(strip.text for strip in screen_strips(self))


async def test_typing_filters_arrows_move_enter_picks() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("tab", *"resnet")
        assert "mobilenet" not in app.text()
        assert app.picker.cursor_key == "resnet18"
        await pilot.press("down", "enter")
        assert app.told[-2:] == ["resnet34", "picked resnet34"]
        await pilot.press("up", "enter")
        assert app.told[-1] == "picked resnet18"
        # The list is led by the line: one stop for the tab key.
        await pilot.press("tab")
        assert isinstance(app.focused, Input)
        assert app.focused is app.query(Input).last()


async def test_typing_does_not_lay_out_the_screen_again() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("tab")
        layouts: list[object] = []
        app.screen.screen_layout_refresh_signal.subscribe(app, layouts.append, immediate=True)
        await pilot.press(*"resnet")
        await pilot.pause()
        assert "mobilenet" not in app.text()
        assert layouts == []


async def test_a_text_without_matching_rows_is_posted_unchanged() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("tab", *"tu-new", "enter")
        assert app.told[-1] == "entered tu-new"
        assert "none fits" in app.text()


async def test_the_picked_row_is_marked_and_visible_and_foreign_text_is_literal() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        app.picker.choose("mobilenet")
        await pilot.pause()
        assert app.picker.cursor_key == "mobilenet"
        assert f"{CHOSEN} mobilenet" in app.text()
        assert "[b]odd[/] [31m" in app.text()
        app.picker.choose(None)
        await pilot.pause()
        assert CHOSEN not in app.text()


async def test_a_click_moves_a_double_click_picks_and_keys_still_work() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.click(Picker, offset=(8, 3))
        assert app.picker.cursor_key == "resnet34"
        await pilot.press("m")
        assert app.picker.text == "m"
        await pilot.press("backspace")
        await pilot.click(Picker, offset=(8, 2), times=2)
        assert app.told[-1] == "picked resnet18"


async def test_the_cursor_shows_the_focus() -> None:
    app = Shown()

    def reversed_rows() -> int:
        strips = screen_strips(app)
        return sum(any(part.style and part.style.reverse and len(part.text) > 20 for part in strip) for strip in strips)

    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("tab")
        await pilot.pause()
        assert reversed_rows() == 1
        await pilot.press("tab")
        await pilot.pause()
        assert reversed_rows() == 0


async def test_late_search_results_are_picked_only_once_they_are_displayed() -> None:
    class Slow(Shown):
        def compose(self) -> ComposeResult:
            yield Picker([Column("name", "name", 8)], lambda key: [Cell(key)], find=lambda text: None)

    app = Slow()
    async with app.run_test(size=(40, 12)) as pilot:
        app.picker.show(["a", "b"])
        await pilot.press("tab", "down", "x")
        await pilot.press("enter")
        # The rows are those of another text still.
        assert app.told[-1] == "entered x"
        app.picker.show(["xa", "xb"])
        await pilot.press("enter")
        assert app.told[-1] == "picked xa"


async def test_rows_shown_again_keep_the_cursor() -> None:
    app = Shown()
    async with app.run_test(size=(40, 12)) as pilot:
        await pilot.press("tab", "down")
        app.picker.show(["new", *NAMES])
        await pilot.pause()
        assert app.picker.cursor_key == "resnet34"
        app.picker.text = "mobile"
        await pilot.pause()
        assert app.picker.cursor_key == "mobilenet"
        app.picker.leave()
        await pilot.pause()
        assert "resnet18" in app.text()
