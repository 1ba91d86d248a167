"""The user's last choices are there at the next start; a file that cannot be used or written costs nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.tui.preferences import MOST, Preferences, load, preferences_path, save
from tests.tui.scenes import Scene, cockpit, settled, shows, until


async def test_theme_and_sort_order_are_restored(crowd: Scene, tmp_path: Path) -> None:
    path = tmp_path / "config" / "kdtui" / "cockpit.toml"
    app = cockpit(crowd, preferences=path)
    async with app.run_test() as pilot:
        await settled(pilot)
        await pilot.press("ctrl+t", "s", "S")
        await until(pilot, lambda: load(path)[0] == Preferences("light", "run", descending=True))

    again = cockpit(crowd, preferences=path)
    async with again.run_test() as pilot:
        await settled(pilot)
        await shows(pilot, "run▼")
        assert not again.current_theme.dark
    assert [file.name for file in path.parent.iterdir()] == ["cockpit.toml"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"theme = ", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        (b"x" * (MOST + 1), "larger than 64 KiB"),
        (b"theme = 'pink'\nsort = 'loss'", "theme ignored"),
        (b"descending = 1\nsort = []\ntheme = {}", "theme, sort, descending ignored"),
        (b"[" * 20000, "not valid TOML"),
    ],
)
def test_a_damaged_file_is_reported_once_and_ignored(body: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "cockpit.toml"
    path.write_bytes(body)

    preferences, trouble = load(path)

    assert complaint in trouble
    assert preferences == (Preferences(sort="loss") if b"'loss'" in body else Preferences())


def test_a_pipe_instead_of_the_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cockpit.toml")

    assert load(tmp_path / "cockpit.toml") == (
        Preferences(),
        f"{tmp_path / 'cockpit.toml'} is ignored: it is a pipe, not a file",
    )


@given(st.sampled_from(["dark", "light"]), st.sampled_from(["", "run", "loss"]), st.booleans())
def test_saved_preferences_are_loaded_again(theme: str, sort: str, descending: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kdtui" / "cockpit.toml"
        save(path, Preferences(theme, sort, descending))
        assert load(path) == (Preferences(theme, sort, descending), "")


async def test_damaged_and_read_only_preferences_do_not_stop_the_app(crowd: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "kdtui" / "cockpit.toml"
    app = cockpit(crowd, preferences=path)
    async with app.run_test(size=(120, 24)) as pilot:
        await until(pilot, lambda: "is ignored: Not a directory" in app.said[0])
        await pilot.press("ctrl+t")
        await until(pilot, lambda: "The preferences cannot be saved" in app.said[0])
        assert not app.current_theme.dark


def test_the_file_is_where_the_specification_says(tmp_path: Path) -> None:
    assert preferences_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "kdtui" / "cockpit.toml"
    home = Path("~/.config/kdtui/cockpit.toml").expanduser()
    assert preferences_path({"XDG_CONFIG_HOME": "relative"}) == preferences_path({}) == home
