from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from kdtui.tui.widgets.choices import LineInput
from kdtui.tui.widgets.slider import Scale, Slider, Track
from tests.tui.piloting import strips as screen_strips

ALPHA = Scale(0.0, 1.0, 0.05, 0.25)
TEMPERATURE = Scale(1.0, 16.0, 0.5, 2.0, log=True)


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def compose(self) -> ComposeResult:
        yield Slider("α", ALPHA, id="alpha")
        yield Slider("T", TEMPERATURE, id="temperature")

    def on_mount(self) -> None:
        self.query_one("#alpha", Slider).show_own("0.5")
        self.query_one("#temperature", Slider).show_own("2")
        self.query_one("#temperature", Slider).put("4")

    def on_slider_changed(self, event: Slider.Changed) -> None:
        self.told.append(f"{event.control.id}={event.text}")

    def lines(self) -> list[str]:
        return [strip.text for strip in screen_strips(self)]


@given(st.floats(0.0, 1.0))
def test_positions_on_the_track_round_trip_to_steps(share: float) -> None:
    for scale in (ALPHA, TEMPERATURE):
        value = scale.value(share)
        assert scale.low <= value <= scale.high
        assert value == pytest.approx(round(value / scale.step) * scale.step)
        assert scale.value(scale.share(value)) == value


def test_equal_ratios_are_equal_distances_on_a_logarithmic_track() -> None:
    assert TEMPERATURE.share(4.0) == pytest.approx(0.5)
    assert TEMPERATURE.share(2.0) == pytest.approx(0.25)
    assert TEMPERATURE.share(100.0) == 1.0


async def test_keys_move_the_handle_and_the_input_follows() -> None:
    app = Shown()
    async with app.run_test(size=(40, 4)) as pilot:
        slider = app.query_one("#alpha", Slider)
        slider.query_one(Track).focus()
        assert slider.value == 0.5
        assert slider.text == ""
        await pilot.press("right")
        assert slider.text == "0.55"
        await pilot.press("shift+left", "left")
        assert slider.text == "0.25"
        await pilot.press("end", "right")
        assert slider.text == "1"
        await pilot.press("home")
        assert slider.value == 0.0
        await pilot.pause()
        # A step that changes nothing tells nothing.
        assert app.told == [f"alpha={text}" for text in ("0.55", "0.3", "0.25", "1", "0")]


async def test_the_handle_follows_any_typed_number() -> None:
    app = Shown()
    async with app.run_test(size=(40, 4)) as pilot:
        slider = app.query_one("#temperature", Slider)
        before = app.lines()[1].index("●")
        slider.query_one(LineInput).focus()
        await pilot.press("2", ".", "7", "1")
        assert slider.value == 2.71
        assert app.lines()[1].index("●") < before
        await pilot.press("0", "0", "0", "backspace", "home", "9", "9")
        assert slider.value == 992.7100
        assert "▸" in app.lines()[1]
        await pilot.press("x")
        assert slider.value is None
        assert not {"●", "▸"} & set(app.lines()[1])
        await pilot.press("ctrl+u", "ctrl+k")
        # Empty: what stands underneath counts again.
        assert slider.value == 2.0
        assert app.told[-1] == "temperature="


async def test_the_mouse_sets_and_drags_the_handle() -> None:
    app = Shown()
    async with app.run_test(size=(60, 4)) as pilot:
        slider = app.query_one("#alpha", Slider)
        track = slider.query_one(Track)
        await pilot.click(track, offset=(track.size.width - 1, 0))
        assert slider.value == 1.0
        await pilot.mouse_down(track, offset=(track.size.width - 1, 0))
        await pilot.hover(track, offset=(0, 0))
        assert slider.value == 0.0
        await pilot.mouse_up(track, offset=(0, 0))
        await pilot.hover(track, offset=(20, 0))
        assert slider.value == 0.0


async def test_put_posts_no_message_and_works_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(40, 4)) as pilot:
        app.query_one("#alpha", Slider).put("0.75")
        await pilot.pause()
        assert "0.75" in app.lines()[0]
        assert "●" in app.lines()[0]
        assert not app.told
