"""What the Sweeps screen displays: the list, the fields of a heat map or the trials of a sampled sweep, the best."""

from __future__ import annotations

from collections.abc import Sequence

from kdtui.sweep import render
from kdtui.sweep.heatmap import Best, HeatMap
from kdtui.sweep.listing import SweepRow
from kdtui.sweep.sampled import render as render_sampled
from kdtui.sweep.sampled.results import SampledRuns
from kdtui.sweep.sampled.trials import Trial
from kdtui.sweep.spec import label_of
from kdtui.text import number, score_title, span
from kdtui.tui.values import Cell, Column, TextLine
from kdtui.tui.views.colours import STATE_STYLES

COLUMNS: tuple[Column, ...] = (
    Column("state", "", 1, 1),
    Column("sweep", "sweep", 24, 40),
    Column("progress", "progress", 10, 10, drop=4),
    Column("runs", "finished", 8, 9, right=True),
    Column("eta", "eta", 6, 8, right=True, drop=2),
    Column("best", "best", 6, 7, right=True, drop=1),
    Column("keys", "keys", 10, None, drop=3, grow=True),
)
"""The columns of the list."""
_BAR = 10
_HASH = 9  # the end of an id, which is kept when it is cut
_DARK = ("#9aa0a6", "#56b4e9", "#39c99b", "#f0e442", "#ff8a5c")
_LIGHT = ("#5f6368", "#006aa6", "#00734f", "#6b6400", "#b04300")


def level_colour(level: int, *, dark: bool) -> str:
    """Colour of a level of the heat map, 0 to 4; the glyph of the level says the same."""
    return (_DARK if dark else _LIGHT)[level]


def cells(row: SweepRow) -> list[Cell]:
    """The cells of :data:`COLUMNS`."""
    name = Cell(row.id, keep=row.id[-_HASH:])
    seen = row.overview
    if seen is None:
        return [Cell("?", "text-error"), name, *([Cell("-")] * 4), Cell(row.problem, "text-error")]
    filled = round(_BAR * seen.ended / max(1, seen.total))
    return [
        Cell(seen.state.glyph, STATE_STYLES[seen.state]),
        name,
        Cell("█" * filled + "░" * (_BAR - filled), STATE_STYLES[seen.state]),
        Cell(f"{seen.ended}/{seen.total}"),
        Cell(span(seen.eta_seconds) if seen.eta_seconds else "-"),
        Cell(number(seen.best)),
        Cell(" ".join(map("=".join, seen.keys))),
    ]


def trial_columns(runs: SampledRuns) -> tuple[Column, ...]:
    """The columns of the trials: one for each key."""
    keys = [
        Column(axis.key, label_of(axis.key), 5, 13, right=True, drop=place + 3 if place > 2 else 0)
        for place, axis in enumerate(runs.spec.axes)
    ]
    return (
        Column("mark", "", 1, 1),
        Column("trial", "trial", 5, 5, right=True),
        *keys,
        Column("score", score_title(runs.score_name), 6, 10, right=True),
        Column("epoch", "epoch", 5, 5, right=True, drop=1),
        Column("state", "state", 8, 13),
        Column("run", "run", 12, None, drop=2, grow=True),
    )


def trial_cells(runs: SampledRuns, trial: Trial) -> list[Cell]:
    """The cells of :func:`trial_columns`."""
    mark, number_, *values, epoch, _, ids = render_sampled.row(runs, trial)
    style = "text-muted" if trial.outcome == "pruned" else ""
    state = f"{trial.state.glyph} {trial.word}"
    return [
        Cell(mark, "text-success"),
        *(Cell(text, style) for text in (number_, *values, epoch)),
        Cell(state, style or STATE_STYLES[trial.state]),
        Cell(ids, style),
    ]


def trials_headline(runs: SampledRuns) -> list[TextLine]:
    """What is sampled, the progress, and why the sweep is not running."""
    lines: list[TextLine] = [[(render_sampled.title(runs), "title")], [(render_sampled.progress(runs), "")]]
    tone = "bad" if runs.controller.error else "warn"
    return [*lines, *([(line, tone)] for line in render_sampled.state_lines(runs)[:1])]


def trials_summary(runs: SampledRuns) -> list[TextLine]:
    """The best trial, and the importance of the keys."""
    best = render_sampled.best_lines(runs)
    lines: list[TextLine] = [[(line, "strong" if place == 0 else "")] for place, line in enumerate(best)]
    return [*lines, [(render_sampled.importance_line(runs), "" if runs.importance.shares else "muted")]]


def headline(grid: HeatMap) -> list[TextLine]:
    """What the fields are, and the progress of the sweep."""
    return [[(render.title(grid), "title")], [(render.progress(grid), "")]]


def titles(grid: HeatMap) -> tuple[list[str], list[str]]:
    """Titles of rows and columns."""
    columns = [""] if grid.columns is None else [f"{grid.columns.label} {text}" for text in grid.columns.texts]
    return [f"{grid.rows.label} {text}" for text in grid.rows.texts], columns


def field_texts(grid: HeatMap, best: Best | None, *, dark: bool) -> list[list[tuple[str, str]]]:
    """Text and colour of each field."""
    return [
        [
            (
                render.cell_text(grid, cell, best),
                "text-muted" if cell.mean is None else level_colour(grid.level(cell.mean), dark=dark),
            )
            for cell in row
        ]
        for row in grid.grid
    ]


def summary_lines(grid: HeatMap, best: Best | None, *, pending: bool) -> list[TextLine]:
    """The best field with its intervals, and the mean of each value of each key."""
    lines: list[TextLine] = [[(render.legend(grid, best), "muted")]]
    if pending:
        lines.append([("reading the counts per image of the finished runs", "muted")])
    else:
        lines += [[(line, "strong" if place == 0 else "")] for place, line in enumerate(render.best_lines(grid, best))]
    return lines


def marginal_lines(grid: HeatMap) -> list[TextLine]:
    """Of each key its values, with a glyph for the height of each mean among all means."""
    marginals = grid.marginals()
    means = [mean for values in marginals.values() for _, mean, _ in values if mean is not None]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    lines: list[TextLine] = []
    for key, values in marginals.items():
        spans = [(f"{label_of(key)}  ", "strong")]
        for text, mean, count in values:
            spans.append((f"{text} ", "muted"))
            spans.append((f"{number(mean)}{_bar(mean, low, high)}  ", "" if count else "muted"))
        lines.append(spans)
    return lines


def _bar(mean: float | None, low: float, high: float) -> str:
    if mean is None:
        return ""
    share = 1.0 if high <= low else (mean - low) / (high - low)
    return f" {_LEVELS[min(len(_LEVELS) - 1, int(share * len(_LEVELS)))]}"


_LEVELS: Sequence[str] = "▁▂▃▄▅▆▇█"
