"""Paints a chart on a canvas: plot, axes and legend; the dots are updated only where they changed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from kdtui.text import one_line
from kdtui.tui.values import ReferenceLine, Series
from kdtui.tui.widgets.chart.braille import BLANK, CELL_HEIGHT, CELL_WIDTH, DASHES, glyph
from kdtui.tui.widgets.chart.scale import Axis, HeldRange, brief, growing_end, labels, linear_ticks, step_of
from kdtui.tui.widgets.chart.series import ChartState, DotGrid, Trace
from kdtui.tui.widgets.chart.viewport import EXACT, Viewport
from kdtui.tui.widgets.columns import cut

PLAIN = "plain"
"""The ink of an empty cell."""


class Canvas:
    """Cells of one character and one ink each.

    An ink is a name to which the caller assigns a style. A character two columns wide leaves the next cell empty.

    Args:
        width: Number of columns.
        height: Number of rows.
        edges: Columns at which the canvas is split for display. A wide character that would cross one is moved right by
            one column.

    Attributes:
        chars: Characters by row, then column.
        inks: Inks by row, then column.
    """

    def __init__(self, width: int, height: int, edges: Sequence[int] = ()) -> None:
        self.width, self.height = width, height
        self.edges = sorted({0, width, *edges})
        self.chars = [[" "] * width for _ in range(height)]
        self.inks = [[PLAIN] * width for _ in range(height)]

    def put(self, x: int, y: int, text: str, ink: str) -> None:
        """Write a text, clipped at the edges; spaces clear the cells."""
        if not 0 <= y < self.height:
            return
        chars, inks = self.chars[y], self.inks[y]
        for char in text:
            size = 1 if char.isascii() else cell_len(char)
            if not size:
                if 0 < x <= self.width and chars[x - 1]:
                    chars[x - 1] += char
                continue
            if size == 2 and x + 1 in self.edges:
                self.put(x, y, " ", ink)
                x += 1
            if x >= 0 and x + size <= self.width:
                # The other half of an overwritten wide character is cleared.
                if not chars[x]:
                    chars[x - 1] = " "
                if x + size < self.width and not chars[x + size]:
                    chars[x + size] = " "
                chars[x], inks[x] = char, PLAIN if char == " " else ink
                if size == 2:
                    chars[x + 1], inks[x + 1] = "", ink
            x += size

    def runs(self, y: int) -> Iterator[tuple[str, str]]:
        """Split a row into texts of one ink; spaces belong to the text before them, leading ones to the first text."""
        begin, current = 0, PLAIN
        chars = self.chars[y]
        for x, (char, ink) in enumerate(zip(chars, self.inks[y], strict=True)):
            if ink != current and char != " ":
                if current != PLAIN:
                    yield "".join(chars[begin:x]), current
                    begin = x
                current = ink
        if begin < self.width:
            yield "".join(chars[begin:]), current

    def text(self) -> str:
        """The canvas as text without inks or trailing spaces."""
        return "\n".join("".join(row).rstrip() for row in self.chars)

    def changes(self, older: Canvas) -> Iterator[tuple[int, int, int]]:
        """Find where this canvas differs from an older one of the same size.

        Yields:
            Row, first column and end of a span; one span per row and part between two edges covers all its changes.
        """
        for y in range(self.height):
            chars, inks, old_chars, old_inks = self.chars[y], self.inks[y], older.chars[y], older.inks[y]
            if chars == old_chars and inks == old_inks:
                continue
            for left, right in itertools.pairwise(self.edges):
                differs = [x for x in range(left, right) if chars[x] != old_chars[x] or inks[x] != old_inks[x]]
                if differs:
                    yield y, differs[0], differs[-1] + 1


VALUE_WIDTH = 6
LETTER_WIDTH = 2
MOST_LABEL = 24
X_LABEL_ROOM = 9
"""Columns per label of the x axis."""


@dataclass(frozen=True)
class Frame:
    """Layout of a chart on its canvas, in cells.

    Attributes:
        picture: The displayed data.
        traces: One per series.
        viewport: The displayed part of the x axis.
        axis: The y axis, or None if there is nothing to draw.
        left: Columns left of the plot: y labels and the axis.
        top: Rows above the plot.
        cells: Width of the plot.
        rows: Height of the plot.
        legend: Width of the legend right of the plot; 0 for none.
    """

    picture: ChartState
    traces: Sequence[Trace]
    viewport: Viewport
    axis: Axis | None
    left: int
    top: int
    cells: int
    rows: int
    legend: int

    @property
    def right(self) -> int:
        """First column right of the plot."""
        return self.left + self.cells

    def row(self, value: float) -> int | None:
        """Canvas row of a value, or None if it is outside the axis."""
        if self.axis is None or (self.axis.log and value <= 0):
            return None
        row = self.axis.placer(self.rows * CELL_HEIGHT)(value) // CELL_HEIGHT
        return self.top + self.rows - 1 - row if 0 <= row < self.rows else None


def colour_ink(series: Series) -> str:
    """The ink of a series."""
    return f"={series.colour}"


def drawable(picture: ChartState) -> list[ReferenceLine]:
    """The reference lines that can be drawn on the axis."""
    return [line for line in picture.references if math.isfinite(line.value) and (line.value > 0 or not picture.log_y)]


def legend_width(picture: ChartState, width: int) -> int:
    """Width of the legend right of the plot; it depends on the names, not on the changing values."""
    if not picture.series:
        return 0
    longest = min(max(cell_len(one_line(series.label)) for series in picture.series), MOST_LABEL)
    return min(1 + LETTER_WIDTH + longest + 1 + _value_width(picture), width // 3)


def put_all(canvas: Canvas, frame: Frame) -> None:
    """Draw everything on a canvas that has the curves already."""
    if frame.axis is None:
        _put_absence(canvas, frame)
    else:
        _put_letters(canvas, frame)
        _put_reference_labels(canvas, frame)
        if frame.left:
            _put_y_axis(canvas, frame, frame.axis)
    _put_cursor(canvas, frame)
    if canvas.height > frame.top + frame.rows:
        _put_x_axis(canvas, frame)
    if frame.legend:
        _put_legend(canvas, frame)
    if frame.top:
        _put_title(canvas, frame)


def _value_width(picture: ChartState) -> int:
    return max(VALUE_WIDTH, (picture.places or 0) + 2)


def _last(series: Series, trace: Trace, places: int | None) -> str:
    return brief(series.ys[trace.count - 1], places) if trace.count else "-"


def _put_absence(canvas: Canvas, frame: Frame) -> None:
    text = "no finite value in view" if any(trace.count for trace in frame.traces) else "no values yet"
    if cell_len(text) <= frame.cells and not frame.picture.log_y:
        canvas.put(frame.left + (frame.cells - len(text)) // 2, frame.top + (frame.rows - 1) // 2, text, "legend")


def _put_letters(canvas: Canvas, frame: Frame) -> None:
    """Draw a letter right of the end of each curve, or in the nearest free cell."""
    taken: set[tuple[int, int]] = set()
    for series, trace in zip(frame.picture.series, frame.traces, strict=True):
        end = trace.end()
        letter = cut(one_line(series.letter), LETTER_WIDTH)
        size = cell_len(letter)
        if end is None or not size or size >= frame.cells:
            continue
        column, value = end
        mask = trace.masks[column]
        middle = (mask.bit_length() - 1 + (mask & -mask).bit_length() - 1) // 2 // CELL_HEIGHT
        row = frame.row(value) if value is not None else None
        if row is None:
            row = frame.top + frame.rows - 1 - middle
        wanted = min(frame.left + column // CELL_WIDTH + 1, frame.right - size)
        for x, y in _around(wanted, row, size):
            cells = {(x + offset, y) for offset in range(size)}
            inside = frame.left <= x and x + size <= frame.right and frame.top <= y < frame.top + frame.rows
            if inside and not cells & taken:
                taken |= cells
                canvas.put(x, y, letter, colour_ink(series))
                break


def _around(x: int, y: int, size: int) -> Iterator[tuple[int, int]]:
    """Candidate positions of a letter, the best first."""
    for distance in range(4):
        yield x + distance * size, y
    for distance in range(3):
        yield x + distance * size, y + 1
        yield x + distance * size, y - 1
    for distance in range(1, 8):
        yield x - distance * size, y


def _put_reference_labels(canvas: Canvas, frame: Frame) -> None:
    """Draw each label on its line where no curve is, else on an adjacent row, else over the curves at the left end."""
    for line in drawable(frame.picture):
        row = frame.row(line.value)
        text = f" {one_line(line.label)} {brief(line.value, frame.picture.places)} "
        size = cell_len(text)
        if row is None or size > frame.cells:
            continue
        places = ((x, y) for y in (row, row - 1, row + 1) for x in range(frame.left + 1, frame.right - size))
        x, y = next((place for place in places if _is_free(canvas, frame, *place, size)), (frame.left, row))
        canvas.put(x, y, text, "label")


def _is_free(canvas: Canvas, frame: Frame, x: int, y: int, width: int) -> bool:
    inside = frame.top <= y < frame.top + frame.rows
    return inside and {PLAIN, "reference"}.issuperset(canvas.inks[y][x : x + width])


def _put_y_axis(canvas: Canvas, frame: Frame, axis: Axis) -> None:
    x = frame.left - 1
    for row in range(frame.top, frame.top + frame.rows):
        canvas.put(x, row, "│", "axis")
    for tick, label in zip(axis.ticks, axis.labels, strict=True):
        y = frame.row(tick)
        if y is not None and canvas.chars[y][x] == "│":
            canvas.put(x - len(label), y, f"{label}┤", "axis")


def _put_x_axis(canvas: Canvas, frame: Frame) -> None:
    y = frame.top + frame.rows
    low, high = frame.viewport.span
    grid = DotGrid(low, high, frame.cells)
    canvas.put(frame.left, y, "─" * frame.cells, "axis")
    if frame.left:
        canvas.put(frame.left - 1, y, "└", "axis")
    integer = all(float(x).is_integer() for trace in frame.traces for x in trace.ends or ())
    room = max(frame.cells // X_LABEL_ROOM, 2)
    ticks, step = linear_ticks(low, high, step_of(high / room / 2 - low / room / 2, integer), room)
    name = one_line(frame.picture.x_label)
    free_from, end = frame.left, canvas.width
    if name and cell_len(name) >= frame.legend:
        end = frame.right - cell_len(name) - 1
    for tick, label in zip(ticks, labels(ticks, step) if ticks else (), strict=True):
        x = frame.left + min(grid.column(tick), frame.cells - 1) - len(label) // 2
        x = min(max(x, frame.left), canvas.width - len(label))
        if x >= free_from and x + len(label) <= end:
            canvas.put(x, y, label, "axis")
            free_from = x + len(label) + 1
    at = max(frame.right + 1 if end == canvas.width else end + 1, free_from)
    if name and at + cell_len(name) <= canvas.width:
        canvas.put(at, y, name, "axis")


def _put_cursor(canvas: Canvas, frame: Frame) -> None:
    cursor = frame.viewport.cursor
    low, high = frame.viewport.span
    if cursor is None or not low <= cursor <= high:
        return
    x = frame.left + DotGrid(low, high, frame.cells).column(cursor)
    for y in range(frame.top, frame.top + frame.rows):
        if _is_free(canvas, frame, x, y, 1):
            canvas.put(x, y, "│", "cursor")


def _put_legend(canvas: Canvas, frame: Frame) -> None:
    width = _value_width(frame.picture)
    x = frame.right + 1
    entries = list(zip(frame.picture.series, frame.traces, strict=True))
    shown = len(entries) if len(entries) <= frame.rows else frame.rows - 1
    room = frame.legend - 1 - LETTER_WIDTH - 1 - width
    for y, (series, trace) in enumerate(entries[:shown], frame.top):
        canvas.put(x, y, cut(one_line(series.letter), LETTER_WIDTH), colour_ink(series))
        canvas.put(x + LETTER_WIDTH, y, cut(one_line(series.label), room), "legend")
        value = cut(_last(series, trace, frame.picture.places), width)
        canvas.put(canvas.width - len(value), y, value, "text")
    if shown < len(entries):
        canvas.put(x, frame.top + shown, cut(f"+{len(entries) - shown} more", frame.legend - 1), "legend")


def _put_title(canvas: Canvas, frame: Frame) -> None:
    """Draw the title, then the values at the cursor or, without a legend, the last ones; the state at the right."""
    state = " · ".join(_state(frame))
    room = canvas.width - (len(state) + 2 if state else 0)
    if room < 8:
        state, room = "", canvas.width
    x = 0
    for text, ink in _title_parts(frame):
        text = cut(text, room - x)
        canvas.put(x, 0, text, ink)
        x += cell_len(text)
    canvas.put(canvas.width - len(state), 0, state, "legend")


def _state(frame: Frame) -> Iterator[str]:
    picture = frame.picture
    if picture.log_y:
        nothing = frame.axis is None and any(trace.count for trace in frame.traces)
        yield "log: no value above 0" if nothing else "log"
    if picture.smoothing:
        yield f"smooth {brief(picture.smoothing, 2).rstrip('0')}"
    if frame.viewport.zoomed:
        yield "zoom"


def _title_parts(frame: Frame) -> Iterator[tuple[str, str]]:
    picture = frame.picture
    if picture.title:
        yield one_line(picture.title), "title"
        yield "  ", "title"
    cursor = frame.viewport.cursor
    if cursor is not None:
        x = str(round(cursor)) if float(cursor).is_integer() and abs(cursor) < 1e15 else f"{cursor:.6g}"
        yield f"{one_line(picture.x_label) or 'x'} {x}", "text"
    elif frame.legend:
        return
    for series, trace in zip(picture.series, frame.traces, strict=True):
        yield f"  {cut(one_line(series.letter), LETTER_WIDTH)}", colour_ink(series)
        if cursor is None:
            yield f" {_last(series, trace, picture.places)}", "text"
        else:
            value = trace.at(cursor)
            past = trace.ends is not None and cursor > trace.ends[1]
            yield f" {'-' if value is None or past else brief(value, picture.places)}", "text"


LEGEND_FROM = 56
"""Minimum width of a chart with a legend right of the plot."""
LEAST_PLOT = 8
"""Minimum width of the plot beside its y labels; a narrower chart has no y labels."""
LEAST_GUTTER = 5
MOST_INTERVALS = 10


@dataclass(frozen=True)
class _Cells:
    """Characters and inks of the plot, and the settings they were drawn with."""

    made_of: tuple[object, ...]
    chars: list[list[str]]
    inks: list[list[str]]


class Painter:
    """Paints successive pictures, and reuses what they have in common.

    Attributes:
        viewport: The displayed part of the x axis.
    """

    def __init__(self) -> None:
        self.viewport = Viewport()
        self._traces: dict[str, Trace] = {}
        self._range = HeldRange()
        self._gutter = LEAST_GUTTER
        self._cells: _Cells | None = None
        self._x_label = ""
        self._frame: Frame | None = None

    def paint(self, picture: ChartState, width: int, height: int, edges: Sequence[int] = ()) -> Canvas:
        """Paint a picture on a new canvas of this size, split at ``edges`` for display."""
        canvas = Canvas(width, height, edges)
        if not width or not height:
            return canvas
        traces = self._follow(picture)
        self._set_view(picture, traces)
        top, bottom = int(height >= 2), int(height >= 4)
        rows = height - top - bottom
        legend = legend_width(picture, width) if width >= LEGEND_FROM and rows >= 2 else 0
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
        put_all(canvas, frame)
        return canvas

    @property
    def axes(self) -> list[tuple[Sequence[float], int]]:
        """The x values of every series of the last picture, and how many of them are valid."""
        return [(trace.xs, trace.count) for trace in self._traces.values()]

    @property
    def cell_width(self) -> float:
        """Width of a cell in units of x."""
        low, high = self.viewport.span
        return (high - low) / (self._frame.cells if self._frame is not None else 1)

    def x_at(self, cell: int) -> float | None:
        """The x in the middle of a column of the canvas, or None outside the plot."""
        if self._frame is None or not 0 <= cell - self._frame.left < self._frame.cells:
            return None
        low, high = self.viewport.span
        share = (cell - self._frame.left + 0.5) / self._frame.cells
        return low * (1 - share) + high * share

    def refit(self) -> None:
        """Choose a new y range for the next picture."""
        self._range.forget()

    def _follow(self, picture: ChartState) -> list[Trace]:
        older = self._traces
        self._traces = {}
        continued = False
        for series in picture.series:
            trace = self._traces[series.key] = older.get(series.key) or Trace()
            continued |= trace.follow(series.xs, series.ys, picture.smoothing)
        if not continued:
            self.refit()
        return [self._traces[series.key] for series in picture.series]

    def _set_view(self, picture: ChartState, traces: Sequence[Trace]) -> None:
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

    def _scan(self, picture: ChartState, traces: Sequence[Trace], width: int, rows: int) -> Axis | None:
        """Update the summaries of the columns, and determine the y axis and the width of its labels."""
        intervals = min(max(rows - 1, 2), MOST_INTERVALS)
        while True:
            if rows < 2 or width - self._gutter < LEAST_PLOT:
                self._gutter = 0
            grid = DotGrid(*self.viewport.span, max(width - self._gutter, 1) * CELL_WIDTH)
            for trace in traces:
                trace.scan(grid, picture.log_y)
            extents = [extent for trace in traces if (extent := trace.extent()) is not None]
            extents += [(line.value, line.value) for line in drawable(picture)]
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
            self._gutter = gutter  # the plot now has another width, and so other columns

    def _put_plot(self, canvas: Canvas, frame: Frame, axis: Axis) -> None:
        height = frame.rows * CELL_HEIGHT
        place = axis.placer(height)
        picture = frame.picture
        changed = frame.cells * CELL_WIDTH
        for series, trace in zip(picture.series, frame.traces, strict=True):
            changed = min(changed, trace.plot(place, axis, height, DASHES[series.dash % len(DASHES)]))
        lines = sum({1 << place(line.value) for line in drawable(picture)})
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
        """Overlay the curves: their dots are combined, the ink is that of the last one."""
        curves = [
            (trace.masks, colour_ink(series)) for series, trace in zip(frame.picture.series, frame.traces, strict=True)
        ]
        # Row 0 is the top row of the cells; its dots are the highest bits of a mask.
        rows = [(frame.rows - 1 - row, cells.chars[row], cells.inks[row]) for row in range(frame.rows)]
        for cell in range(begin, frame.cells):
            # A reference line occupies every other cell.
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
    """Whether the values are of integer type; a measured value that happens to be whole does not count."""
    return len(series.ys) > 0 and isinstance(series.ys[0], int) and isinstance(series.ys[-1], int)
