"""What the Export screen shows for a file that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Paste

from kdtui.tui.screens.export.form import Menu
from tests.tui.export.test_screen import LARGE, opened, panel
from tests.tui.scenes import Scene, cockpit, shows

TOO_LONG = "z" * 300


async def test_an_unreadable_file_has_an_error_and_no_checkpoints_of_other_runs(scene: Scene) -> None:
    run = scene.finished("b0-alone", best=0.68)
    (run.checkpoints / "best_model.onnx").write_text("former")
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot, run.id)
        await shows(pilot, "best_model.onnx")
        screen.query_one(Menu).field("file").enter()
        await pilot.pause()
        app.post_message(Paste(TOO_LONG))
        await shows(pilot, "File name too long")
        assert screen.sources[0].trouble == "File name too long"
        assert (screen.sources[0].checkpoints, screen.sources[0].files) == ((), ())
        assert "best_model.onnx" not in panel(screen, "there")


async def test_class_names_are_checked_while_typing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.pth").write_text("x")
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"theirs.pth")
        await shows(pilot, "classes")
        screen.query_one(Menu).field("classes").enter()
        await pilot.press(*"a,b,a")
        await shows(pilot, "duplicate class name: 'a'")
        assert screen.read.options is None
        await pilot.press("backspace", *"c")
        await shows(pilot, "--classes a,b,c")
