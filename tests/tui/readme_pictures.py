"""The README's pictures of the cockpit, drawn from scenes: ``python -m tests.tui.readme_pictures`` writes them anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from kdtui.events import Finished, Queued
from kdtui.sweep.folder import BASELINE, STUDENT, create
from kdtui.sweep.search.budget import Budget
from kdtui.sweep.search.results import record_candidates
from kdtui.sweep.search.screening import Screened, judged
from kdtui.sweep.search.spec import from_tables
from kdtui.sweep.spec import Axis, Spec
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.compare import CompareScreen
from kdtui.tui.screens.new_run import NewRunScreen
from kdtui.tui.screens.new_search import NewSearchScreen
from kdtui.tui.screens.searches import SearchesScreen
from kdtui.tui.screens.sweeps import SweepsScreen
from tests.compare.counted import scored, written
from tests.sweep.search.searching import made, trained
from tests.tui.scenes import FIRST, PARAMETERS, Scene, cockpit, redrawn, settled, shows, until
from tests.tui.test_searches import says

DOCS = Path(__file__).resolve().parents[2] / "docs"
SWEEP = "b0-from-b3-5eeb1a2c"
Steps = Callable[[Pilot[Any], KdtuiApp], Awaitable[None]]


def lab(folder: Path) -> Scene:
    """A store as it looks in the middle of a day's work."""
    scene = Scene(folder)
    teacher = scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.7591, tags=("teacher",))
    for seed, (alone, distilled) in enumerate(((0.673, 0.701), (0.681, 0.709), (0.676, 0.697))):
        for run in (
            scene.finished("b0-alone", seed=seed, best=alone, tags=("baseline",)),
            scene.finished("b0-from-b3", teacher=teacher, seed=seed, best=distilled),
        ):
            miou = scene.store.summary(run).best_miou
            assert miou is not None
            written(scored(miou, seed, classes=("background", "target", "other")), run)
    scene.stopped("r18-from-b3", teacher=teacher, encoder="resnet18")
    scene.failed("b0-from-b3-hot", "the loss is no longer a number", hint="a lower learning rate", teacher=teacher)
    scene.lost("b0-overnight", teacher=teacher)
    scene.running("b0-from-b3-t2", epochs=44, teacher=teacher, temperature=2.0, best=0.71)
    scene.running("b0-from-b3-t8", epochs=31, teacher=teacher, temperature=8.0, best=0.68)
    scene.queued("b0-from-b3-t16", teacher=teacher, temperature=16.0)
    for run in scene.store.runs():
        if run.best.exists():  # as large as it would be, and empty
            os.truncate(run.best, 4 * PARAMETERS[run.profile_table()["student"]["encoder"]])
            os.utime(run.best, (FIRST, FIRST))
    return scene


def swept(folder: Path) -> Scene:
    """The same store with a sweep, whose last runs are being trained."""
    scene = lab(folder)
    teacher = next(run for run in scene.store.runs() if run.id.endswith("b3-teacher"))
    student = next(run for run in scene.store.runs() if run.id.endswith("b0-from-b3"))
    values = {"distillation.temperature": (1.0, 2.0, 4.0, 8.0), "distillation.alpha": (0.3, 0.5, 0.7)}
    axes = tuple(Axis(key, each, tuple((f"{key}={value}",) for value in each)) for key, each in values.items())
    spec = Spec(student.profile(), axes, (0,))
    create(scene.store.root, SWEEP, spec.to_tables())
    for number, cell in enumerate(spec.cells()):
        t, alpha = cell.values.values()
        words = {"teacher": teacher, "temperature": t, "alpha": alpha}
        if number < 9:
            miou = 0.69 - 0.006 * abs(t - 3) - 0.05 * (alpha - 0.55) ** 2 + 0.0011 * (number % 3)
            run = scene.finished(cell.profile.name, best=miou, **words)
            best = scene.store.summary(run).best_miou
            assert best is not None
            written(scored(best, number, classes=("background", "target", "other")), run)
        elif number < 11:
            run = scene.running(cell.profile.name, epochs=20 + number, best=0.66, **words)
        else:
            run = scene.queued(cell.profile.name, **words)
        entry = {"id": SWEEP, "cell": dict(cell.values), "seed": 0, "role": "student"}
        manifest = json.loads(run.manifest_path.read_text(encoding="utf-8"))
        run.manifest_path.write_text(json.dumps({**manifest, "sweep": entry}), encoding="utf-8")
    return scene


def searched(folder: Path) -> Scene:
    """A store with a search whose winner and its baseline are trained."""
    scene = Scene(folder)
    search = made(scene.store, budget=Budget(0.016), retention=0.9, trials=5)
    spec = from_tables(search)
    costs = {
        0: (3_590_000, 0.0134), 1: (1_960_000, 0.0078), 2: (1_370_000, 0.0058), 3: (1_130_000, 0.0049),
        4: (14_330_000, 0.0291), 5: (12_460_000, 0.0203), 6: (11_740_000, 0.0155), 7: (11_440_000, 0.0129),
    }  # fmt: skip
    found = [
        judged(spec, Screened(one, parameters, None, 4 * parameters, latency, latency, latency))
        for one, (parameters, latency) in zip(spec.candidates(), costs.values(), strict=True)
    ]
    record_candidates(search, found, 5)
    trained(scene.store, search, 0, STUDENT, 0.741)
    trained(scene.store, search, 0, BASELINE, 0.722)
    for place, miou in {1: 0.702, 2: 0.655, 6: 0.688, 7: 0.671}.items():
        trained(scene.store, search, place, STUDENT, miou, pruned=True)
    says(search, Queued(1), Finished(0, 0, reason=f"the student is {spec.candidates()[0].key}"))
    return scene


async def the_list(pilot: Pilot[Any], app: KdtuiApp) -> None:
    """The list with two marked runs that live."""
    await pilot.press("down", "down", "space", "up", "space")


async def one_run(pilot: Pilot[Any], app: KdtuiApp) -> None:
    """One run that lives."""
    await pilot.press("down", "down", "enter")
    await until(pilot, lambda: len(app.screen_stack) == 2)


async def the_form(pilot: Pilot[Any], app: KdtuiApp) -> None:
    """The form, filled like a run that was there."""
    finished = next(run_id for run_id in app.board.order if run_id.endswith("b0-from-b3"))
    app.new_run(clone=finished)
    await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.screen.read_draft is not None)


async def side_by_side(pilot: Pilot[Any], app: KdtuiApp) -> None:
    """Students, their baseline and their teacher."""
    wanted = ("b3-teacher", "b0-alone", "b0-from-b3")
    app.compare([run_id for run_id in reversed(app.board.order) if app.board.rows[run_id].name in wanted])
    await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.comparison is not None)


async def the_sweeps(pilot: Pilot[Any], app: KdtuiApp) -> None:
    """A sweep whose last runs are being trained."""
    await pilot.press("W")
    await until(pilot, lambda: isinstance(app.screen, SweepsScreen) and app.screen.grid is not None)
    await shows(pilot, "best:")
    await pilot.press("enter", "down", "right")


async def the_searches(pilot: Pilot[Any], app: KdtuiApp) -> None:
    """A finished search with its front."""
    await pilot.press("B")
    await until(pilot, lambda: isinstance(app.screen, SearchesScreen))
    await shows(pilot, "ms ┊ budget", "0.7410")
    await pilot.press("enter", "down")


async def the_search_form(pilot: Pilot[Any], app: KdtuiApp) -> None:
    """A search that is set up."""
    app.new_search(next(run_id for run_id in app.board.order if run_id.endswith("b3-teacher")))
    await until(pilot, lambda: isinstance(app.screen, NewSearchScreen))
    screen = app.screen
    assert isinstance(screen, NewSearchScreen)
    texts = {"latency": "16ms", "parameters": "12M", "retention": "95%", "trials": "6", "architectures": "Unet"}
    encoders = "tu-mobilenetv3_small_100,mobilenet_v2,resnet18"
    screen.edit(screen.draft.edited(**texts, encoders=encoders))
    screen.refill()
    await until(pilot, lambda: screen.draft == screen.read_draft)


PICTURES: dict[str, tuple[tuple[int, int], Steps]] = {
    "cockpit-runs": ((100, 30), the_list),
    "cockpit-run": ((120, 36), one_run),
    "cockpit-new": ((120, 36), the_form),
    "cockpit-compare": ((120, 36), side_by_side),
    "cockpit-sweeps": ((100, 26), the_sweeps),
    "cockpit-searches": ((100, 28), the_searches),
    "cockpit-new-search": ((120, 44), the_search_form),
}
STORES: dict[str, Callable[[Path], Scene]] = {"cockpit-sweeps": swept, "cockpit-searches": searched}
"""The store of a picture, unless it is the usual one."""


async def draw(name: str, folder: Path) -> str:
    """One picture as SVG; ``folder`` is empty."""
    size, steps = PICTURES[name]
    app = cockpit(STORES.get(name, lab)(folder))
    with contextlib.chdir(folder / "people"):
        async with app.run_test(size=size) as pilot:
            await settled(pilot)
            await steps(pilot, app)
            await settled(pilot)
            await pilot.pause(0.3)  # what threads of the screen still read
            await redrawn(pilot)
            return app.export_screenshot(title="kdtui")


def main() -> None:
    """Write them all."""
    for name in ("NO_COLOR", "KDTUI_RUNS", "KDTUI_ENGINE"):
        os.environ.pop(name, None)
    os.environ["KDTUI_SLOTS"] = "cpu:2"
    DOCS.mkdir(exist_ok=True)
    for name in PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["KDTUI_SLOT_DIR"] = f"{folder}/slots"
            picture = asyncio.run(draw(name, Path(folder)))
        (DOCS / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
