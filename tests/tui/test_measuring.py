from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from kdtui.errors import EngineError, Interrupted
from kdtui.launch.engine_process import EngineStep
from kdtui.store.run import Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.compare import CompareScreen
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.screens.run import RunScreen
from tests.tui.home import go_to, write
from tests.tui.scenes import Scene, cockpit, lines, shows, text, until
from tests.waiting import eventually


class Measure:
    """Measures when it is told to, as :func:`kdtui.launch.measure.measure` does: in the thread that calls it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.asked: list[list[str]] = []
        self.steps: list[EngineStep] = []
        self.may_end = threading.Event()
        self.error: Exception | None = None
        self.ended = 0

    def __call__(
        self,
        root: Path,
        runs: Sequence[Run],
        how: object,
        *,
        on_step: Callable[[EngineStep], None],
        cancelled: Callable[[], bool],
    ) -> dict[str, Any]:
        assert root == self.scene.store.root
        self.asked.append([run.id for run in runs])
        try:
            for step in self.steps:
                on_step(step)
            while not self.may_end.wait(0.01):
                if cancelled():
                    raise Interrupted("cancelled")
            if self.error is not None:
                raise self.error
            return {run.id: self.scene.measured(run) for run in runs}
        finally:
            self.ended += 1


class Open:
    """The cockpit over a student, its teacher and a run that trains."""

    def __init__(self, app: KdtuiApp, pilot: Pilot[Any], measure: Measure, runs: list[Run]) -> None:
        self.app, self.pilot, self.measure, self.runs = app, pilot, measure, runs

    async def press(self, key: str) -> None:
        await self.pilot.press(key)
        await self.pilot.pause()


@asynccontextmanager
async def opened(scene: Scene, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Open]:
    teacher = scene.finished("b3", encoder="timm-efficientnet-b3", best=0.76)
    waits = scene.queued("b0-waits", teacher=teacher)
    runs = [teacher, scene.finished("b0", teacher=teacher), waits]  # the newest has the cursor
    measure = Measure(scene)
    app = cockpit(scene, measure=measure)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.board.whole)
        yield Open(app, pilot, measure, runs)
        measure.may_end.set()


async def test_measuring_a_hidden_marked_run_requires_confirmation(scene: Scene) -> None:
    async with opened(scene) as on:
        hidden, seen = on.runs[0], on.runs[1]
        for run in (hidden, seen):
            await go_to(on.pilot, run.id)
            await on.press("space")
        await on.press("slash")
        await write(on.pilot, "name:b0")
        await on.press("enter")
        await on.press("L")
        await shows(on.pilot, "Measure 2 runs?", "Hidden by the filter: b3", "kdtui measure")
        await on.press("n")
        assert on.measure.asked == []
        await on.press("L")
        await on.press("y")
        await until(on.pilot, lambda: on.measure.asked)
        assert sorted(on.measure.asked[0]) == sorted([hidden.id, seen.id])


async def test_the_key_measures_the_run_and_its_screen_shows_it(scene: Scene) -> None:
    async with opened(scene) as on:
        on.measure.steps = [EngineStep("waiting for the cpu"), EngineStep("timing", 3, 30)]
        on.app.open_run(on.runs[1].id)
        await until(on.pilot, lambda: isinstance(on.app.screen, RunScreen))
        await on.press("2")
        await shows(on.pilot, "latency is not measured: press L")
        await on.press("L")
        await shows(on.pilot, "b0: timing 3/30 · L cancels", f"kdtui measure {on.runs[1].id}")
        on.measure.may_end.set()
        await shows(on.pilot, "b0: measured", "latency of 1 image", "80.0      50.0  1.60x")
        assert on.measure.asked == [[on.runs[1].id]] and not on.app.measuring.ids


async def test_waiting_for_the_device_is_displayed_on_every_screen(scene: Scene) -> None:
    async with opened(scene) as on:
        on.measure.steps = [EngineStep("waiting for the cpu")]
        await on.press("L")
        await shows(on.pilot, "waiting for the cpu · L cancels")
        on.app.say("copied")
        await shows(on.pilot, "copied")
        on.app.say("")  # what it says once a sentence has stood there for a while
        await shows(on.pilot, "waiting for the cpu")
        on.app.open_run(on.runs[1].id)
        await until(on.pilot, lambda: isinstance(on.app.screen, RunScreen))
        await shows(on.pilot, "waiting for the cpu")


async def test_a_running_measurement_is_in_the_header_of_every_screen(scene: Scene) -> None:
    async with opened(scene, (130, 30)) as on:
        on.app.compare([run.id for run in on.runs])
        await until(on.pilot, lambda: isinstance(on.app.screen, CompareScreen) and on.app.screen.comparison)
        await on.press("L")
        await on.press("y")
        await until(on.pilot, lambda: "measuring 2 runs" in lines(on.app)[0])
        await on.press("escape")
        await until(on.pilot, lambda: len(on.app.screen_stack) == 1)
        assert "measuring 2 runs" in lines(on.app)[0]
        on.measure.may_end.set()
        await until(on.pilot, lambda: "measuring" not in lines(on.app)[0])


async def test_the_same_key_cancels_after_confirmation(scene: Scene) -> None:
    async with opened(scene) as on:
        await on.press("L")
        await until(on.pilot, lambda: on.measure.asked)
        await on.press("L")
        assert isinstance(on.app.screen, Confirm)
        await on.press("n")
        assert on.app.measuring.ids
        await on.press("L")
        await on.press("y")
        await shows(on.pilot, "cancelled; nothing was measured")
        assert on.measure.ended == 1 and not on.app.measuring.ids and len(on.measure.asked) == 1


async def test_marked_runs_are_measured_together(scene: Scene) -> None:
    async with opened(scene) as on:
        on.measure.may_end.set()
        for run in on.runs[:2]:
            on.app.screen.query_one("#runs").move_to(run.id)  # type: ignore[attr-defined]
            await on.press("space")
        await on.press("L")
        await shows(on.pilot, "Measure 2 runs?", "b3, b0", "kdtui measure")
        assert on.measure.asked == []
        await on.press("y")
        await shows(on.pilot, "2 runs: measured")
        assert [set(ids) for ids in on.measure.asked] == [{run.id for run in on.runs[:2]}]


@pytest.mark.parametrize("error", [EngineError("no such processor", hint="another one"), OSError(28, "disk full")])
async def test_a_failure_is_reported_and_the_key_measures_again(scene: Scene, error: Exception) -> None:
    async with opened(scene) as on:
        on.measure.error = error
        on.measure.may_end.set()
        await on.press("L")
        await shows(on.pilot, "no such processor · next: another one" if "processor" in str(error) else "disk full")
        on.measure.error = None
        await on.press("L")
        await shows(on.pilot, ": measured")
        assert len(on.measure.asked) == 2


async def test_a_comparison_measures_all_runs_with_a_checkpoint(scene: Scene) -> None:
    async with opened(scene, (130, 30)) as on:
        on.app.compare([run.id for run in on.runs])
        await until(on.pilot, lambda: isinstance(on.app.screen, CompareScreen) and on.app.screen.comparison)
        assert "latency" not in text(on.app)
        on.measure.may_end.set()
        await on.press("L")
        await shows(on.pilot, "Measure 2 runs?")
        await on.press("y")
        await shows(on.pilot, "2 runs: measured", "latency", "50.00 ms", "80.00 ms", "1.60x")
        assert [set(ids) for ids in on.measure.asked] == [{run.id for run in on.runs[:2]}]


async def test_nothing_to_measure_is_reported(scene: Scene) -> None:
    async with opened(scene) as on:
        waiting = [on.runs[2], scene.queued("b0-waits-too")]
        on.app.compare([run.id for run in waiting])
        await until(on.pilot, lambda: isinstance(on.app.screen, CompareScreen))
        await on.press("L")
        await shows(on.pilot, "no run to measure")
        assert on.measure.asked == []


async def test_quitting_cancels_the_measurement(scene: Scene) -> None:
    teacher = scene.finished("b3")
    measure = Measure(scene)
    app = cockpit(scene, measure=measure)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.board.whole)
        await pilot.press("L")
        await until(pilot, lambda: measure.asked)
        await pilot.press("q")
    eventually(lambda: measure.ended, "the measurement is given up")
    assert measure.ended == 1 and not teacher.measurements_path.exists()
