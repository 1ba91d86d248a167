"""What the two charts of one run show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdtui.store.history import History
from kdtui.store.state import RunSummary
from kdtui.tui.colours import curve_colour, curve_dash
from kdtui.tui.curves import Shown, axis_end, metric_title, shown
from kdtui.tui.panels import loss_views
from kdtui.tui.widgets.line_chart import Series


@dataclass(frozen=True)
class View:
    """One thing the upper chart can show.

    Attributes:
        title: Of the chart.
        names: Curves of the history that share it.
    """

    title: str
    names: tuple[str, ...]


def views(history: History | None) -> list[View]:
    """All of them: losses first, then every other curve by itself."""
    names = list(history.curves) if history is not None else []
    val = [name for name in names if not name.startswith(("train/", "val/best_"))]
    found = [View(title or metric_title(curves[0]), curves) for title, curves in loss_views(names)]
    return found + [View(metric_title(name), (name,)) for name in val]


def curves_of(view: View, row: RunSummary, history: History, *, dark: bool) -> Shown:
    """The series of a view, by steps, and the lines to read them against."""
    if len(view.names) == 1:
        only = shown(view.names[0], [row.id], {row.id: row}, {row.id: history}, {}, dark=dark)
        label = metric_title(view.names[0]).removeprefix("val ")
        series = tuple(replace(one, key=view.names[0], letter="●", label=label) for one in only.series)
        return replace(only, series=series)
    letters = _letters([_term(name) for name in view.names])
    found = [
        Series(
            key=name,
            letter=letter,
            label=_term(name),
            xs=curve.steps,
            ys=curve.values,
            colour=curve_colour(index, dark=dark),
            dash=curve_dash(index),
        )
        for index, (name, letter) in enumerate(zip(view.names, letters, strict=True))
        if (curve := history.curves.get(name)) is not None and len(curve)
    ]
    return Shown(tuple(found), (), "steps", axis_end(row, history))


def _term(name: str) -> str:
    """`train/loss.distill.bg_fg` is `bg_fg`, `train/loss` is `total`."""
    last = name.removeprefix("train/").split(".")[-1]
    return {"loss": "total", "distill": "distillation"}.get(last, last)


def _letters(words: Sequence[str]) -> list[str]:
    """The first letter of each word that no word before it has."""
    taken: list[str] = []
    for word in words:
        free = (letter for letter in word.upper() if letter.isalpha() and letter not in taken)
        taken.append(next(free, "·"))
    return taken
