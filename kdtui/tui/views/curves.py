"""Content of the charts: order of the metrics, series of the runs, reference lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdtui.store.history import History
from kdtui.store.state import LIVE, RunSummary
from kdtui.text import score_title
from kdtui.tui.values import ReferenceLine, Series
from kdtui.tui.views.colours import curve_colour, curve_dash
from kdtui.tui.views.panels import EXPECTED

FIRST_METRICS = ("train/loss", "val/miou", "train/loss.base", "train/loss.distill", "train/loss.unlabelled")
"""First in the list; all other curves follow by name."""


@dataclass(frozen=True)
class Shown:
    """Content of a chart."""

    series: tuple[Series, ...]
    references: tuple[ReferenceLine, ...]
    x_label: str
    x_max: float | None


def metrics(histories: Iterable[History]) -> list[str]:
    """Names of the curves of all runs."""
    names = {name for history in histories for name in history.curves}
    first = [name for name in FIRST_METRICS if name in names]
    return first + sorted(names - set(first))


def neighbour(metric: str, names: Sequence[str], by: int) -> str:
    """The metric ``by`` places after another, cyclically; an unknown metric counts as before the first."""
    if not names:
        return metric
    at = names.index(metric) if metric in names else -1 if by > 0 else 0
    return names[(at + by) % len(names)]


def metric_title(metric: str) -> str:
    """Title of a metric, such as `loss: base` for `train/loss.base`."""
    split, _, name = metric.partition("/")
    words = {
        "loss": "loss",
        "miou": "mIoU",
        "best_miou": "best mIoU",
        "lr": "learning rate",
        "confident": "confident pixels",
    }.get(name, name if "." in name or split == "train" else score_title(name))
    if words.startswith(("loss.", "iou.")):
        words = words.replace("iou.", "IoU ").replace("loss.", "loss: ")
    return words if split == "train" else f"val {words}"


def horizon(row: RunSummary | None, history: History) -> float | None:
    """Steps at the end of a live run; None for a run that has ended, whose curve is complete."""
    if row is not None and row.state not in LIVE:
        return None
    started = history.started
    epochs = row.epochs if row is not None and row.epochs is not None else started.epochs if started else None
    return float(epochs * started.steps_per_epoch) if started is not None and epochs else None


def axis_end(row: RunSummary | None, history: History) -> float | None:
    """Steps at the right end of the charts of a run, which is the same for all of them.

    For a run that has ended it is the last step. For a live run it is the last planned step, halved as long as the
    current step fits in it: otherwise the first epochs of a long run, which are watched most, would be a line at the
    left edge.

    Returns:
        None while the last planned step is unknown.
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
    """Series of one metric: over steps for one run, over images for several, which compares them fairly."""
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
    """The teacher's line and the score expected of its students, if all runs with a teacher have the same one."""
    split, _, name = metric.partition("/")
    name = name.removeprefix("best_")
    known = [row for run_id in ids if (row := rows.get(run_id)) is not None]
    if split != "val" or name not in {row.score for row in known} | {"miou"}:
        return ()
    teachers = {row.of_teacher(name) for row in known} - {None}
    if len(teachers) != 1:
        return ()
    score = teachers.pop()
    assert score is not None
    return (ReferenceLine(score, "teacher"), ReferenceLine(EXPECTED * score, f"{EXPECTED:.0%}"))
