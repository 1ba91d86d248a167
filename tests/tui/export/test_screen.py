"""The Export screen with an engine without torch: the menu by keys, exports, failures, cancelling, leaving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from kdtui.export_options import OPTIONS
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.screens.export import ExportScreen
from kdtui.tui.screens.export.form import Menu, field_of
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.views.export import EXTERNAL_FIELDS
from kdtui.tui.widgets.panel import Panel
from tests import fake_engine
from tests.tui.piloting import child_running
from tests.tui.scenes import Scene, cockpit, lines, recorded, settled, shows, text, until
from tests.waiting import in_time

SMALL, LARGE = (80, 24), (120, 36)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and the scripted engine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_ENGINE", fake_engine.COMMAND)
    return tmp_path


@pytest.fixture
def run(scene: Scene) -> Run:
    """A finished run with a former export."""
    run = scene.finished("b0-alone", best=0.68)
    (run.checkpoints / "best_model.onnx").write_text("former")
    return run


@pytest.fixture
def began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exports take a minute; the file appears once one has begun."""
    monkeypatch.setenv("KDTUI_TEST_SLOW_EXPORT", str(tmp_path / "began"))
    return tmp_path / "began"


async def opened(pilot: Pilot[Any], *ids: str) -> ExportScreen:
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    await settled(pilot)
    app.export_runs(ids)
    await pilot.pause()
    screen = app.screen
    assert isinstance(screen, ExportScreen)
    await until(pilot, lambda: len(screen.sources) == len(ids))
    return screen


def panel(screen: ExportScreen, name: str) -> str:
    return " ".join(screen.query_one(f"#{name}", Panel).text.split())


async def typed(pilot: Pilot[Any], screen: ExportScreen, name: str, letters: str) -> None:
    """Replace the text of a field."""
    screen.query_one(Menu).field(name).enter()
    await pilot.pause()
    await pilot.press("end", "ctrl+u", *letters)
    await until(pilot, lambda: screen.draft.text(name) == letters)


async def test_from_the_list_to_a_verified_file_by_keys(scene: Scene, run: Run) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("e")
        await shows(pilot, "best_model.onnx", "replaced")
        screen = app.screen
        assert isinstance(screen, ExportScreen)
        await pilot.press("right", "right", "space")  # int8 as well
        await shows(pilot, "new      best_model.int8.onnx", "2 files, 1 replacing existing files")
        assert f"$ kdtui export {run.id} --precision fp32 --precision int8" in panel(screen, "twin")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen.jobs and all(job.over for job in screen.jobs) and not screen.busy)
        await shows(pilot, "2 exported and verified")
        reports = panel(screen, "reports")
        assert "mIoU 0.6000 on 7 validation images, torch 0.6000 (+0.00 points)" in reports
        assert str(run.checkpoints / "best_model.int8.onnx") in reports
        assert {path.read_text() for path in run.exports()} == {"onnx"}
        await until(pilot, lambda: "new" not in panel(screen, "there"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_existing_files_are_evaluated_on_the_chosen_split(scene: Scene, run: Run) -> None:
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        await opened(pilot, run.id)
        for letter, split in {"t": "test", "v": "val"}.items():
            await pilot.press("ctrl+e")
            await shows(pilot, "on which split?", "kdtui evaluate FILE --split SPLIT")
            await pilot.press(letter)
            await shows(pilot, f"mIoU on the {split} split: best_model.onnx 0.5000")
        await pilot.press("ctrl+e", "escape")
        assert not run.evaluation("test").exists()  # that of the checkpoint
        (run.checkpoints / "best_model.onnx").unlink()
        await pilot.press("ctrl+e", "t")
        await shows(pilot, "these runs have no exported files")


async def test_existing_files_are_measured(scene: Scene, run: Run, tmp_path: Path) -> None:
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot, run.id)
        await pilot.press("ctrl+l")
        await shows(pilot, "best_model.onnx 1.0 MiB, 10.00 ms an image", "kdtui measure FILE")
        file = tmp_path / "other.onnx"
        await typed(pilot, screen, "file", str(file))
        await pilot.press("ctrl+l")
        await shows(pilot, "no such file or folder")
        file.write_bytes((run.checkpoints / "best_model.onnx").read_bytes())
        await pilot.press("ctrl+l")
        await shows(pilot, "other.onnx 1.0 MiB, 10.00 ms an image")


async def test_every_field_is_reached_by_tab_visible_and_explained(scene: Scene, run: Run) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, run.id)
        await typed(pilot, screen, "file", "x")
        fields = set()
        first = app.focused
        while True:
            widget, field = app.focused, field_of(app.focused)
            assert widget is not None and field is not None
            await until(pilot, lambda: screen.query_one("#form").region.contains_region(widget.region))  # noqa: B023
            fields.add(field.field)
            for line in OPTIONS:
                if line.name == field.field:
                    assert " ".join(line.says.split()) in panel(screen, "about")
                    about = screen.query_one("#about")
                    shown = " ".join(" ".join(lines(app)[about.region.y : about.region.bottom]).split())
                    assert line.allowed in shown  # all of it, at any size
            await pilot.press("tab")
            if app.focused is first:
                break
        assert fields == {"file", "folder", *EXTERNAL_FIELDS, *(line.name for line in OPTIONS)}


async def test_mistakes_are_displayed_at_their_field_and_nothing_starts(scene: Scene, run: Run) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, run.id)
        await typed(pilot, screen, "opset", "99")
        await shows(pilot, "found 99; allowed", "fix first: opset")
        await pilot.press("shift+tab", "ctrl+r")
        await shows(pilot, "fix this first")
        field = field_of(app.focused)
        assert field is not None and field.field == "opset"
        assert not screen.jobs
        await pilot.press("ctrl+y")
        await shows(pilot, "no command yet")
        await typed(pilot, screen, "opset", "17")
        await shows(pilot, f"$ kdtui export {run.id} --opset 17")


async def test_choices_by_mouse_and_keys_dim_fields_without_effect(scene: Scene, run: Run) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, run.id)
        await pilot.press("ctrl+y")
        await shows(pilot, "command:")
        assert f"kdtui export {run.id}" in app.clipboard

        assert "(calibration)" in text(app) and "(limit)" in text(app)
        await pilot.press("space", "right", "right", "space")  # int8 alone
        await until(pilot, lambda: "(calibration)" not in text(app))
        assert "(limit)" not in text(app) and "(batch)" in text(app)
        screen.query_one(Menu).field("batch").enter()
        await shows(pilot, "effect now")

        screen.query_one(Menu).field("precision").enter()
        await until(pilot, lambda: "□fp16" in text(app))
        y, row = next((y, row) for y, row in enumerate(lines(app)) if "□fp16" in row)
        await pilot.click(offset=(row.index("□fp16") + 2, y))
        await until(pilot, lambda: screen.draft.text("precision") == "fp16,int8")
        y, row = next((y, row) for y, row in enumerate(lines(app)) if "○argmax" in row)
        await pilot.click(offset=(row.index("○argmax") + 1, y))
        await until(pilot, lambda: screen.draft.text("output") == "argmax")


async def test_export_of_several_runs_of_which_one_fails(scene: Scene, run: Run) -> None:
    other = scene.stopped("half")  # it has no best checkpoint
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot, other.id, run.id)
        await shows(pilot, "no such checkpoint", "allowed: none yet")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(screen.jobs) == 2 and not screen.busy)
        assert [job.state for job in screen.jobs] == ["failed", "done"]
        assert "this run has no such checkpoint" in panel(screen, "reports")
        assert f"next: kdtui show {other.id}" in panel(screen, "reports")
        assert run.exports()[0].read_text() == "onnx"


async def test_a_refused_export_displays_its_hint_and_keeps_the_existing_file(scene: Scene, run: Run) -> None:
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot, run.id)
        await typed(pilot, screen, "limit", "0")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(screen.jobs) == 1 and not screen.busy)
        await shows(pilot, "1 failed", "found: 2 points lost", "next: a higher limit")
        assert run.exports()[0].read_text() == "former"
        await typed(pilot, screen, "limit", "2")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(screen.jobs) == 2 and not screen.busy)
        reports = panel(screen, "reports")
        assert reports.index("✓") < reports.index("2 points lost")  # both, the last one first


async def test_cancelled_by_its_key(scene: Scene, run: Run, began: Path) -> None:
    (run.checkpoints / f".export-{hostname()}-1-0").mkdir()  # as an engine that was killed leaves it
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, run.id)
        await pilot.press("ctrl+x")
        await shows(pilot, "no export is running")
        await pilot.press("right", "space", "ctrl+r")
        await until(pilot, began.exists)
        await shows(pilot, "1 of 2", "fp32: exporting")
        await pilot.press("ctrl+r")
        await shows(pilot, "one export at a time")
        await pilot.press("ctrl+x")
        await until(pilot, lambda: not screen.busy)
        await shows(pilot, "2 cancelled; existing files are kept")
        assert [path.name for path in run.checkpoints.glob("*onnx*")] == ["best_model.onnx"]
        assert run.exports()[0].read_text() == "former"
        assert not list(run.checkpoints.glob(".export-*"))


async def test_leaving_during_an_export_requires_confirmation(scene: Scene, run: Run, began: Path) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, run.id)
        await pilot.press("ctrl+r")
        await until(pilot, began.exists)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: app.screen is screen)
        assert screen.busy
        await pilot.press("escape", "y")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await shows(pilot, "1 cancelled; existing files are kept")
        assert run.exports()[0].read_text() == "former"


async def test_quitting_stops_the_engine_and_keeps_the_existing_file(scene: Scene, run: Run, began: Path) -> None:
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot, run.id)
        await pilot.press("ctrl+r")
        await until(pilot, began.exists)
        engine = child_running(Path(fake_engine.__file__))
        await pilot.press("ctrl+q")
    in_time(engine.wait)
    assert run.exports()[0].read_text() == "former"


async def test_export_of_a_checkpoint_file(scene: Scene, here: Path) -> None:
    (here / "t.pth").write_text("x")
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await shows(pilot, "fix first: file")
        assert "classes" not in text(app)
        await pilot.press(*"./t")
        await shows(pilot, "./t.pth")
        await pilot.press("right")  # takes what completes the path
        await until(pilot, lambda: screen.draft.text("file") == "./t.pth")
        await pilot.press("end", "ctrl+u", *"t.pth")
        await shows(pilot, "classes", "architecture", "(checkpoint)")
        await until(pilot, lambda: "new t.onnx" in panel(screen, "there"))
        await typed(pilot, screen, "classes", "a,b")
        await typed(pilot, screen, "task", "semantic")
        assert "$ kdtui export t.pth --classes a,b --task semantic" in panel(screen, "twin")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen.jobs and not screen.busy)
        report = screen.jobs[0].report
        assert report is not None and (here / "t.onnx").read_text() == "onnx"
        assert report["asked"]["--classes"] == '["a", "b"]'
        assert "no validation data" in panel(screen, "reports")


async def test_from_one_run_and_from_compare(scene: Scene, run: Run) -> None:
    other = scene.finished("other")
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        app.open_run(run.id)
        await pilot.pause()
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportScreen) and app.screen.draft.runs == (run.id,))
        await pilot.press("escape")
        app.compare([run.id, other.id])
        await pilot.pause()
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, ExportScreen) and len(app.screen.draft.runs) == 1)


async def test_foreign_texts_are_displayed_literally(scene: Scene) -> None:
    run = scene.finished("odd", shown_as="[bold red]\x1b[31modd[/]")
    file = run.checkpoints / "best_[b]\x1b[2Jmodel.onnx"
    file.write_text("x")
    file.with_name(file.name + ".json").write_text(json.dumps({"precision": 7, "made": "x", "verified": [1]}))
    app = cockpit(scene)
    async with app.run_test(size=LARGE) as pilot:
        await opened(pilot, run.id)
        await shows(pilot, "[bold red][31modd[/]", "best_[b][2Jmodel.onnx")
        assert "\x1b" not in text(app)


async def test_an_unchanged_export_screen_writes_nothing(scene: Scene, run: Run, began: Path) -> None:
    app = recorded(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, run.id)

        async def quiet() -> int:
            """What is written while the watch looks ten times."""
            await pilot.pause(0.3)
            before = len(app.written)
            await pilot.pause(0.5)
            return len(app.written) - before

        assert await quiet() == 0
        await pilot.press("ctrl+r")
        await until(pilot, began.exists)
        await shows(pilot, "exporting")
        assert await quiet() == 0
        assert screen.busy
        await pilot.press("ctrl+x")
        await until(pilot, lambda: not screen.busy)


async def test_without_colours_and_in_both_themes(scene: Scene, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = cockpit(scene)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, run.id)
        await shows(pilot, "■fp32 □fp16", "●logits", "(calibration)")
        await pilot.press("ctrl+t", "ctrl+r")
        await until(pilot, lambda: screen.jobs and not screen.busy)
        await shows(pilot, "✓ b0-alone fp32")
        assert not app.current_theme.dark
