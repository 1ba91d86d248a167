"""The pages below a comparison: curves, all numbers, differing settings, notes, and mIoU against cost."""

from __future__ import annotations

import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, VerticalScroll

from kdtui.compare.measured import usable_measurements
from kdtui.compare.named import mark
from kdtui.compare.pareto import COSTS, Pareto, cells
from kdtui.errors import StoreError
from kdtui.store.files import brief
from kdtui.store.run import Run
from kdtui.text import clean
from kdtui.tui.run_states import RunStates
from kdtui.tui.views.compare import Across, Compared, across
from kdtui.tui.views.curves import metric_title, metrics, neighbour, shown
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.chart.scatter import Dot, Scatter
from kdtui.tui.widgets.choices import Pages
from kdtui.tui.widgets.panel import Panel, TextLine
from kdtui.tui.widgets.table import Cell, Column, Table

LETTERS = string.ascii_lowercase + "αβγδεζηθικλμνξοπρστυφχψω" + string.digits
"""Letters of the points, cheapest first; runs have upper-case letters."""
_MORE = "•"
_EMPTY = {"latency": "nothing measured: L does it", "parameters": "no run has a score yet"}
_UNITS = {"latency": (1e3, "ms"), "parameters": (1e-6, "M")}
_COLUMNS = {
    "run": Column("run", "run", 8, 44, grow=True),
    "runtime": Column("runtime", "runtime", 9, 9),
    "params": Column("params", "params", 7, 9, right=True, drop=3),
    "latency": Column("latency", "latency", 8, 10, right=True, drop=3),
    "mIoU": Column("mIoU", "mIoU", 6, 6, right=True),
    "dominated by": Column("dominated by", "dominated by", 14, 44, drop=9),
}


class ParetoPage(Container):
    """A scatter plot and the table of its points, with notes below.

    Attributes:
        cost: ``latency`` or ``parameters``.
        scatter: The scatter plot.
        table: The table of the points.
    """

    DEFAULT_CSS = """
    ParetoPage { layout: vertical; }
    ParetoPage > Horizontal { height: 1fr; }
    ParetoPage #points { width: 44; height: 1fr; margin-left: 1; }
    ParetoPage.-wide #points { width: 64; }
    ParetoPage > Panel { height: auto; max-height: 3; overflow-y: auto; padding: 0; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cost: str = COSTS[0]
        self._found: Mapping[str, Pareto] = {}
        self._colours: Mapping[str, str] = {}
        self._troubles: Collection[str] = ()
        self._lines: dict[str, list[Cell]] = {}
        self.scatter = Scatter(id="scatter")
        self.table = Table((), lambda key: self._lines[key], id="points")
        self._notes = Panel(wraps=True)

    def compose(self) -> ComposeResult:
        """Compose plot, table and notes."""
        with Horizontal():
            yield self.scatter
            yield self.table
        yield self._notes

    def show(self, found: Mapping[str, Pareto], colours: Mapping[str, str], troubles: Collection[str]) -> None:
        """Display these points.

        Args:
            found: Results of :func:`kdtui.compare.pareto` by cost.
            colours: Colours of the runs, by id; teachers have none.
            troubles: Those of the notes that report an error.
        """
        self._found, self._colours, self._troubles = found, colours, troubles
        self._fill()

    def switch(self) -> None:
        """Switch to the other cost."""
        self.cost = COSTS[(COSTS.index(self.cost) + 1) % len(COSTS)]
        self._fill()

    def toggle_log(self) -> None:
        """Switch between a linear and a logarithmic cost axis."""
        self.scatter.log_x = not self.scatter.log_x
        self._draw()

    def on_resize(self) -> None:
        """Make the table wider if there is room."""
        self.set_class(self.size.width >= 110, "-wide")

    def on_table_moved(self, event: Table.Moved) -> None:
        """Highlight the point under the cursor; the message is passed on only if the table has focus."""
        if not self.table.has_focus:
            event.stop()
        self._draw()

    @property
    def row_under_cursor(self) -> str:
        """Description of the point under the cursor, and of the point that dominates it."""
        key = self.table.cursor_key
        if key is None or key not in self._lines:
            return ""
        letter, star, name, runtime, *_, by = self._lines[key]
        beaten = f"dominated by {by.text}" if by.text else "nothing beats it in both"
        return f"{letter.text} {star.text} {name.text}, {runtime.text}: {beaten}"

    def _fill(self) -> None:
        found = self._found.get(self.cost)
        header, body = cells(found) if found is not None else (["", *_COLUMNS], [])
        columns = [Column("letter", "", 1, 1), Column("front", "", 1, 1)]
        own = "latency" if self.cost == "latency" else "params"
        columns += [replace(_COLUMNS[title], drop=0) if title == own else _COLUMNS[title] for title in header[1:]]
        self._lines = {}
        points = found.points if found is not None else ()
        called = {point.label: f"{_named(point.called, point.role)}, {_short(point.runtime)}" for point in points}
        for place, line in enumerate(body):
            style = "text-muted" if line[0] != "★" else ""
            star, name, runtime, *numbers, by = line
            point = points[place]
            who = Cell(_named(name, point.role), style, mark(point.called, point.name))
            front = [Cell(text, style) for text in (_letter(place), star)]
            texts = [_short(runtime), *numbers, called.get(by, by)]
            self._lines[str(place)] = [*front, who, *(Cell(text, style) for text in texts)]
        self.table.set_columns(columns)
        self.table.show(list(self._lines))
        notes = found.notes if found else ()
        self._notes.show([((f"· {text}", "bad" if text in self._troubles else "muted"),) for text in notes])
        self._draw()

    def _draw(self) -> None:
        found = self._found.get(self.cost)
        scale, unit = _UNITS[self.cost]
        dots = [
            Dot(
                str(place),
                _letter(place),
                (point.cost(self.cost) or 0.0) * scale,
                point.miou,
                self._colours.get(point.run, "") if point.role == "student" else "",
                point.dominated_by is None,
            )
            for place, point in enumerate(found.points if found is not None else ())
        ]
        log = " · log" if self.scatter.log_x else ""
        title = f"mIoU by {self.cost}, {unit}{log}  ─ front"
        self.scatter.show(dots, title=title, empty=_EMPTY[self.cost], selected=self.table.cursor_key)


def _letter(place: int) -> str:
    return LETTERS[place] if place < len(LETTERS) else _MORE


def _named(name: str, role: str) -> str:
    """Name of a point; that of a teacher has a symbol."""
    return f"◆ of {name.removeprefix('teacher of ')}" if role == "teacher" else name


def _short(runtime: str) -> str:
    return runtime.replace("onnxruntime", "ONNX")


PAGES = ("curves", "numbers", "differs", "notes", "pareto")
WIDE = 110
"""Width in columns from which on the curves are displayed next to another page, unless that has its own chart."""
_NOTHING = "the profiles differ in names, tags and descriptions only"


class ComparisonPages(Container):
    """The pages of a comparison. The keys belong to the screen, so the chart cannot have focus.

    Attributes:
        chart: The chart of the curves.
        pareto: The page of mIoU against cost.
    """

    DEFAULT_CSS = """
    ComparisonPages { height: 1fr; }
    ComparisonPages #pages { background: $surface; }
    ComparisonPages #pane { height: 1fr; layout: horizontal; }
    ComparisonPages #pane > * { display: none; width: 1fr; height: 1fr; padding: 0 1; }
    ComparisonPages #pane.-curves > #chart, ComparisonPages #pane.-wide > #chart { display: block; }
    ComparisonPages #pane.-numbers > #numbers, ComparisonPages #pane.-differs > #differs,
    ComparisonPages #pane.-notes > #notes { display: block; }
    ComparisonPages #pane.-pareto > #pareto { display: block; }
    ComparisonPages #notes > Panel { padding: 0; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._page = PAGES[0]
        self._side = "differs"
        self._compared = Compared(None, {}, {}, {})
        self._letters: Mapping[str, str] = {}
        self._names: Mapping[str, str] = {}
        self._at = 0
        self._against = ""
        self._tables: dict[str, Across] = {"numbers": {}, "differs": {}}
        self._whole: dict[str, Across] = {"numbers": {}, "differs": {}}

        # Attributes, not queries: `show` may be called before they are composed.
        self.chart = LineChart(id="chart")
        self.chart.can_focus = False
        self._pages = Pages(PAGES, id="pages")
        self._pane = Container(id="pane", classes="-curves")
        self._notes = Panel(wraps=True)
        self.pareto = ParetoPage(id="pareto")
        self._across = {
            "numbers": Table((), lambda key: self._tables["numbers"][key], empty="no numbers yet", id="numbers"),
            "differs": Table((), lambda key: self._tables["differs"][key], empty=_NOTHING, id="differs"),
        }

    def compose(self) -> ComposeResult:
        """Compose the tabs and the pages."""
        yield self._pages
        with self._pane:
            yield self.chart
            yield from self._across.values()
            with VerticalScroll(id="notes"):
                yield self._notes
            yield self.pareto

    @property
    def page(self) -> str:
        """The selected page."""
        return self._page

    def turn(self, page: str) -> None:
        """Select a page; if there is room, the curves are displayed next to it."""
        self._page = page
        self._side = self._side if page in ("curves", "pareto") else page
        wide = self.size.width >= WIDE and page != "pareto"
        shown = self._side if wide else page
        self._pane.set_classes(["-wide", f"-{shown}"] if wide else [f"-{shown}"])
        self._name_page()
        self.call_after_refresh(self._fit)

    def _name_page(self) -> None:
        words = f"Δ against {self._against}"
        if self._page == "pareto":
            words = f"p by {'parameters' if self.pareto.cost == 'latency' else 'latency'} · l log"
        self._pages.show(self._page, None, clean(words))

    def switch_cost(self) -> None:
        """Switch to the other cost."""
        self.pareto.switch()
        self._name_page()

    def show(
        self,
        compared: Compared,
        letters: Mapping[str, str],
        names: Mapping[str, str],
        notes: Sequence[TextLine],
        against: str,
    ) -> None:
        """Display a comparison; nothing is redrawn if it is unchanged.

        Args:
            compared: The comparison.
            letters: Letter of each run.
            names: Name of every run of the store, by id.
            notes: Lines of the page of notes.
            against: Name of the baseline of Δ.
        """
        self._compared, self._letters, self._names = compared, letters, names
        self._whole = {"numbers": compared.numbers(), "differs": compared.differing()}
        self._notes.show(notes)
        self._against = against
        self._name_page()
        self._fit()

    def look_at(self, index: int) -> None:
        """Keep the run of this rank, counted from 0, among the visible columns."""
        if index != self._at:
            self._at = index
            self._fit()

    def on_resize(self) -> None:
        """Update the layout for the new size."""
        self.turn(self._page)

    def on_pages_chosen(self, event: Pages.Chosen) -> None:
        """Select the clicked page."""
        event.stop()
        self.turn(event.name)

    def row_under_cursor(self, table: str) -> str:
        """Description of the row under the cursor of the table `numbers`, `differs` or `points`, in one line."""
        if table == "points":
            return self.pareto.row_under_cursor
        key = self._across[table].cursor_key
        if key is None or key not in self._whole[table]:
            return ""
        label, *cells = self._whole[table][key]
        told = [f"{title.split()[0]} {cell.text}" for title, cell in zip(self._titles(table), cells, strict=True)]
        return f"{label.text}: {'   '.join(told)}"

    def _titles(self, table: str) -> list[str]:
        compared = self._compared
        taught = [f"◆ {teacher.name}" for teacher in compared.taught_by if table == "numbers"]
        return taught + [f"{self._letters[row.id]} {compared.named[row.id]}" for row in compared.rows]

    def _fit(self) -> None:
        """Update the columns to those that fit."""
        for name, table in self._across.items():
            room = table.size.width
            if room:
                whole, titles = self._whole[name], self._titles(name)
                firm = len(titles) - len(self._compared.rows)
                columns, self._tables[name] = across(whole, titles, self._names, room, self._at, firm)
                table.set_columns(columns)
                table.show(list(self._tables[name]))


class Curves:
    """The displayed metric and its curves.

    Args:
        chart: The chart for the curves.
        ids: Ids of the runs; they may have been removed.
    """

    def __init__(self, chart: LineChart, ids: Sequence[str]) -> None:
        self._chart = chart
        self._ids = ids
        self._metric = "val/miou"

    def draw(self, board: RunStates, letters: Mapping[str, str], named: Mapping[str, str], *, dark: bool) -> None:
        """Draw the curves.

        Args:
            board: States of the runs.
            letters: Letter of each run.
            named: Short name of each run, if it has one.
            dark: Whether the theme is dark.
        """
        ids = [run_id for run_id in self._ids if run_id in board.rows]
        found = shown(self._metric, self._ids, board.rows, board.histories, letters, dark=dark)
        notes = [f"{named.get(run_id, run_id)}: {board.broken[run_id]}" for run_id in ids if run_id in board.broken]
        if any(run_id in board.partial for run_id in ids):
            notes.append("the beginning is being read")
        if not found.series:
            notes.append("no run has measured it yet")
        self._chart.show(
            [replace(one, label=named.get(one.key, one.label)) for one in found.series],
            references=found.references,
            title=" · ".join([metric_title(self._metric), *notes]),
            x_label=found.x_label,
            x_max=found.x_max,
        )

    def step(self, by: int, board: RunStates) -> None:
        """Select the next or previous metric of the runs, without drawing it."""
        names = metrics(history for run_id in self._ids if (history := board.histories.get(run_id)))
        self._metric = neighbour(self._metric, names, by)


@dataclass
class Folders:
    """Data read from the folders of runs, by id of the run.

    Attributes:
        profiles: Profiles as tables.
        troubles: Why a profile cannot be read.
        measurements: Measurements of the measured runs.
        unmeasured: Why the measurements cannot be used, as a sentence.
    """

    profiles: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    measurements: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)


def read_folders(runs: Iterable[Run]) -> Folders:
    """Read profiles and measurements; damaged ones are reported in the result, not raised."""
    found = Folders()
    for run in runs:
        try:
            found.profiles[run.id] = run.profile_table()
        except StoreError as error:
            found.troubles[run.id] = brief(error)
        measured, trouble = usable_measurements(run)
        if measured is not None:
            found.measurements[run.id] = measured
        if trouble:
            found.unmeasured[run.id] = trouble
    return found
