from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from kdtui.compare import Comparison, cells, compare, entries_of, render
from kdtui.compare.bootstrap import difference
from kdtui.compare.entries import split_note
from kdtui.compare.evidence import with_evidence
from kdtui.compare.render import class_cells
from kdtui.events import Measured
from kdtui.store.run import EventLog, Run
from kdtui.tui.app import KdtuiApp
from kdtui.tui.screens.compare import CompareScreen
from kdtui.tui.screens.dialogs import Confirm, Prompt
from kdtui.tui.screens.run import RunScreen
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.table import Table
from tests import fake_engine
from tests.compare.counted import scored, written
from tests.tui.scenes import Scene, cockpit, lines, shows, text, until


@pytest.fixture
def runs(scene: Scene) -> list[Run]:
    """A teacher's two students, their baseline, and one that trains."""
    teacher = scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.76)
    return [
        scene.finished("b0-alone", best=0.68),
        scene.finished("b0-from-b3", teacher=teacher, best=0.70),
        scene.running("b0-t2", teacher=teacher, temperature=2.0, epochs=20),
        scene.finished("r18-from-b3", teacher=teacher, encoder="resnet18", best=0.66),
    ]


class Open:
    """The screen, and what it should say."""

    def __init__(self, app: KdtuiApp, pilot: Pilot[Any], scene: Scene, runs: list[Run]) -> None:
        self.app, self.pilot, self.scene, self.runs = app, pilot, scene, runs

    @property
    def screen(self) -> CompareScreen:
        assert isinstance(self.app.screen, CompareScreen)
        return self.app.screen

    @property
    def table(self) -> Table:
        return self.screen.table

    def expected(self, baseline: str | None = None) -> Comparison:
        """What ``kdtui compare`` says."""
        there = [run for run in self.runs if run.path.exists()]
        entries = entries_of(self.scene.store, there)
        return with_evidence(compare(entries, baseline), entries)

    def line(self, name: str) -> str:
        """The line of a run in the table."""
        return next(line for line in lines(self.app) if name in line and f"{name}: " not in line)


@asynccontextmanager
async def opened(scene: Scene, runs: list[Run], size: tuple[int, int] = (80, 24)) -> AsyncIterator[Open]:
    app = cockpit(scene)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.board.whole)
        app.compare([run.id for run in runs])
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.table.cursor_key is not None)
        yield Open(app, pilot, scene, runs)


async def test_its_numbers_are_those_of_the_command(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        header, body = cells(on.expected())
        for row in body:
            line = on.line(row[0].split(" (")[0])
            for title in ("T", "α", "epoch", "mIoU", "retention", "smaller", "Δ baseline"):
                assert row[header.index(title)].removeprefix("★ ") in line, (title, line)
        assert render(on.screen.comparison or on.expected(), "json") == render(on.expected(), "json")
        ranked = [row.id for row in on.expected().rows]
        assert [key for key in on.table.keys if key in ranked] == ranked
        assert on.table.cursor_key == ranked[0]


async def test_runs_with_a_score_of_their_own_are_ranked_by_it_at_80_by_24(scene: Scene) -> None:
    pair = [scene.finished("persons-alone", best=0.70), scene.finished("persons-slim", best=0.66)]
    for run, score in zip(pair, (0.51, 0.62), strict=True):
        own = {"target_iou": score, "best_target_iou": score, "mask_ap": score / 2, "best_epoch": 81.0}
        with EventLog(run.events_path) as events:
            events.append(Measured("val", 810, 81, 6480, {"miou": 0.5, "best_miou": 0.5, "iou.target": score, **own}))
    async with opened(scene, pair) as on:
        assert on.expected().score == "target_iou"
        await shows(on.pilot, "target IoU", "★0.6200", "▼0.5100")
        assert [key.rpartition("-")[2] for key in on.table.keys] == ["slim", "alone"]
        await on.pilot.press("2")
        await shows(on.pilot, "mask AP", "0.3100", "0.2550")


async def test_best_worst_and_the_teacher_are_highlighted(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs, (140, 36)) as on:
        await shows(on.pilot, "b0-from-b3", "teacher b3-teacher", "★0.", "▼14.33 M", "▼0.92x")  # it is drawn
        assert "★0." in on.line("b0-from-b3") and "▼0." in on.line("b0-t2")
        assert "▼14.33 M" in on.line("r18-from-b3") and "▼0.92x" in on.line("r18-from-b3")
        assert "★2.10x" not in text(on.app)  # what most of them have is no distinction
        assert "0.7540" in on.line("teacher b3-teacher") and "13.16 M" in on.line("teacher b3-teacher")
        await until(on.pilot, lambda: "0.9300" in on.line("teacher b3-teacher"))  # its IoU, from a student's history


async def test_seeds_of_one_profile_are_drawn_together(scene: Scene) -> None:
    seeds = [scene.finished("b0-alone", seed=seed, best=0.6 + seed / 100) for seed in range(3)]
    async with opened(scene, seeds) as on:
        (group,) = on.expected().aggregates
        assert f"mIoU {group.miou:.4f} ± {group.miou_sd:.4f} (n = 3, seeds 0, 1, 2)" in text(on.app)
        assert all(f"b0-alone s{seed}" in text(on.app) for seed in range(3))


@pytest.mark.parametrize(("seeds", "ends"), [((0, 1), (" s0", " s1")), ((0, 0), (" 14:30", " 14:40"))])
async def test_runs_of_one_long_name_are_distinguishable_at_80_columns(
    scene: Scene, seeds: tuple[int, int], ends: tuple[str, str]
) -> None:
    pair = [
        scene.finished("distill-b0-slim-from-b3-wide", seed=seed, best=0.6 + i / 100) for i, seed in enumerate(seeds)
    ]
    async with opened(scene, pair, (80, 24)) as on:
        told = [line[0] for line in cells(on.expected())[1]]
        assert sorted(told) == [f"distill-b0-slim-from-b3-wide{end}" for end in ends]
        await until(on.pilot, lambda: all(any(f"…{end} " in line for line in lines(on.app)) for end in ends))
        await on.pilot.press("5", "p")
        await shows(on.pilot, "mIoU by parameters")
        await until(on.pilot, lambda: all(any(f"…{end} " in line[36:] for line in lines(on.app)) for end in ends))


async def test_a_key_chooses_and_resets_the_baseline(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        matched = on.expected()
        assert matched.baseline == runs[0].id and "Δ vs matched" in text(on.app)
        on.table.move_to(runs[3].id)
        await on.pilot.press("b")
        await until(on.pilot, lambda: on.screen.comparison == on.expected(runs[3].id))
        assert "Δ against r18-from-b3" in text(on.app) and "baseline" in on.line("r18-from-b3")
        assert on.screen.command_line.endswith(f"--baseline {runs[3].id}")
        await on.pilot.press("b")
        await until(on.pilot, lambda: on.screen.comparison == matched)
        assert "--baseline" not in on.screen.command_line


async def test_the_teachers_row_is_no_baseline(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        await on.pilot.press("end", "b", "enter")
        assert isinstance(on.app.screen, CompareScreen)
        await shows(on.pilot, "select a run to use as the baseline")
        assert on.screen.comparison == on.expected()


async def test_the_command_is_always_displayed(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs, (200, 30)) as on:
        assert lines(on.app)[-2].endswith("kdtui compare " + " ".join(run.id for run in runs))
        await on.pilot.press("C")
        assert (scene.store.root / ".cache" / "copied.txt").read_text() == on.screen.command_line


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_every_page_is_complete(scene: Scene, runs: list[Run], size: tuple[int, int]) -> None:
    async with opened(scene, runs, size) as on:
        await shows(on.pilot, "val mIoU", "images")
        await on.pilot.press("3")
        await shows(on.pilot, "distillation.temperature", "student.encoder", "resnet18", "false")
        await on.pilot.press("4")
        await shows(on.pilot, "is not final", "★ best")
        await on.pilot.press("2")
        await shows(on.pilot, "IoU background", "params")
        seen = text(on.app)
        await on.pilot.press("tab", "end")
        await shows(on.pilot, "finished")
        seen += text(on.app)
        for told in ("IoU other", "retention", "Δ against", "b0-alone", "◆ b3-", "state"):
            assert told in seen
        await on.pilot.press("1")
        beside = on.screen.query_one("#numbers") if size == (120, 36) else on.table  # the page is gone, or is not
        await until(on.pilot, lambda: on.app.focused is beside)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_what_each_delta_is_worth_comes_after_the_numbers(scene: Scene, size: tuple[int, int]) -> None:
    teacher = scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.76)
    runs = [scene.finished("b0-alone", best=0.68), scene.finished("b0-from-b3", teacher=teacher, best=0.70)]
    for seed, run in enumerate(runs):
        written(scored(scene.store.summary(run).best_miou or 0, seed), run)
    async with opened(scene, runs, size) as on:
        expected = difference(runs[1], runs[0])
        await shows(on.pilot, f"B b0-from-b3: {expected.score.short}")
        await on.pilot.press("6")
        header, body = class_cells(on.expected())
        await shows(on.pilot, *(f"B {name}" for name in header[1:]), *(text.strip() for line in body for text in line))
        assert on.screen.page_command_line.endswith(" --per-class")
        await on.pilot.press("4")
        await shows(on.pilot, f"B b0-from-b3: Δ {expected.score.delta:+.4f}, 95 %")


async def test_seeds_are_paired_above_the_table(scene: Scene) -> None:
    teacher = scene.finished("b3-teacher")
    runs = [scene.finished("b0-alone", seed=seed, best=0.6 + seed / 100) for seed in range(3)]
    runs += [scene.finished("b0-from-b3", seed=seed, best=0.6 + seed / 50, teacher=teacher) for seed in range(3)]
    async with opened(scene, runs, (120, 36)) as on:
        (group,) = on.expected().groups
        assert group.interval is not None and group.interval.verdict == "within noise"
        await shows(on.pilot, f"DEF b0-from-b3: {group.interval.short}")
        await on.pilot.press("4")
        await shows(on.pilot, "Δ per seed: 0: +0.0000")


async def test_columns_of_many_runs_follow_the_cursor(scene: Scene) -> None:
    many = [scene.finished(f"run{n}", temperature=1.0 + n, teacher=None, seed=n, best=0.8 - n / 100) for n in range(9)]
    async with opened(scene, many) as on:
        await on.pilot.press("3")
        await shows(on.pilot, "seed", "A run0")
        assert "I run8" not in text(on.app)
        await on.pilot.press("end")
        await shows(on.pilot, "I run8")
        assert "A run0 " not in lines(on.app)[13]


async def test_false_and_zero_are_differences(scene: Scene) -> None:
    teacher = scene.finished("teacher")
    pair = [scene.finished("zero", seed=0), scene.finished("one", teacher=teacher, seed=1)]
    async with opened(scene, pair) as on:
        await on.pilot.press("3", "tab")
        await shows(on.pilot, "distillation.enabled")
        on.screen.query_one("#differs", Table).move_to("distillation.enabled")
        await shows(on.pilot, "distillation.enabled: ")
        told = lines(on.app)[-2]
        assert "false" in told and "true" in told
        on.screen.query_one("#differs", Table).move_to("seed")
        await until(on.pilot, lambda: lines(on.app)[-2].startswith("seed: "))
        assert {"0", "1"} <= set(lines(on.app)[-2].split())


async def test_curves_of_all_runs_by_images(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        chart = on.screen.query_one(LineChart)
        await until(on.pilot, lambda: len(chart.picture.series) == 4)
        assert {one.key for one in chart.picture.series} == {run.id for run in runs}
        assert chart.picture.x_label == "images"
        history = on.app.board.histories[runs[1].id]
        curve = next(one for one in chart.picture.series if one.key == runs[1].id)
        assert list(curve.xs) == history.curves["val/miou"].images
        assert [line.label for line in chart.picture.references] == ["teacher", "95%"]
        title = chart.picture.title
        await on.pilot.press("m")
        assert chart.picture.title != title
        await on.pilot.press("M")
        assert chart.picture.title == title


async def test_it_follows_a_live_run(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        await until(on.pilot, lambda: on.screen.query_one(LineChart).picture.series)
        before = on.line("b0-t2")
        scene.advance(runs[2], 30)
        await until(on.pilot, lambda: on.line("b0-t2") != before)
        row = next(row for row in on.expected().rows if row.id == runs[2].id)
        assert f"{row.miou:.4f}" in on.line("b0-t2")

        # The curve is read by another thread than the row.
        def last_image() -> float:
            series = on.screen.query_one(LineChart).picture.series
            return next(one for one in series if one.key == runs[2].id).xs[-1]

        await until(on.pilot, lambda: last_image() == 50 * 160)
        assert on.app.board.histories[runs[2].id].curves["val/miou"].images[-1] == 50 * 160


async def test_deleted_and_damaged_runs_are_marked(scene: Scene, runs: list[Run]) -> None:
    broken = scene.damaged("half")
    async with opened(scene, [*runs, broken]) as on:
        assert "damaged" in on.line("half")
        on.table.move_to(runs[0].id)
        await on.pilot.press("b")
        await until(on.pilot, lambda: on.screen.comparison is not None and on.screen.comparison.baseline == runs[0].id)
        shutil.rmtree(runs[0].path)
        await until(on.pilot, lambda: "deleted" in on.line("b0-alone"))
        await shows(on.pilot, "baseline was deleted")
        assert runs[0].id not in on.screen.command_line
        await on.pilot.press("4")
        await shows(on.pilot, "b0-alone: it was deleted", "half: profile.toml is damaged")
        for run in runs[1:]:
            shutil.rmtree(run.path)
        await until(on.pilot, lambda: on.screen.comparison is None)
        await on.pilot.press("e")
        await shows(on.pilot, "nothing to write")
        await on.pilot.press("y")
        await shows(on.pilot, "nothing to copy")


async def test_hostile_names_are_displayed_safely(scene: Scene) -> None:
    pair = [scene.finished("one", shown_as="[red]x[/]\x1b[31m"), scene.finished("two", seed=1)]
    async with opened(scene, pair) as on:
        assert "[red]x[/][31m" in text(on.app) and "\x1b" not in text(on.app)
        for page in "1234":
            await on.pilot.press(page)
            assert "\x1b" not in text(on.app)


async def test_export(scene: Scene, runs: list[Run], tmp_path: Path) -> None:
    async with opened(scene, runs, (120, 36)) as on:
        for ending, form in ((".md", "markdown"), (".csv", "csv"), (".json", "json")):
            path = tmp_path / f"table{ending}"
            await answer(on, str(path))
            await shows(on.pilot, f"written to {path} as {form}")
            assert path.read_text() == render(on.expected(), form)
        assert len(json.loads(path.read_text())["rows"]) == 4


async def answer(on: Open, typed: str) -> None:
    await on.pilot.press("e")
    assert isinstance(on.app.screen, Prompt)
    on.app.screen.query_one(Input).value = typed
    await on.pilot.pause()
    await on.pilot.press("enter")


async def test_export_reports_every_refusal(scene: Scene, runs: list[Run], tmp_path: Path) -> None:
    there = tmp_path / "there.csv"
    there.write_text("precious")
    async with opened(scene, runs, (120, 36)) as on:
        await answer(on, str(tmp_path / "table.pdf"))
        await shows(on.pilot, "unknown suffix", ".md, .markdown, .csv, .json")
        on.app.screen.query_one(Input).value = str(tmp_path / "nowhere" / "table.md")
        await shows(on.pilot, "this folder does not exist")
        await on.pilot.press("enter")
        assert isinstance(on.app.screen, Prompt)
        await on.pilot.press("escape")
        await answer(on, str(there))
        assert isinstance(on.app.screen, Confirm)
        await on.pilot.press("n")
        await shows(on.pilot, "is unchanged")
        assert there.read_text() == "precious"
        await answer(on, str(there))
        await on.pilot.press("y")
        await shows(on.pilot, f"written to {there} as csv")
        assert there.read_text() == render(on.expected(), "csv")


async def test_copy(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        await on.pilot.press("y")
        await shows(on.pilot, "comparison as Markdown: copied")
        assert on.app.clipboard == render(on.expected(), "markdown")


async def test_the_copy_names_the_columns_of_interleaved_seeds(scene: Scene) -> None:
    scores = {("alone", 0): 0.7, ("taught", 0): 0.6, ("alone", 1): 0.5, ("taught", 1): 0.4}
    seeds = [scene.finished(name, seed=seed, best=score) for (name, seed), score in scores.items()]
    async with opened(scene, seeds) as on:
        await on.pilot.press("y")
        await shows(on.pilot, "comparison as Markdown: copied")
        assert "| what differs | alone s0 | taught s0 | alone s1 | taught s1 |" in on.app.clipboard
        assert "| `seed` | 0 | 0 | 1 | 1 |" in on.app.clipboard


async def test_open_and_back(scene: Scene, runs: list[Run]) -> None:
    async with opened(scene, runs) as on:
        on.table.move_to(runs[1].id)
        await on.pilot.press("enter")
        await until(on.pilot, lambda: isinstance(on.app.screen, RunScreen))
        await on.pilot.press("escape")
        await until(on.pilot, lambda: isinstance(on.app.screen, CompareScreen))
        await on.pilot.press("escape")
        await until(on.pilot, lambda: not isinstance(on.app.screen, CompareScreen))


async def test_letters_and_colours_are_those_of_the_list(scene: Scene, runs: list[Run]) -> None:
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.board.whole)
        await pilot.press("space", "down", "down", "space", "down", "space")
        marked = dict(app.board.letters)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.comparison is not None)
        for run_id, letter in marked.items():
            name = app.board.rows[run_id].name
            line = next(line for line in lines(app) if name in line and f"{name}: " not in line)
            assert line[1] == letter


async def test_without_colour_and_in_the_light(scene: Scene, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(scene, runs) as on:
        assert on.line("b0-from-b3").startswith(">B")
        await on.pilot.press("ctrl+t", "1", "2", "3", "4")
        await shows(on.pilot, "b0-from-b3")


async def test_another_split_is_evaluated_on_request_and_compared(
    scene: Scene, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", fake_engine.COMMAND)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1,gpu:0")
    finished = runs[:2]
    ids = " ".join(run.id for run in finished)
    async with opened(scene, finished, (120, 36)) as it:
        await it.pilot.press("s")
        await shows(it.pilot, "Compare on which split?", "--split SPLIT")
        await it.pilot.press("t")
        await shows(it.pilot, split_note("test"), "0.5000")
        assert it.screen.command_line == f"kdtui compare {ids} --split test"
        assert all(run.evaluation("test").is_file() for run in finished)
        comparison = it.screen.comparison
        assert comparison is not None and {row.miou for row in comparison.rows} == {0.5}
        await it.pilot.press("p")
        assert it.screen.page_command_line == f"kdtui compare {ids} --pareto latency"  # which has no split
        await it.pilot.press("s", "v")
        await until(it.pilot, lambda: split_note("test") not in text(it.app))
        assert it.screen.command_line == f"kdtui compare {ids}"


async def test_an_evaluation_is_cancelled_and_the_comparison_stays(
    scene: Scene, runs: list[Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", fake_engine.COMMAND)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1,gpu:0")
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    monkeypatch.setenv("KDTUI_TEST_MEETING", str(meeting))  # a process waits there for another one
    async with opened(scene, runs[:2]) as it:
        await it.pilot.press("s", "escape", "s", "t")
        await shows(it.pilot, "s cancels")
        await until(it.pilot, lambda: any(meeting.iterdir()))
        await it.pilot.press("s")
        await shows(it.pilot, "cancelled; finished evaluations are kept")
        assert "--split" not in it.screen.command_line
