"""Everything on a chart that is written and not drawn: title, legend, axes, letters, reference labels, the cursor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from kdtui.tui.widgets.braille import CELL_HEIGHT, CELL_WIDTH
from kdtui.tui.widgets.chart_canvas import PLAIN, Canvas, plain, shortened
from kdtui.tui.widgets.scale import Axis, brief, labels, linear_ticks, step_of
from kdtui.tui.widgets.series import Picture, ReferenceLine, Series
from kdtui.tui.widgets.trace import Grid, Trace
from kdtui.tui.widgets.viewport import Viewport

VALUE_WIDTH = 6
LETTER_WIDTH = 2
MOST_LABEL = 24
X_LABEL_ROOM = 9
"""Cells of the x axis for each label."""


@dataclass(frozen=True)
class Frame:
    """Where things stand on the canvas.

    Attributes:
        picture: What is shown.
        traces: One per series.
        viewport: What is seen of x.
        axis: The y axis, or None when nothing can be drawn.
        left: Cells before the plot: y labels and the axis.
        top: Rows above the plot.
        cells: Width of the plot.
        rows: Height of the plot.
        legend: Width of the legend right of the plot; 0 without one.
    """

    picture: Picture
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
        """First column behind the plot."""
        return self.left + self.cells

    def row(self, value: float) -> int | None:
        """Canvas row of a value, or None outside the axis."""
        if self.axis is None or (self.axis.log and value <= 0):
            return None
        row = self.axis.placer(self.rows * CELL_HEIGHT)(value) // CELL_HEIGHT
        return self.top + self.rows - 1 - row if 0 <= row < self.rows else None


def colour_ink(series: Series) -> str:
    """The ink of a curve."""
    return f"={series.colour}"


def drawable(picture: Picture) -> list[ReferenceLine]:
    """The reference lines that have a place on the axis."""
    return [line for line in picture.references if math.isfinite(line.value) and (line.value > 0 or not picture.log_y)]


def legend_width(picture: Picture, width: int) -> int:
    """Columns of a legend right of the plot: it depends on the names, not on the values that change."""
    if not picture.series:
        return 0
    longest = min(max(cell_len(plain(series.label)) for series in picture.series), MOST_LABEL)
    return min(1 + LETTER_WIDTH + longest + 1 + _value_width(picture), width // 3)


def put_all(canvas: Canvas, frame: Frame) -> None:
    """Write everything on a canvas that has the curves on it."""
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


def _value_width(picture: Picture) -> int:
    return max(VALUE_WIDTH, (picture.places or 0) + 2)


def _last(series: Series, trace: Trace, places: int | None) -> str:
    return brief(series.ys[trace.count - 1], places) if trace.count else "-"


def _put_absence(canvas: Canvas, frame: Frame) -> None:
    text = "no finite value in view" if any(trace.count for trace in frame.traces) else "no values yet"
    if cell_len(text) <= frame.cells and not frame.picture.log_y:
        canvas.put(frame.left + (frame.cells - len(text)) // 2, frame.top + (frame.rows - 1) // 2, text, "legend")


def _put_letters(canvas: Canvas, frame: Frame) -> None:
    """A letter behind the end of each curve, or as near to it as there is a free cell."""
    taken: set[tuple[int, int]] = set()
    for series, trace in zip(frame.picture.series, frame.traces, strict=True):
        end = trace.end()
        letter = shortened(plain(series.letter), LETTER_WIDTH)
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
    """Places for a letter, the best first."""
    for distance in range(4):
        yield x + distance * size, y
    for distance in range(3):
        yield x + distance * size, y + 1
        yield x + distance * size, y - 1
    for distance in range(1, 8):
        yield x - distance * size, y


def _put_reference_labels(canvas: Canvas, frame: Frame) -> None:
    """Each label on its line where no curve is, else beside the line, else at its left end over the curve."""
    for line in drawable(frame.picture):
        row = frame.row(line.value)
        text = f" {plain(line.label)} {brief(line.value, frame.picture.places)} "
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
    grid = Grid(low, high, frame.cells)
    canvas.put(frame.left, y, "─" * frame.cells, "axis")
    if frame.left:
        canvas.put(frame.left - 1, y, "└", "axis")
    integer = all(float(x).is_integer() for trace in frame.traces for x in trace.ends or ())
    room = max(frame.cells // X_LABEL_ROOM, 2)
    ticks, step = linear_ticks(low, high, step_of(high / room / 2 - low / room / 2, integer), room)
    name = plain(frame.picture.x_label)
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
    x = frame.left + Grid(low, high, frame.cells).column(cursor)
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
        canvas.put(x, y, shortened(plain(series.letter), LETTER_WIDTH), colour_ink(series))
        canvas.put(x + LETTER_WIDTH, y, shortened(plain(series.label), room), "legend")
        value = shortened(_last(series, trace, frame.picture.places), width)
        canvas.put(canvas.width - len(value), y, value, "text")
    if shown < len(entries):
        canvas.put(x, frame.top + shown, shortened(f"+{len(entries) - shown} more", frame.legend - 1), "legend")


def _put_title(canvas: Canvas, frame: Frame) -> None:
    """Title, then the values under the cursor or, without room for a legend, the last ones; the state at the right."""
    state = " · ".join(_state(frame))
    room = canvas.width - (len(state) + 2 if state else 0)
    if room < 8:
        state, room = "", canvas.width
    x = 0
    for text, ink in _title_parts(frame):
        text = shortened(text, room - x)
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
        yield plain(picture.title), "title"
        yield "  ", "title"
    cursor = frame.viewport.cursor
    if cursor is not None:
        x = str(round(cursor)) if float(cursor).is_integer() and abs(cursor) < 1e15 else f"{cursor:.6g}"
        yield f"{plain(picture.x_label) or 'x'} {x}", "text"
    elif frame.legend:
        return
    for series, trace in zip(picture.series, frame.traces, strict=True):
        yield f"  {shortened(plain(series.letter), LETTER_WIDTH)}", colour_ink(series)
        if cursor is None:
            yield f" {_last(series, trace, picture.places)}", "text"
        else:
            value = trace.at(cursor)
            past = trace.ends is not None and cursor > trace.ends[1]
            yield f" {'-' if value is None or past else brief(value, picture.places)}", "text"
