from __future__ import annotations

import pytest

from kdtui.compare import entries_of, pareto
from kdtui.compare.pareto import cells
from kdtui.store.run import Run
from kdtui.tui.screens.compare import CompareScreen
from kdtui.tui.screens.compare.pages import ParetoPage
from tests.tui.compare.test_screen import Open, opened
from tests.tui.scenes import Scene, lines, shows, text, until


@pytest.fixture
def runs(scene: Scene) -> list[Run]:
    """A teacher, two measured students of it and one that was not measured."""
    teacher = scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.76)
    found = [
        scene.finished("b0-from-b3", teacher=teacher, best=0.70),
        scene.finished("r18-from-b3", teacher=teacher, encoder="resnet18", best=0.66),
        scene.finished("b0-alone", best=0.68),
    ]
    scene.measured(found[0], 0.05)
    scene.measured(found[1], 0.06)
    return found


async def measured(on: Open) -> None:
    await until(on.pilot, lambda: on.screen.comparison == on.expected())


async def test_measured_columns_are_in_the_table_of_runs(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs, (130, 36)) as on:
        await measured(on)
        await until(on.pilot, lambda: all(title in on.line("Δ base") for title in ("MACs", "latency", "faster")))
        await until(on.pilot, lambda: "★50.00 ms" in on.line("b0-from-b3") and "★1.60x" in on.line("b0-from-b3"))
        assert "▼60.00 ms" in on.line("r18-from-b3")
        assert "80.00 ms" in on.line("◆") and "1.00x" in on.line("◆")


async def test_at_80_columns_how_many_times_faster_is_kept(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        await measured(on)
        await until(on.pilot, lambda: "faster" in on.line("Δ base") and "1.60x" in on.line("b0-from-b3"))


async def test_damaged_measurements_are_reported_and_the_rest_is_compared(scene: Scene, runs: list[Run]) -> None:
    runs[0].measurements_path.write_text('{"student": {}}', encoding="utf-8")
    async with opened(scene, runs) as on:
        await until(on.pilot, lambda: on.screen.comparison)
        assert "60.00 ms" in text(on.app) or "1.33x" in on.line("r18-from-b3")
        assert on.screen.comparison is not None
        assert next(row for row in on.screen.comparison.rows if row.id == runs[0].id).latency is None
        await on.pilot.press("4")
        await shows(on.pilot, "b0-from-b3: The run's measurements cannot be used")
        await on.pilot.press("5")
        await shows(on.pilot, "b0-from-b3: The run's measurements cannot be used")


async def test_the_page_shows_the_points_of_the_command(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs, (120, 36)) as on:
        await measured(on)
        await on.pilot.press("5")
        await shows(on.pilot, "mIoU by latency, ms")
        found = pareto(entries_of(scene.store, runs), "latency")
        page = on.screen.query_one(ParetoPage)
        for place, line in enumerate(cells(found)[1]):
            shown = [cell.text for cell in page._lines[str(place)]]
            assert shown[1] == line[0] and shown[5:7] == line[4:6]
        dots = page.scatter.cloud.dots
        assert [(dot.y, dot.front) for dot in dots] == [(p.miou, p.dominated_by is None) for p in found.points]
        assert all(note in text(on.app) for note in found.notes)
        assert on.screen.page_command_line.endswith("--pareto latency")
        await on.pilot.press("C")
        await shows(on.pilot, "kdtui compare")


async def test_keys_switch_cost_and_scale(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        await measured(on)
        await on.pilot.press("p")
        await shows(on.pilot, "mIoU by latency, ms", "p by parameters")
        await on.pilot.press("l")
        await shows(on.pilot, "latency, ms · log")
        assert not on.screen.chart.log_y
        await on.pilot.press("p")
        await shows(on.pilot, "mIoU by parameters, M", "p by latency")
        assert on.screen.page_command_line.endswith("--pareto parameters")
        assert "b0-alone" in "\n".join(line[-44:] for line in lines(on.app))  # it needs no measuring for that
        await on.pilot.press("m")
        await shows(on.pilot, "mIoU by latency")
        await on.pilot.press("1")
        await on.pilot.press("l")
        assert on.screen.chart.log_y and on.screen.page_command_line == on.screen.command_line


async def test_the_point_under_the_cursor_is_described_with_the_dominating_one(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        await measured(on)
        await on.pilot.press("5", "tab", "end")
        page = on.screen.query_one(ParetoPage)
        assert on.app.focused is page.table
        last = pareto(entries_of(scene.store, runs), "latency").points[-1]
        assert page.scatter.cloud.selected == str(len(page.table.keys) - 1)
        beaten = "dominated by" if last.dominated_by else "not dominated"
        await shows(on.pilot, beaten, "torch:")
        await on.pilot.press("1")
        await until(on.pilot, lambda: on.app.focused is on.table)


async def test_without_measurements_the_page_displays_a_hint(scene: Scene) -> None:
    alone = [scene.finished("b0", best=0.7), scene.finished("b1", best=0.71)]
    async with opened(scene, alone) as on:
        await until(on.pilot, lambda: on.screen.comparison)
        await on.pilot.press("5")
        await shows(on.pilot, "not measured: press L", "has no latency")
        await on.pilot.press("p")
        await shows(on.pilot, "mIoU by parameters", "b0", "b1")


async def test_measurements_of_another_process_are_displayed_on_return(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs, (130, 36)) as on:
        await measured(on)
        on.app.open_run(runs[2].id)
        await until(on.pilot, lambda: not isinstance(on.app.screen, CompareScreen))
        scene.measured(runs[2], 0.02)
        await on.pilot.press("escape")
        await shows(on.pilot, "★20.00 ms")


async def test_the_page_of_costs_works_at_any_size(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        await measured(on)
        await on.pilot.press("5")
        for size in ((200, 60), (80, 24), (110, 24), (80, 24)):
            await on.pilot.resize_terminal(*size)
            await shows(on.pilot, "mIoU by latency", "ONNX int8")
