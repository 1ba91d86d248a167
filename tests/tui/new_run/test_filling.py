"""The form of a new run: what is shown while it is filled in. Nothing is launched here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import Input

from kdtui.profile.settings import SETTINGS
from kdtui.tui.form.tables import LISTS, PLAIN
from kdtui.tui.screens.new_run.sections import Section
from kdtui.tui.screens.new_run.tables import TableFields
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.widgets.choices import Mistake
from kdtui.tui.widgets.slider import Track
from tests.tui.new_run.form import LARGE, SMALL, opened, read, typed, verdict
from tests.tui.scenes import Engine, Scene, cockpit, recorded, shows, text, until


async def test_mistakes_are_displayed_at_their_fields_while_typing(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=(120, 50)) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"demo-di", "enter")
        await read(pilot)
        for name, letters in (("temperature", "x"), ("alpha", "7"), ("epochs", "0"), ("tags", "ö"), ("extra", "a=1")):
            await typed(pilot, name, letters)
        await pilot.pause()

        assert set(screen.checked.mistakes) == {"teacher", "temperature", "alpha", "epochs", "tags", "extra"}
        assert not any(fields.display for fields in screen.query(TableFields))  # none of these is in a folded section
        shown = [mistake.text for mistake in screen.query(Mistake) if mistake.display]
        for sought in (
            "choose a teacher",
            "found 'x'",
            "<= 1.0",
            ">= 1",
            "found 'ö'",
            "unknown key",
        ):
            assert sum(sought in mistake for mistake in shown) == 1, sought
        assert "5 mistakes: T, α, epochs, tags, other keys" in verdict(app)
        assert "still to choose: teacher" in verdict(app)
        # What is being typed stays a command, and stays in its field.
        assert "-T x" in verdict(app)
        await typed(pilot, "epochs", "\b")
        await pilot.press("end", "backspace", "3")
        await read(pilot)
        assert "epochs" not in screen.checked.mistakes


async def test_control_characters_in_names_are_not_interpreted(scene: Scene, tmp_path: Path) -> None:
    scene.finished("x", folder="20260821-143000-[b]x[-b] \x1b[31m")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "[red]\x1b]0;t\x07.pth").write_bytes(b"")
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+down")
        await shows(pilot, "[b]x[-b]")
        await pilot.press(*"m/")
        await shows(pilot, "[red]]0;t.pth")
        assert "\x1b" not in text(app)


async def test_the_mouse_picks_and_slides(teachers: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    app = cockpit(teachers)
    monkeypatch.setattr(type(app), "CLICK_CHAIN_TIME_THRESHOLD", 60.0)  # on a busy machine two clicks are seconds apart
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"demo-di", "enter")
        await read(pilot)
        table = screen.query_one("#teacher Picker Table")
        await pilot.click(table, offset=(6, 1), times=2)
        await until(pilot, lambda: screen.draft.teacher)
        await read(pilot)
        assert screen.checked.ready
        track = screen.query_one("#alpha Track", Track)
        await pilot.click(track, offset=(0, 0))
        await until(pilot, lambda: screen.draft.alpha == "0")


async def test_without_runs_the_form_starts_with_a_shipped_profile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene.store.root)
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        opened_form = await opened(pilot)
        assert opened_form.draft.profile == "demo-teacher"
        await until(pilot, lambda: "not checked yet" in verdict(app))
        assert opened_form.checked.mistakes == {} and opened_form.checked.ready
        assert "✗" not in text(app) and "--profile" not in text(app)
        await pilot.press("escape")  # nothing was typed, so nothing is asked
        await until(pilot, lambda: len(app.screen_stack) == 1)


async def test_sections_and_fields_are_reached_by_keys_and_visible(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, teachers.store.runs()[0].id)
        screen.sections[0].focus_first()
        view = screen.query_one("#form").region
        for section in screen.sections:
            await until(pilot, lambda: screen._focused(Section) is section)  # noqa: B023
            shown = section.region.intersection(view)
            assert shown.height == min(section.region.height, view.height), section
            await pilot.press("ctrl+down")
        assert screen._focused(Section) is screen.sections[0]
        await pilot.press("ctrl+up")
        assert screen._focused(Section) is screen.sections[-1]

        for size in (SMALL, LARGE):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: screen.size == size and screen.query_one("#form").size)  # noqa: B023
            seen = set()
            first = app.focused
            while True:
                assert app.focused is not None
                widget = app.focused
                assert widget.region.area > 0
                assert screen.query_one("#form").region.contains_region(widget.region), (size, widget)
                name = screen._focused_field()
                assert name is not None
                seen.add(name)
                await pilot.press("tab")
                if app.focused is first:
                    break
            of_trials = {"trials", "prune"}  # displayed if a key has several values
            assert seen == {"profile", "method", *SETTINGS, *PLAIN, *LISTS, "data.kind"} - of_trials, size


async def test_the_command_is_copied_in_full_and_a_launch_with_mistakes_focuses_the_first(teachers: Scene) -> None:
    engine = Engine()
    app = cockpit(teachers, ask=engine)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, teachers.store.runs()[0].id)
        await typed(pilot, "seeds", "1,2,3")
        await pilot.press("ctrl+y")
        await until(pilot, lambda: app.clipboard)
        assert app.clipboard == screen.checked.command
        assert "--seeds 1,2,3" in app.clipboard

        await typed(pilot, "devices", "x")
        await typed(pilot, "epochs", "0")
        await pilot.press("ctrl+down", "ctrl+r")
        await until(pilot, lambda: screen._focused_field() == "epochs")
        assert not engine.asked
        assert len(teachers.store.runs()) == 1


async def test_leaving_requires_confirmation_only_if_input_would_be_lost(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"demo", "escape")
        assert app.screen is screen  # the search was put away
        await typed(pilot, "epochs", "3")

        await pilot.resize_terminal(60, 20)
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: app.screen is screen)
        await pilot.press("4")
        await read(pilot)
        assert screen.draft.epochs == "34"
        assert isinstance(app.focused, Input)
        assert Region(0, 0, 200, 60).contains_region(app.focused.region)

        await pilot.press("escape")
        await shows(pilot, "Leave the form?")
        await pilot.press("n")
        await until(pilot, lambda: app.screen is screen)
        assert screen.draft.epochs == "34"
        await pilot.press("escape", "y")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_the_form_is_the_same_without_colours_and_in_both_themes_and_writes_nothing_when_idle(
    teachers: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def filled(pilot: Pilot[Any]) -> str:
        """The form with all that a launch needs."""
        screen = await opened(pilot)
        screen.edit(screen.draft.edited(profile="demo-distilled", teacher=teachers.store.runs()[0].id))
        screen.refill()
        await read(pilot)
        await until(pilot, lambda: "starts now" in text(pilot.app) and screen.standing.plan is not None)
        return text(pilot.app)

    app = recorded(teachers)
    async with app.run_test(size=LARGE) as pilot:
        dark = await filled(pilot)
        await pilot.pause(0.1)
        app.written.clear()
        await pilot.pause(0.5)
        assert "".join(app.written) == ""
        await pilot.press("ctrl+t")
        await pilot.pause()
        assert not app.current_theme.dark
        assert text(app) == dark

    monkeypatch.setenv("NO_COLOR", "1")
    plain = cockpit(teachers)
    plain.theme = "kdtui-light"
    async with plain.run_test(size=LARGE) as pilot:
        assert await filled(pilot) == dark


async def test_without_runs_an_own_profile_is_chosen_and_a_typed_file_is_accepted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scene.store.root.parent
    for place, name in (("profiles", "mine"), ("sub", "mycity")):
        (folder / place).mkdir()
        (folder / place / f"{name}.toml").write_text(f'extends = "demo-baseline"\nname = "{name}"\n')
    monkeypatch.chdir(folder)
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        opened_form = await opened(pilot)
        assert opened_form.draft.profile == "mine" and opened_form.checked.ready
        await pilot.press(*"nosuch")
        await shows(pilot, "no such profile")
        await pilot.press("escape", *"sub/mycity.toml")
        await shows(pilot, "enter accepts this file")
        await pilot.press("enter")
        await read(pilot)
        assert opened_form.draft.profile == "sub/mycity.toml" and opened_form.checked.ready
