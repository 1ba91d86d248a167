from __future__ import annotations

import pytest
from textual.app import App, ComposeResult

from kdtui.tui.widgets.choices import Choices


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, ...]] = []

    def compose(self) -> ComposeResult:
        yield Choices(("all", "one", "none"), id="one")
        yield Choices(("fp32", "fp16", "int8"), several=True, id="several")

    def on_choices_chosen(self, event: Choices.Chosen) -> None:
        self.told.append(event.choices.chosen)


def row(app: App[None], name: str) -> str:
    return app.query_one(f"#{name}", Choices).render_line(0).text.rstrip()


async def test_arrows_choose_a_word_and_stop_at_the_ends() -> None:
    app = Shown()
    async with app.run_test(size=(40, 5)) as pilot:
        assert row(app, "one") == "●all ○one ○none"
        await pilot.press("left", "right", "right", "right")
        assert row(app, "one") == "○all ○one ●none"
        await pilot.press("space", "end", "home")
        assert app.told == [("one",), ("none",), ("all",), ("none",), ("all",)]


async def test_space_toggles_words_and_keeps_their_order() -> None:
    app = Shown()
    async with app.run_test(size=(40, 5)) as pilot:
        await pilot.press("tab", "end", "space", "left", "left", "space", "right")
        assert row(app, "several") == "■fp32 □fp16 ■int8"
        await pilot.press("home", "space", "end", "space")
        assert app.told[-3:] == [("fp32", "int8"), ("int8",), ()]


async def test_a_click_chooses_and_a_gap_does_not() -> None:
    app = Shown()
    async with app.run_test(size=(40, 5)) as pilot:
        await pilot.click("#one", offset=(9, 0))
        assert app.told == []
        await pilot.click("#one", offset=(10, 0))
        await pilot.click("#several", offset=(0, 0))
        assert app.told == [("none",), ("fp32",)]


@pytest.mark.parametrize("no_colour", [False, True])
async def test_put_posts_no_message(monkeypatch: pytest.MonkeyPatch, no_colour: bool) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(40, 5)) as pilot:
        app.query_one("#one", Choices).put(("none", "unheard of"))
        await pilot.pause()
        assert row(app, "one") == "○all ○one ●none"
        assert app.told == []
