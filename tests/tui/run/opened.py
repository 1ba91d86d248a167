"""One run's screen in front of a cockpit that writes down what it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from textual.pilot import Pilot

import kdtui.tui
from kdtui.store.run import Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.run import RunScreen
from tests.tui.scenes import Engine, Scene, Still, until

SMALL, LARGE = (80, 24), (120, 36)
App = Pilot[Any]


class Scribe(KdtuiApp):
    """Records the calls of screens instead of acting on processes."""

    CSS_PATH = str(Path(kdtui.tui.__file__).with_name("kdtui.tcss"))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[tuple[Any, ...]] = []

    def stop_runs(self, ids: Any, *, kill: bool = False) -> None:
        self.asked.append(("stop", *ids, kill))

    def resume_run(self, run_id: str, total_epochs: int | None = None, sets: Sequence[str] = ()) -> None:
        self.asked.append(("resume", run_id, total_epochs))

    def compare(self, ids: Any) -> None:
        self.asked.append(("compare", *ids))

    def new_run(self, clone: str | None = None, *, profile: str = "") -> None:
        self.asked.append(("new", clone))

    def copy_text(self, text: str, what: str) -> None:
        self.asked.append(("copy", text))


@asynccontextmanager
async def opened(scene: Scene, run: Run | str, size: tuple[int, int] = SMALL) -> AsyncIterator[App]:
    """The cockpit with the run's screen in front, its row known."""
    app = Scribe(scene.store, ask=Engine(), seconds=0.05, machine=Still("CPU 42%"), clock=lambda: "14:02")
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.board.whole)
        run_id = run if isinstance(run, str) else run.id
        app.open_run(run_id)
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        yield pilot


def asked(pilot: App) -> list[tuple[Any, ...]]:
    return cast(Scribe, pilot.app).asked
