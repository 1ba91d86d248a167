"""The grid of scores: means, the best field and its intervals, and its forms."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kdtui.errors import UsageError
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.sweep import render
from kdtui.sweep.heatmap import heat_map
from kdtui.sweep.runs import SweepRuns, runs_of
from kdtui.text import width
from tests.sweep.conftest import make, spec_of
from tests.sweep.test_spec import ALPHA, T

RATE = "training.learning_rate"
GRID = (f"{T}=1,2", f"{ALPHA}=0.3,0.5,0.7")

WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"rows": "gamma"}, "not a key"),
    ({"rows": "T", "columns": "T"}, "same key"),
    ({"at": {"T": "3"}}, "not a value"),
    ({"at": {"beta": "3"}}, "not a key"),
    ({"rows": "T", "at": {"T": "1"}}, "cannot be fixed"),
    ({"at": {"T": "1", "α": "0.3"}}, "nothing to show"),
)


def by_cell(cell: Mapping[str, Any], seed: int, baseline: bool) -> float:
    """Highest at T 2, α 0.5; a seed moves all of them alike."""
    if baseline:
        return 0.5 + 0.01 * seed
    return 0.5 + 0.1 * bool(cell[T] == 2) + 0.05 * bool(cell[ALPHA] == 0.5) + 0.01 * seed


@pytest.fixture
def runs(store: RunStore, teacher: Path) -> SweepRuns:
    return make(store, spec_of(store, teacher, *GRID, seeds=(0, 1, 2), with_baseline=True), by_cell)


def test_fields_are_means_over_seeds_and_the_best_has_intervals(runs: SweepRuns) -> None:
    grid = heat_map(runs)
    assert (grid.rows.key, grid.columns and grid.columns.key) == (T, ALPHA)
    means = {tuple(grid.values_of(cell).values()): cell.mean for cell in grid.cells}
    for (t, a), mean in means.items():
        assert mean == pytest.approx(sum(by_cell({T: t, ALPHA: a}, seed, False) for seed in range(3)) / 3)
    best = grid.best()
    assert best is not None and best.values == {T: 2.0, ALPHA: 0.5}
    assert best.interval is not None and (best.interval.n, best.interval.over) == (3, "seeds")
    assert best.interval.low < best.mean < best.interval.high
    assert best.delta == pytest.approx(0.15)
    assert best.delta_interval is not None and best.delta_interval.verdict == "better"
    assert best.rivals == ()  # paired by seed, all differences are exact


def test_one_seed_has_its_interval_over_images(store: RunStore, teacher: Path) -> None:
    grid = heat_map(make(store, spec_of(store, teacher, *GRID, with_baseline=True), by_cell))
    best = grid.best()
    assert best is not None and best.interval is not None and best.delta_interval is not None
    assert best.interval.over == best.delta_interval.over == "images"
    assert best.interval.low < best.mean < best.interval.high
    assert best.interval.delta == pytest.approx(best.mean, abs=1e-3)


def test_without_counts_there_is_no_interval(store: RunStore, teacher: Path) -> None:
    runs = make(store, spec_of(store, teacher, *GRID), by_cell)
    for member in runs.members:
        assert member.run is not None
        Run(member.run.path).counts("val").unlink()
    best = heat_map(runs).best()
    assert best is not None and best.interval is None and best.delta is None


def test_other_keys_are_averaged_or_fixed(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, *GRID, f"{RATE}=1e-4,1e-3")
    runs = make(store, spec, lambda cell, seed, baseline: by_cell(cell, seed, baseline) + 100 * cell[RATE])
    grid = heat_map(runs)
    assert [axis.key for axis in grid.averaged] == [RATE] and len(grid.cells) == 6
    fixed = heat_map(runs, at={RATE: "1e-3"})
    assert fixed.fixed == {RATE: 1e-3} and fixed.averaged == ()
    for mean, one in zip(grid.cells, fixed.cells, strict=True):
        assert one.mean is not None and mean.mean == pytest.approx(one.mean - 0.045)
    other = heat_map(runs, rows="alpha", columns="learning rate")
    assert (other.rows.key, other.columns and other.columns.key) == (ALPHA, RATE)
    assert heat_map(runs, columns="T").rows.key != T
    counts = {key: [count for _, _, count in values] for key, values in grid.marginals().items()}
    assert counts == {T: [6, 6], ALPHA: [4, 4, 4], RATE: [6, 6]}


def test_a_wrong_choice_is_one_message(runs: SweepRuns) -> None:
    for choice, message in WRONG:
        with pytest.raises(UsageError, match=message):
            heat_map(runs, **choice)


def test_a_field_that_is_not_whole_is_never_the_best(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, *GRID, seeds=(0, 1))
    runs = make(store, spec, by_cell, most=10)
    grid = heat_map(runs)
    assert max(grid.cells, key=lambda cell: cell.mean or 0.0) == grid.cells[4]  # one of its seeds is missing
    assert [cell.mark for cell in grid.cells] == ["", "", "", "", "·", "·"]
    assert grid.best_cell == grid.cells[3]
    whole = [cell.mean for cell in grid.cells if cell.whole]
    assert grid.limits == (min(whole), max(whole))  # type: ignore[type-var]
    assert grid.level(0.0) == 0 and grid.level(1.0) == 4
    empty = heat_map(runs_of(store, spec_of(store, teacher, f"{T}=7,8"), "x"))
    assert empty.best() is None and empty.limits is None and empty.columns is None
    assert any("no field has finished" in line for line in render.to_text(empty))


def test_the_text_fits_and_has_every_number_without_colour(store: RunStore, teacher: Path) -> None:
    alphas = ",".join(f"{0.05 * step:.2f}" for step in range(1, 14))
    runs = make(store, spec_of(store, teacher, f"{T}=1,2", f"{ALPHA}={alphas}"), by_cell)
    grid = heat_map(runs)
    for room in (40, 80, 120):
        lines = render.grid_lines(grid, grid.best(), room)
        assert max(map(width, lines)) <= room
        text = "\n".join(lines)
        assert text.count(render.BEST) == 1
        assert all(f"{cell.mean:.4f}" in text for cell in grid.cells)
        assert all(f"α {text_of}" in text for text_of in (grid.columns.texts if grid.columns else ()))
    levels = {grid.level(cell.mean) for cell in grid.cells}
    assert min(levels) == 0 and max(levels) == 4


def test_all_forms_have_the_same_numbers(runs: SweepRuns) -> None:
    grid = heat_map(runs)
    best = grid.best_cell
    assert best is not None and best.mean is not None
    rows = list(csv.DictReader(io.StringIO(render.to_csv(grid))))
    body = render.to_json(grid)
    markdown = render.to_markdown(grid)
    assert [float(row["score"]) for row in rows] == [cell["score"] for cell in body["cells"]]
    assert [row["best"] for row in rows].count("true") == 1
    assert body["best"]["score"] == best.mean and f"**{best.mean:.4f}**" in markdown
    assert body["states"] == {"finished": 21} and len(body["runs"]) == 21
    assert all(f"{cell['score']:.4f}" in markdown for cell in body["cells"])
    assert {tuple(cell["values"].values()) for cell in body["cells"]} == set(itertools.product((1, 2), (0.3, 0.5, 0.7)))
