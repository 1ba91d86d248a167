"""The page of curves: losses above, mIoU with the teacher's below, the numbers of now under them."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from kdtui.store.history import History
from kdtui.store.state import RunSummary, State
from kdtui.tui.panels import newest
from kdtui.tui.screens.run.charts import View, curves_of, views
from kdtui.tui.widgets.line import Line, Part
from kdtui.tui.widgets.line_chart import LineChart

_SCORE = View("validation mIoU", ("val/miou",))


class Curves(Vertical):
    """Shows a history. The keys are the screen's, so no chart takes the focus and its own keys with it."""

    DEFAULT_CSS = """
    Curves LineChart { height: 1fr; padding: 0 1; }
    Curves #newest { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: View | None = None
        self._views: list[View] = []

    def compose(self) -> ComposeResult:
        """Two charts and a line."""
        for name in ("losses", "scores"):
            chart = LineChart(id=name)
            chart.can_focus = False
            yield chart
        yield Line(id="newest")

    @property
    def upper(self) -> LineChart:
        """The chart whose curve is chosen."""
        return self.query_one("#losses", LineChart)

    @property
    def lower(self) -> LineChart:
        """The chart of the mIoU."""
        return self.query_one("#scores", LineChart)

    def show(self, row: RunSummary, history: History | None, *, partial: bool, dark: bool) -> None:
        """Show what is known now.

        Args:
            row: The run.
            history: None while it is not read.
            partial: Whether its beginning is still being read.
            dark: Whether the theme is.
        """
        self._views = views(history)
        view = self._view if self._view in self._views else next(iter(self._views), None)
        note = " · the beginning is being read" if partial else ""
        if history is None or view is None:
            self.upper.show((), title=_nothing(row, history))
            self.lower.show((), title="")
        else:
            at = f" · {self._views.index(view) + 1} of {len(self._views)}"
            self._draw(self.upper, view, row, history, note=f"{at}{note}", dark=dark)
            self._draw(self.lower, _SCORE, row, history, note=note, dark=dark)
        words = newest(row, history)
        self.query_one("#newest", Line).show([Part(words)] if words else [])

    def _draw(self, chart: LineChart, view: View, row: RunSummary, history: History, *, note: str, dark: bool) -> None:
        found = curves_of(view, row, history, dark=dark)
        title = f"{view.title}{note}"
        if view is _SCORE and not found.series:
            title = "validation mIoU: comes after the first epoch"
        chart.show(found.series, references=found.references, title=title, x_label=found.x_label, x_max=found.x_max)

    def step(self, by: int) -> None:
        """The next (1) or the former (-1) view is shown from the next :meth:`show` on."""
        if self._views:
            at = self._views.index(self._view) if self._view in self._views else 0
            self._view = self._views[(at + by) % len(self._views)]


def _nothing(row: RunSummary, history: History | None) -> str:
    """Why there is no curve."""
    if row.state is State.NEVER_LAUNCHED:
        return "never launched: R launches it"
    if row.state is State.QUEUED:
        return f"queued: {row.detail}" if row.detail else "queued"
    return "reading the events …" if history is None else "nothing measured yet"
