"""Profiles for a folder, with the scripted engine: questions, written files, cancelling, and the form afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from typer.testing import CliRunner

from kdtui.cli.app import app as command_line
from kdtui.launch.new_profiles import ROLES
from kdtui.profile import load
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.screens.new_profiles import NewProfilesScreen
from kdtui.tui.screens.new_run import NewRunScreen
from kdtui.tui.screens.runs import RunsScreen
from tests import fake_engine
from tests.tui.scenes import Scene, cockpit, settled, text, until

SMALL, LARGE = (80, 24), (120, 36)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two layouts and classes without names, and the scripted engine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_ENGINE", fake_engine.COMMAND)
    city = tmp_path / "City 2"
    city.mkdir()
    (city / "two").touch()
    return city


async def appears(pilot: Pilot[Any], *texts: str) -> None:
    """Wait until the screen shows all these texts, however their lines are wrapped."""
    await until(pilot, lambda: all(sought in " ".join(text(pilot.app).split()) for sought in texts))


async def opened(pilot: Pilot[Any], *keys: str) -> NewProfilesScreen:
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    await settled(pilot)
    await pilot.press(*(keys or ("I",)))
    await until(pilot, lambda: isinstance(app.screen, NewProfilesScreen))
    screen = app.screen
    assert isinstance(screen, NewProfilesScreen)
    return screen


async def typed(pilot: Pilot[Any], screen: NewProfilesScreen, **texts: str) -> None:
    """Replace the texts of fields."""
    for name, letters in texts.items():
        screen.query_one(f"#{name}").focus()
        await pilot.pause()
        await pilot.press("end", "ctrl+u", *letters)


async def test_the_same_profiles_as_those_of_the_command_by_keys(scene: Scene) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"City 2", "enter")
        await appears(pilot, "1 images and masks: numbers 0, 5", "2 images and masks: numbers 0, 5", "480x360 (median)")
        await pilot.press("2", "tab", *"sky,road")
        await appears(pilot, "2: sky, road", "profiles/city-2-teacher.toml")
        command = screen.draft.command
        assert command == "kdtui init 'City 2' --layout 2 --classes sky,road"
        assert f"$ {command}" in text(app)
        await pilot.press("ctrl+r")
        await appears(pilot, "nothing wrong was found", "kdtui train city-2-teacher city-2-baseline city-2-distilled")
    written = {file.name: file.read_bytes() for file in Path("profiles").iterdir()}
    assert set(written) == {f"city-2-{role}.toml" for role in ROLES}
    for file in Path("profiles").iterdir():
        file.unlink()
    words = ["init", "City 2", "--layout", "2", "--classes", "sky,road", "--yes", "--runs-dir", str(scene.store.root)]
    assert CliRunner().invoke(command_line, words).exit_code == 0
    assert {file.name: file.read_bytes() for file in Path("profiles").iterdir()} == written


async def test_the_form_offers_the_written_profiles(scene: Scene) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.screen.read_draft is not None)
        form = app.screen
        assert isinstance(form, NewRunScreen)
        screen = await opened(pilot, "ctrl+o")
        await pilot.press("ctrl+o")
        await appears(pilot, "no profiles yet")
        await typed(pilot, screen, folder="City 2", prefix="own")
        await pilot.press("ctrl+r")
        await appears(pilot, "^r writes the profiles with these answers")
        await pilot.press("ctrl+r")
        await appears(pilot, "3 profiles written")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: app.screen is form)
        await until(pilot, lambda: form.read_draft == form.draft)
        assert form.draft.profile == "own-teacher" and form.checked.profiles[0].data.class_names() == (
            "class 0",
            "class 5",
        )
        await appears(pilot, "own-baseline", "own-teacher 1 run of 40 epochs")


async def test_the_palette_and_a_teacher_of_a_run(scene: Scene) -> None:
    run = scene.finished("b3-teacher", best=0.76)
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot, "ctrl+p", *"init", "enter")
        await typed(pilot, screen, folder="City 2", teacher="b3-teacher")
        await pilot.press("ctrl+g")
        await appears(pilot, "480x360 (median)")
        assert "city-2-teacher" not in text(app)
        await pilot.press("ctrl+r")
        await appears(pilot, "kdtui train city-2-baseline city-2-distilled")
        assert load("city-2-distilled").teacher.checkpoint == str(run.best)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.screen.read_draft is not None)
        assert isinstance(app.screen, NewRunScreen)
        assert app.screen.draft.profile == "city-2-distilled"


async def test_answers_that_cannot_be_used_are_marked_and_nothing_is_written(scene: Scene) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"City 2", "enter")
        await appears(pilot, "480x360 (median)")
        for field, letters, message, right in (
            ("layout", "3", "there is no such layout", "2"),
            ("classes", "sky", "the number of class names differs", "sky,road"),
            ("classes", "sky,sky", "duplicate class name", "sky,road"),
            ("prefix", "a/b", "not a valid prefix", "a"),
        ):
            await typed(pilot, screen, **{field: letters})
            await appears(pilot, message)
            await pilot.press("ctrl+r")
            await appears(pilot, "fix this first", message)
            assert app.focused is screen.query_one(f"#{field}")
            await typed(pilot, screen, **{field: right})
        assert not screen.draft.mistakes
    assert not Path("profiles").exists()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"folder": "nowhere"}, "there is no such folder"),
        ({"folder": "empty"}, "no images with masks are recognised"),
        ({"folder": "City 2", "teacher": "missing"}, "this teacher is neither a file nor a run"),
    ],
)
async def test_what_cannot_be_recognised_is_explained(scene: Scene, texts: dict[str, str], message: str) -> None:
    Path("empty").mkdir()
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press("ctrl+r")
        await appears(pilot, "choose a folder")
        await typed(pilot, screen, **texts)
        await pilot.press("enter")
        await appears(pilot, message)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
    assert not Path("profiles").exists()


async def test_existing_profiles_are_replaced_only_after_a_yes(scene: Scene, folder: Path) -> None:
    Path("profiles").mkdir()
    former = Path("profiles/city-2-distilled.toml")
    former.write_text("former")
    (folder / "broken.png").touch()
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        await opened(pilot)
        await pilot.press(*"City 2", "enter")
        await appears(pilot, "480x360 (median)")
        for answer in "ny":
            assert former.read_text() == "former"
            await pilot.press("ctrl+r")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            assert str(former) in text(app)
            await pilot.press(answer)
            await until(pilot, lambda: isinstance(app.screen, NewProfilesScreen))
        await appears(pilot, "an image cannot be read", "correct the data, then: kdtui train")
        assert former.read_text() != "former"


async def test_a_check_is_cancelled_and_the_written_profiles_are_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_TEST_SLOW_DATA", "1")
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+x")
        await appears(pilot, "nothing is running")
        await pilot.press(*"City 2", "enter")
        await appears(pilot, "480x360 (median)")
        await pilot.press("ctrl+r")
        await appears(pilot, "reading train 1/2 · ^x cancels")
        await pilot.press("ctrl+r")
        await appears(pilot, "reading train 1/2; ^x cancels it")
        await pilot.press("ctrl+x")
        await appears(pilot, "cancelled; written profiles are kept")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
    assert load("city-2-baseline").data.class_names() == ("class 0", "class 5")
