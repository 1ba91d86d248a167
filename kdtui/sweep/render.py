"""A sweep as text, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from kdtui.compare.statistics import COVERAGE, Interval
from kdtui.profile.settings import plain
from kdtui.sweep.heatmap import Best, GridCell, HeatMap
from kdtui.sweep.spec import label_of
from kdtui.text import counted, number, score_title, signed, span, width

SHADES = "·░▒▓█"
"""Glyphs of the five levels, from the lowest to the highest mean."""
BEST, WITHIN = "★", "≈"
"""Marks of the best field, and of those whose difference to it is within noise."""
_GAP = 2


def title(grid: HeatMap) -> str:
    """What the fields display, as in ``val mIoU at the best epoch, mean over 3 seeds``."""
    seeds = len(grid.runs.spec.seeds)
    parts = [f"val {score_title(grid.score)} at the best epoch"]
    over = [counted(seeds, "seed")] if seeds > 1 else []
    over += [f"{len(axis.values)} values of {axis.label}" for axis in grid.averaged]
    parts += [f"mean over {' and '.join(over)}"] if over else []
    parts += [f"at {label_of(key)} {plain(value)}" for key, value in grid.fixed.items()]
    return ", ".join(parts)


def cell_text(grid: HeatMap, cell: GridCell, best: Best | None) -> str:
    """A field as text: shade, mean, and the best mark or the state of a field that is not whole."""
    if cell.mean is None:
        return f"  {cell.mark or '-'}"
    mark = BEST if best is not None and cell == best.cell else WITHIN if best and cell in best.rivals else cell.mark
    return f"{SHADES[grid.level(cell.mean)]} {cell.mean:.4f}{mark}"


def grid_lines(grid: HeatMap, best: Best | None, room: int = 80) -> list[str]:
    """The grid; columns that do not fit are in further blocks."""
    heads = [f"{grid.rows.label} {text}" for text in grid.rows.texts]
    columns = [""] if grid.columns is None else [f"{grid.columns.label} {text}" for text in grid.columns.texts]
    texts = [[cell_text(grid, cell, best) for cell in row] for row in grid.grid]
    first = max(map(width, heads))
    widths = [max(map(width, (head, *(row[place] for row in texts)))) for place, head in enumerate(columns)]
    lines: list[str] = []
    start = 0
    while start < len(columns):
        end, used = start + 1, first + _GAP + widths[start]
        while end < len(columns) and used + _GAP + widths[end] <= room:
            used += _GAP + widths[end]
            end += 1
        block = range(start, end)
        lines += [""] if lines else []
        header = _row("", first, [columns[place] for place in block], [widths[place] for place in block])
        lines += [header] if header.strip() else []
        for head, row in zip(heads, texts, strict=True):
            lines.append(_row(head, first, [row[place] for place in block], [widths[place] for place in block]))
        start = end
    return lines


def _row(head: str, first: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = [f"{head}{' ' * (first - width(head))}"]
    parts += [f"{cell}{' ' * (size - width(cell))}" for cell, size in zip(cells, widths, strict=True)]
    return (" " * _GAP).join(parts).rstrip()


def legend(grid: HeatMap, best: Best | None) -> str:
    """What the marks of the displayed fields mean."""
    words = []
    if grid.limits is not None:
        words.append(f"{' '.join(SHADES)} low to high")
    if best is not None:
        words.append(f"{BEST} best")
        words += [f"{WITHIN} not distinguishable from it"] if best.rivals else []
    states = {"▶": "running", "…": "queued", "✗": "failed", "■": "stopped", "?": "lost", "·": "not made"}
    marks = {cell.mark for cell in grid.cells if cell.mark}
    words += [f"{glyph} {word}" for glyph, word in states.items() if glyph in marks]
    return ", ".join(words)


def progress(grid: HeatMap) -> str:
    """How many runs there are in each state, and the time until all are finished."""
    runs = grid.runs
    counts = ", ".join(f"{count} {word}" for word, count in runs.counts().items())
    eta = runs.eta_seconds
    time = f"; about {span(eta)} left, {runs.at_once} at once" if eta else ""
    return f"{counted(len(runs.members), 'run')}: {counts}{time}"


def best_lines(grid: HeatMap, best: Best | None) -> list[str]:
    """The best field, its interval and its Δ."""
    if best is None:
        return ["no field has finished yet"]
    values = ", ".join(f"{label_of(key)} {plain(value)}" for key, value in best.values.items())
    text = f"best: {values}: {score_title(grid.score)} {best.mean:.4f}"
    if best.interval is not None:
        text += f", {_limits(best.interval)}"
    lines = [f"{text} (highest of {len(grid.cells)}, on the images that chose it)"]
    if best.delta_interval is not None:
        lines.append(best.delta_interval.text)
    elif best.delta is not None:
        lines.append(f"Δ {signed(best.delta)} to the matched baseline")
    elif grid.runs.spec.with_baseline:
        lines.append("Δ follows when the baselines have finished")
    if best.rivals:
        lines.append(f"within noise of the best: {counted(len(best.rivals), 'field')}")
    return lines


def _limits(interval: Interval) -> str:
    return f"{COVERAGE * 100:.0f} % [{interval.low:.4f}, {interval.high:.4f}] over {interval.n} {interval.over}"


def marginal_lines(grid: HeatMap) -> list[str]:
    """Of each key the mean score of each value."""
    lines = []
    for key, values in grid.marginals().items():
        means = "  ".join(f"{text} {number(mean)}" for text, mean, _ in values)
        lines.append(f"{label_of(key)}: {means}")
    return lines


def to_text(grid: HeatMap, room: int = 80) -> list[str]:
    """The lines of ``kdtui sweep show``."""
    best = grid.best()
    lines = [grid.runs.id, progress(grid), title(grid), "", *grid_lines(grid, best, room), ""]
    lines += [text for text in (legend(grid, best),) if text]
    lines += best_lines(grid, best)
    return [*lines, "means of each value, over all finished runs:", *(f"  {line}" for line in marginal_lines(grid))]


def to_json(grid: HeatMap) -> dict[str, Any]:
    """The sweep and its grid with stable keys."""
    best = grid.best()
    runs = grid.runs
    return {
        "id": runs.id,
        "keys": {axis.key: list(axis.values) for axis in runs.spec.axes},
        "seeds": list(runs.spec.seeds),
        "with_baseline": runs.spec.with_baseline,
        "states": runs.counts(),
        "eta_seconds": runs.eta_seconds,
        "score": grid.score,
        "rows": grid.rows.key,
        "columns": None if grid.columns is None else grid.columns.key,
        "at": dict(grid.fixed),
        "averaged": [axis.key for axis in grid.averaged],
        "cells": [_cell_json(grid, cell) for cell in grid.cells],
        "best": None if best is None else _best_json(grid, best),
        "marginals": {
            key: [{"value": text, "score": mean, "runs": count} for text, mean, count in values]
            for key, values in grid.marginals().items()
        },
        "runs": [
            {
                "cell": dict(member.cell),
                "seed": member.seed,
                "role": member.role,
                "id": None if member.run is None else member.run.id,
                "state": None if member.run is None else member.run.state.word,
                "score": None if member.run is None else member.run.best(grid.score),
            }
            for member in runs.members
        ],
    }


def _cell_json(grid: HeatMap, cell: GridCell) -> dict[str, Any]:
    return {
        "values": {key: value for key, value in grid.values_of(cell).items() if key not in grid.fixed},
        "score": cell.mean,
        "final": cell.whole,
        "delta": grid.delta(cell),
        "runs": [run.id for run in cell.runs],
    }


def _best_json(grid: HeatMap, best: Best) -> dict[str, Any]:
    return {
        "values": dict(best.values),
        "score": best.mean,
        "interval": None if best.interval is None else _limits_json(best.interval),
        "delta": best.delta,
        "delta_interval": _interval_json(best.delta_interval),
        "within_noise": [grid.values_of(cell) for cell in best.rivals],
    }


def _limits_json(interval: Interval) -> dict[str, Any]:
    return {"low": interval.low, "high": interval.high, "n": interval.n, "over": interval.over}


def _interval_json(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else {**vars(interval), "verdict": interval.verdict}


def to_csv(grid: HeatMap) -> str:
    """One line for each field."""
    best = grid.best_cell
    names = [grid.rows.key, *([] if grid.columns is None else [grid.columns.key])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "score", "final", "delta", "best", "runs"])
    for cell in grid.cells:
        values = [plain(grid.values_of(cell)[name]) for name in names]
        mean, delta = ("" if value is None else repr(value) for value in (cell.mean, grid.delta(cell)))
        ids = " ".join(run.id for run in cell.runs)
        writer.writerow([*values, mean, str(cell.whole).lower(), delta, str(cell == best).lower(), ids])
    return text.getvalue().rstrip("\n")


def to_markdown(grid: HeatMap) -> str:
    """The grid as a table, and the best field below it."""
    best = grid.best()
    columns = [score_title(grid.score)] if grid.columns is None else list(map(str, grid.columns.texts))
    corner = grid.rows.label if grid.columns is None else f"{grid.rows.label} \\ {grid.columns.label}"
    lines = [f"**{grid.runs.id}**: {title(grid)}", "", f"| {corner} | {' | '.join(columns)} |"]
    lines.append("|---|" + "---:|" * len(columns))
    for text, row in zip(grid.rows.texts, grid.grid, strict=True):
        cells = [_markdown_cell(cell, best) for cell in row]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{line}  " for line in best_lines(grid, best))]).rstrip()


def _markdown_cell(cell: GridCell, best: Best | None) -> str:
    if cell.mean is None:
        return cell.mark
    text = f"{cell.mean:.4f}"
    return f"**{text}**" if best is not None and cell == best.cell else f"{text} {cell.mark}".rstrip()
