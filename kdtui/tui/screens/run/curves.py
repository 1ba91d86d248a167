"""The page of curves: losses, the mIoU with the teacher's, and the newest numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from textual.app import ComposeResult
from textual.containers import Vertical

from kdtui.store.history import History
from kdtui.store.state import RunSummary, State
from kdtui.text import score_title
from kdtui.tui.screens.run.page import RunPage, RunView
from kdtui.tui.values import Part, Series
from kdtui.tui.views.colours import curve_colour, curve_dash
from kdtui.tui.views.curves import Shown, axis_end, metric_title, shown
from kdtui.tui.views.panels import LOSS_NAMES, loss_views, newest
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.line import Line


@dataclass(frozen=True)
class View:
    """One view of the upper chart.

    Attributes:
        title: Title of the chart.
        names: Names of the curves in it.
    """

    title: str
    names: tuple[str, ...]


def views(history: History | None) -> list[View]:
    """All views: losses first, then every other curve on its own."""
    names = list(history.curves) if history is not None else []
    val = [name for name in names if not name.startswith(("train/", "val/best_"))]
    found = [View(title or metric_title(curves[0]), curves) for title, curves in loss_views(names)]
    return found + [View(metric_title(name), (name,)) for name in val]


def curves_of(view: View, row: RunSummary, history: History, *, dark: bool) -> Shown:
    """The series of a view, over steps, and its reference lines."""
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
    loss = name.removeprefix("train/")
    return LOSS_NAMES.get(loss, loss.rpartition(".")[2])


def _letters(words: Sequence[str]) -> list[str]:
    """For each word its first letter that no earlier word uses."""
    taken: list[str] = []
    for word in words:
        free = (letter for letter in word.upper() if letter.isalpha() and letter not in taken)
        taken.append(next(free, "·"))
    return taken


def score_view(row: RunSummary) -> View:
    """The lower chart: the score that determines the best epoch."""
    return View(f"validation {score_title(row.score)}", (f"val/{row.score}",))


class Curves(Vertical, RunPage):
    """Displays a history. The keys belong to the screen, so no chart can have focus."""

    HINT = "m next curve   z Z zoom   [ ] read values   l logarithmic   , . smooth"
    DEFAULT_CSS = """
    Curves LineChart { height: 1fr; padding: 0 1; }
    Curves #newest { padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="curves")
        self._view: View | None = None
        self._views: list[View] = []

    def compose(self) -> ComposeResult:
        """Compose two charts and a line."""
        for name in ("losses", "scores"):
            chart = LineChart(id=name)
            chart.can_focus = False
            yield chart
        yield Line(id="newest")

    @property
    def upper(self) -> LineChart:
        """The chart with the selected view."""
        return self.query_one("#losses", LineChart)

    @property
    def lower(self) -> LineChart:
        """The chart of the mIoU."""
        return self.query_one("#scores", LineChart)

    def beside(self, *, wide: bool, tall: bool) -> tuple[str, ...]:
        """The numbers to the right of the curves and the log below, if there is room."""
        return ("numbers", "log") if wide and tall else ("numbers",) if wide else ()

    def show(self, view: RunView) -> None:
        """Display the curves."""
        row, history, dark = view.row, view.history, view.dark
        self._views = views(history)
        chosen = self._view if self._view in self._views else next(iter(self._views), None)
        note = " · reading the beginning" if view.partial else ""
        if history is None or chosen is None:
            self.upper.show((), title=_nothing(row, history))
            self.lower.show((), title="")
        else:
            at = f" · {self._views.index(chosen) + 1} of {len(self._views)}"
            self._draw(self.upper, chosen, row, history, note=f"{at}{note}", dark=dark)
            self._draw(self.lower, score_view(row), row, history, note=note, dark=dark)
        words = newest(row, history)
        self.query_one("#newest", Line).show([Part(words)] if words else [])

    def _draw(self, chart: LineChart, view: View, row: RunSummary, history: History, *, note: str, dark: bool) -> None:
        found = curves_of(view, row, history, dark=dark)
        title = f"{view.title}{note}"
        if chart is self.lower and not found.series:
            title = f"{view.title}: available after the first epoch"
        chart.show(found.series, references=found.references, title=title, x_label=found.x_label, x_max=found.x_max)

    def step(self, by: int) -> None:
        """Select the next (1) or previous (-1) view, which the next call of :meth:`show` displays."""
        if self._views:
            at = self._views.index(self._view) if self._view in self._views else 0
            self._view = self._views[(at + by) % len(self._views)]


def _nothing(row: RunSummary, history: History | None) -> str:
    """Why there is no curve."""
    if row.state is State.NEVER_LAUNCHED:
        return "never launched: press R to launch it"
    if row.state is State.QUEUED:
        return f"queued: {row.detail}" if row.detail else "queued"
    return "reading the events …" if history is None else "no values yet"
