"""A scatter plot: points marked by letters, and their Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from kdtui.text import one_line
from kdtui.tui.widgets.chart.painter import Canvas
from kdtui.tui.widgets.chart.scale import Axis, linear_axis, log_axis
from kdtui.tui.widgets.columns import cut

_LEAST = (16, 5)
"""Columns and rows below which only the title is drawn."""
_BESIDE = ((0, 0), (1, 0), (-1, 0), (2, 0), (-2, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Offsets tried for a letter whose cell is taken: columns, rows."""


@dataclass(frozen=True)
class Dot:
    """A point.

    Attributes:
        key: Identifies the point for :meth:`Scatter.show`.
        letter: One terminal column.
        colour: A colour such as ``#56b4e9``, or empty.
        front: Whether it is on the Pareto front (y is maximised, x minimised): connected by the line, and not dimmed.
    """

    key: str
    letter: str
    x: float
    y: float
    colour: str = ""
    front: bool = True


@dataclass(frozen=True)
class Cloud:
    """Content of a scatter plot.

    Attributes:
        title: Describes x and y.
        empty: Text displayed without points.
        selected: Key of the highlighted point.
        log: Whether x is logarithmic.
        limit: A value of x that is marked by a vertical line, such as a budget; None for no line.
    """

    dots: tuple[Dot, ...] = ()
    title: str = ""
    empty: str = ""
    selected: str | None = None
    log: bool = False
    limit: float | None = None


class Scatter(Widget):
    """A scatter plot that fills its container and redraws only changed rows.

    Attributes:
        cloud: What it displays.
        log_x: Whether x is logarithmic; has no effect if an x is not above 0.
    """

    DEFAULT_CSS = """
    Scatter {
        width: 1fr;
        height: 1fr;
        & > .scatter--axis { color: $text-muted; }
        & > .scatter--front { color: $text-muted; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"scatter--axis", "scatter--front"}
    ALLOW_SELECT = False

    log_x: reactive[bool] = reactive(False, repaint=False, init=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cloud = Cloud()
        self._canvas = Canvas(0, 0)

    def show(
        self,
        dots: Sequence[Dot],
        *,
        title: str = "",
        empty: str = "",
        selected: str | None = None,
        limit: float | None = None,
    ) -> None:
        """Display these points; nothing is redrawn if they look the same."""
        self.cloud = Cloud(tuple(dots), title, empty, selected, self.log_x, limit)
        self._advance()

    def watch_log_x(self) -> None:
        """Redraw with the other scale."""
        cloud = self.cloud
        self.show(cloud.dots, title=cloud.title, empty=cloud.empty, selected=cloud.selected, limit=cloud.limit)

    def notify_style_update(self) -> None:
        """Redraw in the colours of the theme."""
        super().notify_style_update()
        self.refresh()

    def _advance(self) -> None:
        older = self._canvas
        self._canvas = paint(self.cloud, *self.content_size)
        if (older.width, older.height) != (self._canvas.width, self._canvas.height):
            self.refresh()
            return
        for y, begin, end in self._canvas.changes(older):
            self.refresh(Region(begin, y, end - begin, 1))

    def render_line(self, y: int) -> Strip:
        """Render one row."""
        size = self.content_size
        if (self._canvas.width, self._canvas.height) != size:
            self._canvas = paint(self.cloud, *size)
        if not 0 <= y < self._canvas.height:
            return Strip.blank(size.width, self.rich_style)
        return Strip([Segment(text, self._style(ink)) for text, ink in self._canvas.runs(y)], size.width)

    def _style(self, ink: str) -> Style:
        base: Style = self.rich_style
        if ink in ("axis", "front"):
            return self.get_component_rich_style(f"scatter--{ink}")
        if ink == "title":
            return base + Style(bold=True)
        manner, _, colour = ink.partition("=")
        if colour.startswith("#"):
            base += Style.from_color(Color.parse(colour).rich_color)
        return base + {
            "best": Style(bold=True),
            "worse": Style(dim=True),
            "chosen": Style(bold=True, reverse=True),
        }.get(manner, Style())


def paint(cloud: Cloud, width: int, height: int) -> Canvas:
    """Draw on a new canvas of this size, in columns and rows; what does not fit is left out."""
    canvas = Canvas(max(0, width), max(0, height))
    dots = [dot for dot in cloud.dots if math.isfinite(dot.x) and math.isfinite(dot.y)]
    room = width >= _LEAST[0] and height >= _LEAST[1]
    hidden = len(dots) if not room else 0
    if room and dots:
        hidden = _draw(canvas, cloud, dots)
    elif room:
        canvas.put(1, height // 2, cut(one_line(cloud.empty), width - 2), "axis")
    title = one_line(cloud.title) + (f" · {hidden} more points, no room" if hidden else "")
    canvas.put(0, 0, cut(title, width), "title")
    return canvas


def _draw(canvas: Canvas, cloud: Cloud, dots: Sequence[Dot]) -> int:
    """Draw axes, front and points; return the number of points without room."""
    rows = canvas.height - 2
    y_axis = linear_axis(
        min(dot.y for dot in dots), max(dot.y for dot in dots), intervals=max(2, rows - 1), room=max(2, rows // 2)
    )
    left = min(max(map(cell_len, y_axis.labels)), canvas.width // 3)
    columns = canvas.width - left - 1
    x_axis = _x_axis(cloud, dots, columns)
    place_x, place_y = x_axis.placer(columns), y_axis.placer(rows)
    cells = {dot.key: (left + 1 + place_x(dot.x), rows - place_y(dot.y)) for dot in dots}
    for y in range(1, rows + 1):
        canvas.put(left, y, "│", "axis")
    for value, label in zip(y_axis.ticks, y_axis.labels, strict=True):
        y = rows - place_y(value)
        canvas.put(left - cell_len(label), y, label, "axis")
        canvas.put(left, y, "┤", "axis")
    _label_x(canvas, left, x_axis, columns)
    if cloud.limit is not None:
        for y in range(1, rows + 1):
            canvas.put(left + 1 + place_x(cloud.limit), y, "┊", "front")
    front = sorted((cells[dot.key] for dot in dots if dot.front), key=lambda cell: (cell[0], -cell[1]))
    for (x, y), (next_x, next_y) in pairwise(front):
        canvas.put(x + 1, y, "─" * (next_x - x - 1), "front")
        if next_y < y:
            canvas.put(next_x, y, "┘" if next_x > x else "│", "front")
        for between in range(next_y + 1, y):
            canvas.put(next_x, between, "│", "front")
    return _put_letters(canvas, cloud, dots, cells, left)


def _x_axis(cloud: Cloud, dots: Sequence[Dot], columns: int) -> Axis:
    values = [*(dot.x for dot in dots), *([] if cloud.limit is None else [cloud.limit])]
    low, high = min(values), max(values)
    intervals, room = max(2, columns // 6), max(2, columns // 6)
    if cloud.log and low > 0:
        return log_axis(low, high, intervals=intervals, room=room)
    return linear_axis(low, high, intervals=intervals, room=room)


def _label_x(canvas: Canvas, left: int, axis: Axis, columns: int) -> None:
    """Draw the line below the plot and its labels, without overlaps."""
    bottom = canvas.height - 1
    canvas.put(left, bottom, "└" + "─" * columns, "axis")
    place, free = axis.placer(columns), left + 1
    for value, label in zip(axis.ticks, axis.labels, strict=True):
        size = cell_len(label)
        x = min(left + 1 + place(value) - size // 2, canvas.width - size)
        if x >= free:
            canvas.put(x, bottom, label, "axis")
            free = x + size + 1


def _put_letters(
    canvas: Canvas, cloud: Cloud, dots: Sequence[Dot], cells: dict[str, tuple[int, int]], left: int
) -> int:
    """Draw the letters at or near their points: selected first, then the front. Return the number left out."""
    taken: set[tuple[int, int]] = set()
    hidden = 0
    for dot in sorted(dots, key=lambda dot: (dot.key != cloud.selected, not dot.front)):
        x, y = cells[dot.key]
        free = [
            cell
            for cell in ((x + right, y + down) for right, down in _BESIDE)
            if left < cell[0] < canvas.width and 0 < cell[1] < canvas.height - 1 and cell not in taken
        ]
        if not free:
            hidden += 1
            continue
        taken.add(free[0])
        manner = "chosen" if dot.key == cloud.selected else "best" if dot.front else "worse"
        canvas.put(*free[0], dot.letter, f"{manner}={dot.colour}")
    return hidden
