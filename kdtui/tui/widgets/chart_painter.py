"""Painting a chart on a canvas: the plot itself, worked out again only from the first column that changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdtui.tui.widgets import chart_text
from kdtui.tui.widgets.braille import BLANK, CELL_HEIGHT, CELL_WIDTH, DASHES, glyph
from kdtui.tui.widgets.chart_canvas import PLAIN, Canvas
from kdtui.tui.widgets.chart_text import Frame, colour_ink
from kdtui.tui.widgets.scale import Axis, HeldRange, growing_end
from kdtui.tui.widgets.series import Picture, Series
from kdtui.tui.widgets.trace import Grid, Trace
from kdtui.tui.widgets.viewport import EXACT, Viewport

LEGEND_FROM = 56
"""Widths from which the legend has a place of its own, right of the plot."""
LEAST_PLOT = 8
"""Cells that labels leave to the plot; narrower than that, it goes without."""
LEAST_GUTTER = 5
MOST_INTERVALS = 10


@dataclass(frozen=True)
class _Cells:
    """The plot as characters and inks, and what they were made of."""

    made_of: tuple[object, ...]
    chars: list[list[str]]
    inks: list[list[str]]


class Painter:
    """Paints pictures one after another and keeps what they have in common.

    Attributes:
        viewport: What is seen of the x axis.
    """

    def __init__(self) -> None:
        self.viewport = Viewport()
        self._traces: dict[str, Trace] = {}
        self._range = HeldRange()
        self._gutter = LEAST_GUTTER
        self._cells: _Cells | None = None
        self._x_label = ""
        self._frame: Frame | None = None

    def paint(self, picture: Picture, width: int, height: int, edges: Sequence[int] = ()) -> Canvas:
        """A canvas of that size, cut at ``edges`` when it is shown, with the picture on it."""
        canvas = Canvas(width, height, edges)
        if not width or not height:
            return canvas
        traces = self._follow(picture)
        self._set_view(picture, traces)
        top, bottom = int(height >= 2), int(height >= 4)
        rows = height - top - bottom
        legend = chart_text.legend_width(picture, width) if width >= LEGEND_FROM and rows >= 2 else 0
        axis = self._scan(picture, traces, width - legend, rows)
        frame = Frame(
            picture=picture,
            traces=traces,
            viewport=self.viewport,
            axis=axis,
            left=self._gutter,
            top=top,
            cells=max(width - legend - self._gutter, 1),
            rows=rows,
            legend=legend,
        )
        self._frame = frame
        if axis is not None:
            self._put_plot(canvas, frame, axis)
        chart_text.put_all(canvas, frame)
        return canvas

    @property
    def axes(self) -> list[tuple[Sequence[float], int]]:
        """The x of every series that was painted last, and how many of them count."""
        return [(trace.xs, trace.count) for trace in self._traces.values()]

    @property
    def cell_width(self) -> float:
        """How much of x one cell covers."""
        low, high = self.viewport.span
        return (high - low) / (self._frame.cells if self._frame is not None else 1)

    def x_at(self, cell: int) -> float | None:
        """The x in the middle of a column of the canvas, or None beside the plot."""
        if self._frame is None or not 0 <= cell - self._frame.left < self._frame.cells:
            return None
        low, high = self.viewport.span
        share = (cell - self._frame.left + 0.5) / self._frame.cells
        return low * (1 - share) + high * share

    def refit(self) -> None:
        """Choose the y range anew at the next picture."""
        self._range.forget()

    def _follow(self, picture: Picture) -> list[Trace]:
        older = self._traces
        self._traces = {}
        continued = False
        for series in picture.series:
            trace = self._traces[series.key] = older.get(series.key) or Trace()
            continued |= trace.follow(series.xs, series.ys, picture.smoothing)
        if not continued:
            self.refit()
        return [self._traces[series.key] for series in picture.series]

    def _set_view(self, picture: Picture, traces: Sequence[Trace]) -> None:
        if picture.x_label != self._x_label:
            self._x_label = picture.x_label
            self.viewport.reset()
        ends = [trace.ends for trace in traces]
        lows, highs = [end[0] for end in ends if end], [end[1] for end in ends if end]
        horizon = picture.x_max if picture.x_max is not None and math.isfinite(picture.x_max) else None
        integer = all(float(x).is_integer() for x in (*lows, *highs))
        low = min(lows, default=0.0)
        high = max(highs, default=low)
        if horizon is not None and horizon >= high and horizon - low > abs(horizon) * EXACT:
            self.viewport.fit(low, horizon, high)
        else:
            self.viewport.fit(low, growing_end(low, high, integer), high)

    def _scan(self, picture: Picture, traces: Sequence[Trace], width: int, rows: int) -> Axis | None:
        """Bring the columns up to date, and find the y axis and the room that its labels take."""
        intervals = min(max(rows - 1, 2), MOST_INTERVALS)
        while True:
            if rows < 2 or width - self._gutter < LEAST_PLOT:
                self._gutter = 0
            grid = Grid(*self.viewport.span, max(width - self._gutter, 1) * CELL_WIDTH)
            for trace in traces:
                trace.scan(grid, picture.log_y)
            extents = [extent for trace in traces if (extent := trace.extent()) is not None]
            extents += [(line.value, line.value) for line in chart_text.drawable(picture)]
            if not extents:
                return None
            axis = self._range.fit(
                min(low for low, _ in extents),
                max(high for _, high in extents),
                intervals=intervals,
                room=rows,
                log=picture.log_y,
                integer=all(_whole(series) for series in picture.series),
            )
            gutter = max(max(map(len, axis.labels)) + 1, LEAST_GUTTER)
            if rows < 2 or width - gutter < LEAST_PLOT:
                gutter = 0
            if gutter == self._gutter:
                return axis
            self._gutter = gutter  # the plot has another width then, and other columns

    def _put_plot(self, canvas: Canvas, frame: Frame, axis: Axis) -> None:
        height = frame.rows * CELL_HEIGHT
        place = axis.placer(height)
        picture = frame.picture
        changed = frame.cells * CELL_WIDTH
        for series, trace in zip(picture.series, frame.traces, strict=True):
            changed = min(changed, trace.plot(place, axis, height, DASHES[series.dash % len(DASHES)]))
        lines = sum({1 << place(line.value) for line in chart_text.drawable(picture)})
        made_of = (
            frame.rows,
            frame.cells,
            axis,
            lines,
            [(series.key, series.colour, series.dash) for series in picture.series],
        )
        if self._cells is None or self._cells.made_of != made_of:
            blank = [[BLANK] * frame.cells for _ in range(frame.rows)]
            self._cells = _Cells(made_of, blank, [[PLAIN] * frame.cells for _ in range(frame.rows)])
            changed = 0
        self._compose(frame, self._cells, lines, changed // CELL_WIDTH)
        left = frame.left
        for row in range(frame.rows):
            canvas.chars[frame.top + row][left : left + frame.cells] = self._cells.chars[row]
            canvas.inks[frame.top + row][left : left + frame.cells] = self._cells.inks[row]

    @staticmethod
    def _compose(frame: Frame, cells: _Cells, lines: int, begin: int) -> None:
        """Lay the curves over each other: dots together, the ink of the last."""
        curves = [
            (trace.masks, colour_ink(series)) for series, trace in zip(frame.picture.series, frame.traces, strict=True)
        ]
        # Row 0 is at the top of the cells and at the top of the shift.
        rows = [(frame.rows - 1 - row, cells.chars[row], cells.inks[row]) for row in range(frame.rows)]
        for cell in range(begin, frame.cells):
            # A reference line has every other cell.
            left = right = lines if cell % 2 else 0
            present = [(left, "reference")] if left else []
            for masks, ink in curves:
                lefts, rights = masks[2 * cell], masks[2 * cell + 1]
                if lefts or rights:
                    left, right = left | lefts, right | rights
                    present.append((lefts | rights, ink))
            present.reverse()
            for row, chars, inks in rows:
                chars[cell] = glyph(left, right, row)
                shift = row * CELL_HEIGHT
                inks[cell] = next((ink for mask, ink in present if mask >> shift & 15), PLAIN)


def _whole(series: Series) -> bool:
    """Whether the values are integers by type: a measured value that happens to be whole is none."""
    return len(series.ys) > 0 and isinstance(series.ys[0], int) and isinstance(series.ys[-1], int)
