"""The lower part of a comparison: curves, all numbers, what differs between the profiles, notes, mIoU by cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll

from kdtui.text import clean
from kdtui.tui.compared import Across, Compared, across
from kdtui.tui.screens.compare.pareto import ParetoPage
from kdtui.tui.widgets.line_chart import LineChart
from kdtui.tui.widgets.pages import Pages
from kdtui.tui.widgets.panel import Panel, TextLine
from kdtui.tui.widgets.table import Table

PAGES = ("curves", "numbers", "differs", "notes", "pareto")
WIDE = 110
"""From so many columns on the curves stand beside another page, but for the one that has a chart of its own."""
_NOTHING = "the profiles differ in names, tags and descriptions only"


class Room(Container):
    """Pages of one comparison. The keys are the screen's, so the chart takes no focus and its own keys with it.

    Attributes:
        chart: The curves.
        pareto: mIoU against what it costs.
    """

    DEFAULT_CSS = """
    Room { height: 1fr; }
    Room #pages { background: $surface; }
    Room #pane { height: 1fr; layout: horizontal; }
    Room #pane > * { display: none; width: 1fr; height: 1fr; padding: 0 1; }
    Room #pane.-curves > #chart, Room #pane.-wide > #chart { display: block; }
    Room #pane.-numbers > #numbers, Room #pane.-differs > #differs, Room #pane.-notes > #notes { display: block; }
    Room #pane.-pareto > #pareto { display: block; }
    Room #notes > Panel { padding: 0; }
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

        # Kept, not queried: what they show may arrive before they are composed.
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
        """The row of pages, and the pages."""
        yield self._pages
        with self._pane:
            yield self.chart
            yield from self._across.values()
            with VerticalScroll(id="notes"):
                yield self._notes
            yield self.pareto

    @property
    def page(self) -> str:
        """The page in front."""
        return self._page

    def turn(self, page: str) -> None:
        """Show a page; where there is room, the curves stay beside it."""
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
        """Set mIoU against the other cost."""
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
        """Show a comparison; nothing is written when it looks as before.

        Args:
            compared: Its rows.
            letters: Letter of each run.
            names: Name of every run of the store, by id.
            notes: Lines of the last page.
            against: What Δ is measured against.
        """
        self._compared, self._letters, self._names = compared, letters, names
        self._whole = {"numbers": compared.numbers(), "differs": compared.differing()}
        self._notes.show(notes)
        self._against = against
        self._name_page()
        self._fit()

    def look_at(self, index: int) -> None:
        """Keep the run of this rank, from 0, among the columns that are seen."""
        if index != self._at:
            self._at = index
            self._fit()

    def on_resize(self) -> None:
        """Beside each other where there is room."""
        self.turn(self._page)

    def on_pages_chosen(self, event: Pages.Chosen) -> None:
        """A page was clicked."""
        event.stop()
        self.turn(event.name)

    def row_under_cursor(self, table: str) -> str:
        """A row of `numbers` or `differs` with all its values, or a point of `points`, as one line."""
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
        """As many columns as fit."""
        for name, table in self._across.items():
            room = table.size.width
            if room:
                whole, titles = self._whole[name], self._titles(name)
                firm = len(titles) - len(self._compared.rows)
                columns, self._tables[name] = across(whole, titles, self._names, room, self._at, firm)
                table.set_columns(columns)
                table.show(list(self._tables[name]))
