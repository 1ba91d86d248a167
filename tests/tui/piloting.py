"""The cockpit over a store, with nothing of this machine in it, and waiting for what it shows."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from textual._wait import wait_for_idle
from textual.app import App
from textual.driver import Driver
from textual.drivers.headless_driver import HeadlessDriver
from textual.message import Message
from textual.pilot import Pilot
from textual.strip import Strip

from kdtui.store.store import RunStore
from kdtui.tui.app import KdtuiApp
from kdtui.tui.watch import MachineRead
from kdtui.tui.widgets.chart.line_chart import LineChart
from tests.fake_engine import Engine
from tests.waiting import Deadline

if TYPE_CHECKING:
    from tests.tui.scenes import Scene


class Still:
    """A machine that is always as busy."""

    period = 3600.0

    def __init__(self, *words: str) -> None:
        self.words = words

    def poll(self) -> Iterable[Message]:
        yield MachineRead(self.words)


class _Recorder(HeadlessDriver):
    """A driver without a terminal that gets all that a terminal would."""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        assert isinstance(self._app, Recorded)
        self._app.written.append(data)


class Recorded(KdtuiApp):
    """The app, with what it writes to the terminal in ``written``."""

    CSS_PATH = str(Path(inspect.getfile(KdtuiApp)).with_name("kdtui.tcss"))

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.written: list[str] = []

    def _build_driver(self, headless: bool, inline: bool, mouse: bool, size: tuple[int, int] | None) -> Driver:
        return _Recorder(self, debug=False, mouse=mouse, size=size)


def cockpit(scene: Scene | RunStore, **options: Any) -> KdtuiApp:
    """The app, looking often, with a machine and a clock that stand still.

    Args:
        scene: Whose runs it shows.
        options: Of :class:`KdtuiApp`; without ``ask`` the engine's door knows no verb.
    """
    return KdtuiApp(scene if isinstance(scene, RunStore) else scene.store, **_given(options))


def recorded(scene: Scene, **options: Any) -> Recorded:
    """The same, with what it writes to the terminal."""
    return Recorded(scene.store, **_given(options))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    still = {"machine": Still("CPU 42%", "mem 6.1/16G"), "clock": lambda: "14:02"}
    return {"ask": Engine(), "seconds": 0.1, **still, **options}


def strips(app: App[Any]) -> list[Strip]:
    """The screen in front, one entry a row, with its styles."""
    return app.screen._compositor.render_strips()


def lines(app: App[Any]) -> list[str]:
    """The screen in front as text, one entry a row, without the blanks at the ends."""
    return [strip.text.rstrip() for strip in strips(app)]


def text(app: App[Any]) -> str:
    """The screen in front as one text."""
    return "\n".join(lines(app))


async def until(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: It never does; the screen is told.
    """
    deadline = Deadline()
    pause = 0.01  # seconds; longer and longer, since most conditions draw the whole screen
    while not condition():
        assert not deadline.passed, f"never so\n{text(pilot.app)}"
        await asyncio.sleep(pause)
        pause = min(1.5 * pause, 0.05)
    await pilot.pause()


async def idle(min_sleep: float = 1 / 50, max_sleep: float = 1) -> None:
    """Textual's own wait, and then until no task is ready and no timer is due.

    Textual compares processor time with the clock, so it takes a process that gets no processor time on a busy machine
    for one that has nothing to do.
    """
    await wait_for_idle(min_sleep, max_sleep)
    await nothing_ready()


async def nothing_ready(*_: object) -> bool:
    """Wait until no task is ready and no timer is due: every message has been handled.

    Textual's own wait for a screen sends a message to every widget and waits for each answer, which costs more than
    most of what tests do between two waits.
    """
    loop = asyncio.get_running_loop()
    deadline = Deadline()
    while not deadline.passed:
        await asyncio.sleep(0)
        timers = loop._scheduled  # type: ignore[attr-defined]
        if not loop._ready and not (timers and timers[0]._when <= loop.time()):  # type: ignore[attr-defined]
            break
    return True


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until every run was seen, and the history of those that are looked at."""
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    await until(pilot, lambda: app.board.whole and all(key in app.board.histories for key in app.watcher.followed))


async def redrawn(pilot: Pilot[Any]) -> None:
    """Have everything drawn anew: a picture does not tell in which order its parts came."""
    for widget in pilot.app.screen.walk_children():
        if isinstance(widget, LineChart):
            widget.redraw()
        widget.refresh()
    await pilot.pause()


async def shows(pilot: Pilot[Any], *texts: str) -> None:
    """Wait until the screen shows all these texts."""
    await until(pilot, lambda: all(sought in text(pilot.app) for sought in texts))


def child_running(program: Path) -> psutil.Process:
    """This process's child that runs a program.

    Raises:
        AssertionError: None does.
    """
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess):  # an earlier test's, which was not waited for
            if str(program) in child.cmdline():
                return child
    raise AssertionError(f"nothing runs {program}")
