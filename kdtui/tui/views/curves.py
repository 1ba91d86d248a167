"""Which curves a chart shows: metrics in a sensible order, series of the runs, lines to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdtui.store.history import History
from kdtui.store.state import LIVE, RunSummary
from kdtui.tui.views.colours import curve_colour, curve_dash
from kdtui.tui.views.panels import EXPECTED
from kdtui.tui.widgets.chart.line_chart import ReferenceLine, Series

FIRST_METRICS = ("train/loss", "val/miou", "train/loss.base", "train/loss.distill")
"""Shown first; every other curve follows by name."""


@dataclass(frozen=True)
class Shown:
    """What a chart is given."""

    series: tuple[Series, ...]
    references: tuple[ReferenceLine, ...]
    x_label: str
    x_max: float | None


def metrics(histories: Iterable[History]) -> list[str]:
    """Names of the curves that any of the runs has."""
    names = {name for history in histories for name in history.curves}
    first = [name for name in FIRST_METRICS if name in names]
    return first + sorted(names - set(first))


def neighbour(metric: str, names: Sequence[str], by: int) -> str:
    """The metric ``by`` places farther on, in a circle; one that none of the runs has stands before them all."""
    if not names:
        return metric
    at = names.index(metric) if metric in names else -1 if by > 0 else 0
    return names[(at + by) % len(names)]


def metric_title(metric: str) -> str:
    """`train/loss.base` as a person says it."""
    split, _, name = metric.partition("/")
    words = {"loss": "loss", "miou": "mIoU", "best_miou": "best mIoU", "lr": "learning rate"}.get(name, name)
    if words.startswith(("loss.", "iou.")):
        words = words.replace("iou.", "IoU ").replace("loss.", "loss: ")
    return words if split == "train" else f"val {words}"


def horizon(row: RunSummary | None, history: History) -> float | None:
    """Steps at the end of a run that lives; None for one that is over, whose curve is all there will be."""
    if row is not None and row.state not in LIVE:
        return None
    started = history.started
    epochs = row.epochs if row is not None and row.epochs is not None else started.epochs if started else None
    return float(epochs * started.steps_per_epoch) if started is not None and epochs else None


def axis_end(row: RunSummary | None, history: History) -> float | None:
    """Steps at the right end of a run's charts, which share it, whatever each of them shows.

    A run that is over ends where it got. Of one that lives it is the horizon, halved and halved again while what is
    reached fits in there: the first epochs of a long run are watched more than any others, and would be a line at the
    left edge.

    Returns:
        None while the horizon is unknown.
    """
    reached = max((curve.steps[-1] for curve in history.curves.values() if len(curve)), default=0)
    if row is not None and row.state not in LIVE:
        return float(reached)
    end = horizon(row, history)
    while end is not None and 0 < 2 * reached < end:
        end /= 2
    return end


def shown(
    metric: str,
    ids: Sequence[str],
    rows: Mapping[str, RunSummary],
    histories: Mapping[str, History],
    letters: Mapping[str, str],
    *,
    dark: bool,
) -> Shown:
    """Series of one metric: by steps for one run, by images, the fair axis, for several."""
    several = len(ids) > 1
    series, ends = [], []
    for index, run_id in enumerate(ids):
        history, row = histories.get(run_id), rows.get(run_id)
        curve = None if history is None else history.curves.get(metric)
        if history is None or curve is None or not len(curve):
            continue
        end = axis_end(row, history)
        if end is not None and several:
            end *= curve.images[-1] / curve.steps[-1] if curve.steps[-1] else 0.0
        ends.append(end)
        series.append(
            Series(
                key=run_id,
                letter=letters.get(run_id, "●"),
                label=row.name if row is not None else run_id,
                xs=curve.images if several else curve.steps,
                ys=curve.values,
                colour=curve_colour(index, dark=dark),
                dash=curve_dash(index),
            )
        )
    known = [end for end in ends if end]
    x_max = max(known) if known and len(known) == len(ends) else None
    return Shown(tuple(series), _references(metric, ids, rows), "images" if several else "steps", x_max)


def _references(metric: str, ids: Sequence[str], rows: Mapping[str, RunSummary]) -> tuple[ReferenceLine, ...]:
    """The teacher's line and what is expected of its students, where the runs that were taught had the same one."""
    if metric not in ("val/miou", "val/best_miou"):
        return ()
    teachers = {row.teacher_miou for run_id in ids if (row := rows.get(run_id)) is not None} - {None}
    if len(teachers) != 1:
        return ()
    miou = teachers.pop()
    assert miou is not None
    return (ReferenceLine(miou, "teacher"), ReferenceLine(EXPECTED * miou, f"{EXPECTED:.0%}"))
