"""Whole screens: as plain text, as pictures, and those of the documents."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual.pilot import Pilot

from kdtui.tui.app import KdtuiApp
from tests.docs import PAGES
from tests.tui.home import go_to, screen, write
from tests.tui.readme_pictures import DOCS, PICTURES, draw, lab, one_run, side_by_side, the_form
from tests.tui.scenes import Scene, cockpit, lines, redrawn, settled, shows

Compare = Callable[..., bool]


class Plain(SingleFileSnapshotExtension):
    """A file of text for each screen."""

    _file_extension = "txt"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def plain(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Plain)


async def marked(pilot: Pilot[Any]) -> None:
    """Two live runs and their teacher share the chart."""
    await settled(pilot)
    for name in ("b0-t4", "b0-t2", "b3-teacher"):
        await go_to(pilot, next(key for key in screen(pilot).table.keys if key.endswith(name)))
        await pilot.press("space")
    await pilot.press("home")
    await settled(pilot)
    await shows(pilot, "val mIoU 3 runs", "A b0-t4", "B b0-t2", "C b3-teacher")
    await redrawn(pilot)


async def one(pilot: Pilot[Any]) -> None:
    """A run that failed is under the cursor."""
    await settled(pilot)
    await pilot.press("slash")
    await write(pilot, "name:b0")
    await pilot.press("enter")
    hot = next(key for key in screen(pilot).table.keys if key.endswith("b0-hot"))
    await go_to(pilot, hot)
    await settled(pilot)
    await shows(pilot, "● b0-hot", "failed: the loss is no longer a number")
    await redrawn(pilot)


@pytest.mark.parametrize(("size", "steps"), [((80, 24), one), ((120, 36), marked)], ids=["80x24", "120x36"])
async def test_the_list_as_text_with_colour_and_without(
    crowd: Scene,
    plain: SnapshotAssertion,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    steps: Callable[[Pilot[Any]], Awaitable[None]],
) -> None:
    dumps = []
    for no_colour in (False, True):
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        app = cockpit(crowd)
        async with app.run_test(size=size) as pilot:
            await steps(pilot)
            dumps.append("\n".join(lines(app)))
    assert dumps[0] == plain
    assert dumps[1] == dumps[0]


def test_the_list(crowd: Scene, snap_compare: Compare) -> None:
    assert snap_compare(cockpit(crowd), terminal_size=(80, 24), run_before=one)


def test_the_list_in_a_large_terminal(crowd: Scene, snap_compare: Compare) -> None:
    assert snap_compare(cockpit(crowd), terminal_size=(120, 36), run_before=marked)


def test_the_list_in_the_light_theme(crowd: Scene, snap_compare: Compare) -> None:
    async def light(pilot: Pilot[Any]) -> None:
        await one(pilot)
        await pilot.press("ctrl+t")
        await redrawn(pilot)

    assert snap_compare(cockpit(crowd), terminal_size=(80, 24), run_before=light)


def test_a_filter_that_cannot_be_read(crowd: Scene, snap_compare: Compare) -> None:
    async def typing(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press("slash", *"state:runing")
        await shows(pilot, "did you mean running?")
        await redrawn(pilot)

    assert snap_compare(cockpit(crowd), terminal_size=(80, 24), run_before=typing)


def test_a_confirmation(crowd: Scene, snap_compare: Compare) -> None:
    async def ask(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press("down", "X")
        await shows(pilot, "Kill b0-t16?")
        await redrawn(pilot)

    assert snap_compare(cockpit(crowd), terminal_size=(80, 24), run_before=ask)


def test_an_empty_store(scene: Scene, snap_compare: Compare) -> None:
    async def wait(pilot: Pilot[Any]) -> None:
        await shows(pilot, "no runs yet")

    app = cockpit(scene)
    app.store.root = Path("/home/me/people/runs")  # shown alone: what looks at the store has a view of its own
    assert snap_compare(app, terminal_size=(80, 24), run_before=wait)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cockpit-runs", "b0-from-b3-t16"),
        # Their steps are those of test_the_other_screens.
        pytest.param("cockpit-run", "teacher", marks=pytest.mark.slow),
        pytest.param("cockpit-new", "DISTILLATION", marks=pytest.mark.slow),
        pytest.param("cockpit-compare", "baseline", marks=pytest.mark.slow),
        pytest.param("cockpit-sweeps", "best:", marks=pytest.mark.slow),
        pytest.param("cockpit-searches", "★", marks=pytest.mark.slow),
    ],
)
async def test_the_pictures_of_the_documents_can_be_made(
    name: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    drawn = await draw(name, tmp_path)
    said = "".join(ElementTree.fromstring(drawn).itertext())
    assert shown in said and "kdtui" in said
    assert str(tmp_path) not in said


def test_the_documents_show_the_pictures_that_are_made() -> None:
    shown = {
        name
        for page in PAGES
        for name in re.findall(r"\]\((?:docs/)?([\w-]+)\.svg\)", page.read_text(encoding="utf-8"))
    }
    assert shown == set(PICTURES)
    for name in shown:
        assert (DOCS / f"{name}.svg").stat().st_size < 250_000


def _app(pilot: Pilot[Any]) -> KdtuiApp:
    assert isinstance(pilot.app, KdtuiApp)
    return pilot.app


async def _settle(pilot: Pilot[Any], *shown: str) -> None:
    await settled(pilot)
    await shows(pilot, *shown)
    await pilot.pause(0.3)  # what threads of the screen still read
    await redrawn(pilot)


async def numbers(pilot: Pilot[Any]) -> None:
    """Page 2 of a run that lives."""
    await settled(pilot)
    await one_run(pilot, _app(pilot))
    await pilot.press("2")
    await _settle(pilot, "Compression", "Schedule", "ratio")


async def form(pilot: Pilot[Any]) -> None:
    """A form like a run that was there."""
    await settled(pilot)
    await the_form(pilot, _app(pilot))
    await _settle(pilot, "TEACHER", "DISTILLATION")


async def compared(pilot: Pilot[Any]) -> None:
    """Runs side by side."""
    await settled(pilot)
    await side_by_side(pilot, _app(pilot))
    await _settle(pilot, "baseline", "★")


async def front(pilot: Pilot[Any]) -> None:
    """What nothing else beats, by parameters."""
    await settled(pilot)
    await side_by_side(pilot, _app(pilot))
    await pilot.press("5", "p")
    await _settle(pilot, "by parameters")


async def menu(pilot: Pilot[Any]) -> None:
    """The export of one run."""
    await settled(pilot)
    app = _app(pilot)
    app.export_runs([next(key for key in app.board.order if key.endswith("b0-alone"))])
    await _settle(pilot, "b0-alone", "precision")


@pytest.mark.parametrize(
    ("steps", "size"),
    [(numbers, (80, 24)), (form, (120, 36)), (compared, (120, 36)), (front, (80, 24)), (menu, (80, 24))],
)
def test_the_other_screens(
    tmp_path: Path,
    snap_compare: Compare,
    monkeypatch: pytest.MonkeyPatch,
    steps: Callable[[Pilot[Any]], Awaitable[None]],
    size: tuple[int, int],
) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    app = cockpit(lab(tmp_path))
    monkeypatch.chdir(tmp_path / "people")
    assert snap_compare(app, terminal_size=size, run_before=steps)
