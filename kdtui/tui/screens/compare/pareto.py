"""The page of a comparison that sets mIoU against what it costs."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping
from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from kdtui.compare.named import mark
from kdtui.compare.pareto import COSTS, Pareto, cells
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.scatter import Dot, Scatter
from kdtui.tui.widgets.table import Cell, Column, Table

LETTERS = string.ascii_lowercase + "αβγδεζηθικλμνξοπρστυφχψω" + string.digits
"""Of the points, cheapest first; runs have capitals."""
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
    """A scatter plot beside the table of its points; what is to be known of them below.

    Attributes:
        cost: ``latency`` or ``parameters``.
        scatter: The plot.
        table: The points.
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
        """Plot, table, notes."""
        with Horizontal():
            yield self.scatter
            yield self.table
        yield self._notes

    def show(self, found: Mapping[str, Pareto], colours: Mapping[str, str], troubles: Collection[str]) -> None:
        """Show these points.

        Args:
            found: What :func:`kdtui.compare.pareto` says of each cost.
            colours: Of the runs, by id; a teacher has none.
            troubles: The notes among theirs that tell of something broken.
        """
        self._found, self._colours, self._troubles = found, colours, troubles
        self._fill()

    def switch(self) -> None:
        """Set mIoU against the other cost."""
        self.cost = COSTS[(COSTS.index(self.cost) + 1) % len(COSTS)]
        self._fill()

    def toggle_log(self) -> None:
        """A logarithmic or a linear cost."""
        self.scatter.log_x = not self.scatter.log_x
        self._draw()

    def on_resize(self) -> None:
        """More columns where there is room."""
        self.set_class(self.size.width >= 110, "-wide")

    def on_table_moved(self, event: Table.Moved) -> None:
        """The point under the cursor stands out; whoever moved it by its keys is told of it below."""
        if not self.table.has_focus:
            event.stop()
        self._draw()

    @property
    def row_under_cursor(self) -> str:
        """Which point it is, and what beats it."""
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
    """A teacher with its sign."""
    return f"◆ of {name.removeprefix('teacher of ')}" if role == "teacher" else name


def _short(runtime: str) -> str:
    return runtime.replace("onnxruntime", "ONNX")
