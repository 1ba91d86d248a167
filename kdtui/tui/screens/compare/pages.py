"""The pages below a comparison: curves, all numbers, differing settings, notes, and mIoU against cost."""

from __future__ import annotations

import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, VerticalScroll
from textual.widget import Widget

from kdtui.compare import Group
from kdtui.compare.measured import usable_measurements
from kdtui.compare.named import lettered, mark
from kdtui.compare.pareto import COSTS, Pareto, cells
from kdtui.errors import StoreError
from kdtui.plugins import imported
from kdtui.store.files import brief
from kdtui.store.run import Run
from kdtui.text import clean, score_title
from kdtui.tui.keys import PAGES
from kdtui.tui.run_states import RunStates
from kdtui.tui.values import Cell, Column, TextLine
from kdtui.tui.views.compare import VALUE, Across, Compared, ComparedTeacher, across
from kdtui.tui.views.curves import metric_title, metrics, neighbour, shown
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.chart.scatter import Dot, Scatter
from kdtui.tui.widgets.choices import Pages
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.table import Table

LETTERS = string.ascii_lowercase + "αβγδεζηθικλμνξοπρστυφχψω" + string.digits
"""Letters of the points, cheapest first; runs have upper-case letters."""
_MORE = "•"
_EMPTY = {"latency": "not measured: press L", "parameters": "no run has a score yet"}
_UNITS = {"latency": (1e3, "ms"), "parameters": (1e-6, "M")}
_COLUMNS = {
    "run": Column("run", "run", 8, 44, grow=True),
    "runtime": Column("runtime", "runtime", 9, 9),
    "params": Column("params", "params", 7, 9, right=True, drop=3),
    "latency": Column("latency", "latency", 8, 10, right=True, drop=3),
    "mIoU": Column("mIoU", "mIoU", 6, 6, right=True),
    "dominated by": Column("dominated by", "dominated by", 14, 44, drop=9),
}


WIDE = 110
"""Width in columns from which on the curves are displayed next to another page, unless that has its own chart."""
_NOTHING = "the profiles differ only in names, tags and descriptions"


@dataclass(frozen=True)
class ComparisonView:
    """What the pages of a comparison display.

    Attributes:
        compared: The comparison.
        ids: Ids of the runs; they may have been removed.
        letters: Letter of each run.
        names: Name of every run of the store, by id.
        colours: Colour of each run; teachers have none.
        notes: Lines of the page of notes.
        against: Name of the baseline of Δ.
        fronts: Results of :func:`kdtui.compare.pareto` by cost.
        troubles: Those of the notes that report an error.
    """

    compared: Compared = field(default_factory=lambda: Compared(None, {}, {}, {}))
    ids: Sequence[str] = ()
    letters: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[TextLine] = ()
    against: str = ""
    fronts: Mapping[str, Pareto] = field(default_factory=dict)
    troubles: Collection[str] = ()


class ComparePage(Widget):
    """A page of a comparison; :data:`kdtui.tui.keys.PAGES` lists them.

    Attributes:
        WITH_CURVES: Whether the curves are displayed next to it if there is room.
    """

    WITH_CURVES: ClassVar[bool] = True

    def show(self, view: ComparisonView) -> None:
        """Display a comparison."""
        raise NotImplementedError

    def fit(self, rank: int) -> None:
        """Update for a new width, or the rank of the run under the cursor, counted from 0."""

    def options(self) -> tuple[str, ...]:
        """Options of ``kdtui compare`` that print what the page displays."""
        return ()

    def remark(self, against: str) -> str:
        """Text to the right of the tabs."""
        return f"Δ vs {against}"

    def row_under_cursor(self) -> str | None:
        """Description of the row under the cursor, in one line; None if no table of the page has the focus."""
        return None

    def step_metric(self, by: int) -> bool:
        """Display the next (1) or previous (-1) metric; False to change that of the curves."""
        return False

    def toggle_log(self) -> bool:
        """Switch an axis between linear and logarithmic; False to switch that of the curves."""
        return False


class ComparisonCurves(Container, ComparePage):
    """One metric of all runs. The keys belong to the screen, so the chart cannot have focus.

    Attributes:
        chart: The chart.
    """

    def __init__(self) -> None:
        super().__init__(id="curves")
        self.chart = LineChart(id="chart")
        self.chart.can_focus = False
        self._metric = "val/miou"
        self._view = ComparisonView()

    def compose(self) -> ComposeResult:
        """Compose the chart."""
        yield self.chart

    def show(self, view: ComparisonView) -> None:
        """Take the names and letters of the runs, which the next call of :meth:`draw` displays."""
        self._view = view

    def draw(self, board: RunStates, letters: Mapping[str, str], *, dark: bool) -> None:
        """Draw the curves.

        Args:
            board: States of the runs.
            letters: Letter of each run.
            dark: Whether the theme is dark.
        """
        ids, named = self._view.ids, self._view.compared.named
        here = [run_id for run_id in ids if run_id in board.rows]
        found = shown(self._metric, ids, board.rows, board.histories, letters, dark=dark)
        notes = [f"{named.get(run_id, run_id)}: {board.broken[run_id]}" for run_id in here if run_id in board.broken]
        if any(run_id in board.partial for run_id in here):
            notes.append("reading the beginning")
        if not found.series:
            notes.append("no run has this metric yet")
        self.chart.show(
            [replace(one, label=named.get(one.key, one.label)) for one in found.series],
            references=found.references,
            title=" · ".join([metric_title(self._metric), *notes]),
            x_label=found.x_label,
            x_max=found.x_max,
        )

    def step(self, by: int, board: RunStates) -> None:
        """Select the next or previous metric of the runs, without drawing it."""
        names = metrics(history for run_id in self._view.ids if (history := board.histories.get(run_id)))
        self._metric = neighbour(self._metric, names, by)


class AcrossPage(Container, ComparePage):
    """A table with one column for each run, of which those that fit are displayed.

    Attributes:
        NAME: Id of the table.
        EMPTY: Text of an empty table.
        WIDTHS: Minimum and maximum width of a column.
    """

    NAME: ClassVar[str]
    EMPTY: ClassVar[str]
    WIDTHS: ClassVar[tuple[int, int]] = VALUE

    def __init__(self) -> None:
        super().__init__()
        self._view = ComparisonView()
        self._whole: Across = {}
        self._lines: Across = {}
        self._rank = 0
        self.table = Table((), lambda key: self._lines[key], empty=self.EMPTY, id=self.NAME)

    def compose(self) -> ComposeResult:
        """Compose the table."""
        yield self.table

    def rows(self, compared: Compared) -> Across:
        """All rows of the table."""
        raise NotImplementedError

    def teachers(self, compared: Compared) -> Sequence[ComparedTeacher]:
        """Teachers with a column of their own, before those of the runs."""
        return ()

    def column(self, rank: int) -> int:
        """The column to keep visible for the run of a rank, counted from 0."""
        return rank

    def show(self, view: ComparisonView) -> None:
        """Display a comparison; nothing is redrawn if it is unchanged."""
        self._view, self._whole = view, self.rows(view.compared)
        self.fit(self._rank)

    def fit(self, rank: int) -> None:
        """Update the columns to those that fit, with that of the run under the cursor."""
        self._rank = rank
        room = self.table.size.width
        if room:
            titles, firm = self._titles(), len(self.teachers(self._view.compared))
            at = self.column(rank)
            columns, self._lines = across(self._whole, titles, self._view.names, room, at, firm, self.WIDTHS)
            self.table.set_columns(columns)
            self.table.show(list(self._lines))

    def row_under_cursor(self) -> str | None:
        """Description of the row under the cursor, with the values of all runs."""
        if not self.table.has_focus:
            return None
        key = self.table.cursor_key
        if key is None or key not in self._whole:
            return ""
        label, *values = self._whole[key]
        parts = [f"{title.split()[0]} {cell.text}" for title, cell in zip(self._titles(), values, strict=True)]
        return f"{label.text}: {'   '.join(parts)}"

    def _titles(self) -> list[str]:
        compared = self._view.compared
        taught = [f"◆ {teacher.name}" for teacher in self.teachers(compared)]
        return taught + [f"{self._view.letters[row.id]} {compared.named[row.id]}" for row in compared.rows]


class ComparisonNumbers(AcrossPage):
    """All numbers of runs and teachers."""

    NAME, EMPTY = "numbers", "no numbers yet"

    def rows(self, compared: Compared) -> Across:
        """One row for each number."""
        return compared.numbers()

    def teachers(self, compared: Compared) -> Sequence[ComparedTeacher]:
        """All teachers."""
        return compared.taught_by


class Differences(AcrossPage):
    """The settings in which the profiles differ."""

    NAME, EMPTY = "differs", _NOTHING

    def rows(self, compared: Compared) -> Across:
        """One row for each setting."""
        return compared.differing()


class ComparedClasses(AcrossPage):
    """The Δ of each class with its interval, with a column for each group of runs."""

    NAME, EMPTY, WIDTHS = "classes", "no Δ has an interval yet", (27, 30)

    def rows(self, compared: Compared) -> Across:
        """One row for each class."""
        return compared.classes()

    def column(self, rank: int) -> int:
        """That of the group of the run."""
        runs = self._view.compared.rows[rank : rank + 1]
        groups = [group.runs for group in self._groups()]
        return next((place for place, group in enumerate(groups) if any(run.id in group for run in runs)), 0)

    def options(self) -> tuple[str, ...]:
        """The option of ``kdtui compare`` that prints the table."""
        return ("--per-class",)

    def _titles(self) -> list[str]:
        return [lettered(group.name, group.runs, self._view.letters) for group in self._groups()]

    def _groups(self) -> list[Group]:
        comparison = self._view.compared.comparison
        return [] if comparison is None else [group for group in comparison.groups if group.classes]


class ComparisonNotes(VerticalScroll, ComparePage):
    """Seeds, and reasons why a Δ may be unfair."""

    def __init__(self) -> None:
        super().__init__(id="notes")
        self._panel = Panel(wraps=True)

    def compose(self) -> ComposeResult:
        """Compose the lines."""
        yield self._panel

    def show(self, view: ComparisonView) -> None:
        """Display the lines."""
        self._panel.show(view.notes)


class ParetoPage(Container, ComparePage):
    """A scatter plot and the table of its points, with notes below.

    Attributes:
        cost: ``latency`` or ``parameters``.
        scatter: The scatter plot.
        table: The table of the points.
    """

    WITH_CURVES = False
    DEFAULT_CSS = """
    ParetoPage { layout: vertical; }
    ParetoPage > Horizontal { height: 1fr; }
    ParetoPage #points { width: 44; height: 1fr; margin-left: 1; }
    ParetoPage.-wide #points { width: 64; }
    ParetoPage > Panel { height: auto; max-height: 3; overflow-y: auto; padding: 0; }
    """

    def __init__(self) -> None:
        super().__init__(id="pareto")
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

    def show(self, view: ComparisonView) -> None:
        """Display the points."""
        self._found, self._colours, self._troubles = view.fronts, view.colours, view.troubles
        self._fill()

    def options(self) -> tuple[str, ...]:
        """The option of ``kdtui compare`` that prints the points."""
        return ("--pareto", self.cost)

    def remark(self, against: str) -> str:
        """The keys of the page."""
        return f"p by {'parameters' if self.cost == 'latency' else 'latency'} · l log"

    def step_metric(self, by: int) -> bool:
        """Switch to the other cost."""
        self.cost = COSTS[(COSTS.index(self.cost) + 1) % len(COSTS)]
        self._fill()
        return True

    def toggle_log(self) -> bool:
        """Switch between a linear and a logarithmic cost axis."""
        self.scatter.log_x = not self.scatter.log_x
        self._draw()
        return True

    def on_resize(self) -> None:
        """Make the table wider if there is room."""
        self.set_class(self.size.width >= 110, "-wide")

    def on_table_moved(self, event: Table.Moved) -> None:
        """Highlight the point under the cursor; the message is passed on only if the table has focus."""
        if not self.table.has_focus:
            event.stop()
        self._draw()

    def row_under_cursor(self) -> str | None:
        """Description of the point under the cursor, and of the point that dominates it."""
        if not self.table.has_focus:
            return None
        key = self.table.cursor_key
        if key is None or key not in self._lines:
            return ""
        letter, star, name, runtime, *_, by = self._lines[key]
        beaten = f"dominated by {by.text}" if by.text else "not dominated"
        return f"{letter.text} {star.text} {name.text}, {runtime.text}: {beaten}"

    def _fill(self) -> None:
        found = self._found.get(self.cost)
        header, body = cells(found) if found is not None else (["", *_COLUMNS], [])
        columns = [Column("letter", "", 1, 1), Column("front", "", 1, 1)]
        own = "latency" if self.cost == "latency" else "params"
        columns += [replace(_column(title), drop=0) if title == own else _column(title) for title in header[1:]]
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
                point.score,
                self._colours.get(point.run, "") if point.role == "student" else "",
                point.dominated_by is None,
            )
            for place, point in enumerate(found.points if found is not None else ())
        ]
        log = " · log" if self.scatter.log_x else ""
        score = score_title("miou" if found is None else found.score)
        title = f"{score} by {self.cost}, {unit}{log}  ─ front"
        self.scatter.show(dots, title=title, empty=_EMPTY[self.cost], selected=self.table.cursor_key)


def _column(title: str) -> Column:
    """The column of a title; one that is not known is that of a score."""
    return _COLUMNS.get(title) or Column(title, title, 6, len(title), right=True)


def _letter(place: int) -> str:
    return LETTERS[place] if place < len(LETTERS) else _MORE


def _named(name: str, role: str) -> str:
    """Name of a point; that of a teacher has a symbol."""
    return f"◆ of {name.removeprefix('teacher of ')}" if role == "teacher" else name


def _short(runtime: str) -> str:
    return runtime.replace("onnxruntime", "ONNX")


class ComparisonPages(Container):
    """The tabs and the pages of a comparison.

    Attributes:
        page: Name of the selected page.
        pages: The pages by name.
    """

    DEFAULT_CSS = """
    ComparisonPages { height: 1fr; }
    ComparisonPages #pages { background: $surface; }
    ComparisonPages #pane { height: 1fr; layout: horizontal; }
    ComparisonPages #pane > * { width: 1fr; height: 1fr; padding: 0 1; }
    ComparisonPages #notes > Panel { padding: 0; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        # Attributes, not queries: `show` may be called before they are composed.
        self.pages: dict[str, ComparePage] = {page.name: imported(page.implementation)() for page in PAGES["compare"]}
        self.page, self._side = "curves", "differs"
        for name, page in self.pages.items():
            page.display = name == self.page
        self._against = ""
        self._rank = 0
        self._tabs = Pages(tuple(self.pages), id="pages")

    def compose(self) -> ComposeResult:
        """Compose the tabs and the pages."""
        yield self._tabs
        with Container(id="pane"):
            yield from self.pages.values()

    @property
    def selected(self) -> ComparePage:
        """The selected page."""
        return self.pages[self.page]

    @property
    def curves(self) -> ComparisonCurves:
        """The page of curves."""
        page = self.pages["curves"]
        assert isinstance(page, ComparisonCurves)
        return page

    def turn(self, page: str) -> None:
        """Select a page; if there is room, the curves are displayed next to it."""
        self.page = page
        beside_curves = self.size.width >= WIDE and self.selected.WITH_CURVES
        if page != "curves" and self.selected.WITH_CURVES:
            self._side = page
        displayed = ("curves", self._side) if beside_curves else (page,)
        for name, widget in self.pages.items():
            widget.display = name in displayed
        self.name_page()
        self.call_after_refresh(self._fit)

    def name_page(self) -> None:
        """Update the tabs and the text next to them."""
        self._tabs.show(self.page, None, clean(self.selected.remark(self._against)))

    def show(self, view: ComparisonView) -> None:
        """Display a comparison on all pages."""
        self._against = view.against
        for page in self.pages.values():
            page.show(view)
        self.name_page()

    def select_row(self, rank: int) -> None:
        """Keep the run of this rank, counted from 0, among the visible columns."""
        if rank != self._rank:
            self._rank = rank
            self._fit()

    def row_under_cursor(self) -> str | None:
        """Description of the row under the cursor of the table with the focus; None if it is not on a page."""
        return next((text for page in self.pages.values() if (text := page.row_under_cursor()) is not None), None)

    def on_resize(self) -> None:
        """Update the layout for the new size."""
        self.turn(self.page)

    def on_pages_chosen(self, event: Pages.Chosen) -> None:
        """Select the clicked page."""
        event.stop()
        self.turn(event.name)

    def _fit(self) -> None:
        for page in self.pages.values():
            page.fit(self._rank)


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
