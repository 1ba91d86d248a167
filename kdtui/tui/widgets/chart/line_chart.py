"""A line chart in braille that redraws only what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.events import Click
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from kdtui.tui.values import ReferenceLine, Series
from kdtui.tui.widgets.chart.painter import PLAIN, Canvas, Painter
from kdtui.tui.widgets.chart.series import STRONGEST, ChartState
from kdtui.tui.widgets.chart.viewport import PAN, ZOOM, nearest

__all__ = ["LineChart", "ReferenceLine", "Series"]

BANDS = 4
SMOOTHINGS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, STRONGEST)
"""The smoothing weights that the keys step through."""


class Band(Widget):
    """A vertical strip of the chart.

    Textual writes a changed region from the left edge of its widget: the narrower the widget, the less is written for a
    new point at the end of a long row.
    """

    DEFAULT_CSS = "Band { width: 1fr; height: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, chart: LineChart) -> None:
        super().__init__()
        self._chart = chart

    def render_line(self, y: int) -> Strip:
        """Render the part of the chart's row in this band."""
        left = self.region.x - self._chart.content_region.x
        return self._chart.row(y).crop(left, left + self.size.width)

    def on_resize(self) -> None:
        """Redraw the whole chart: a band that only moved sideways would keep its old content."""
        self._chart.redraw()


class LineChart(Widget, can_focus=True):
    """Curves over a common x axis, distinguished by letter, dash pattern and colour.

    Call :meth:`show` whenever data arrived, with the same lists, grown: results for their older points are cached, and
    only changed cells are written to the terminal. The chart fills its container; borders are set by the CSS of the
    screen.

    Attributes:
        picture: What it displays.
        log_y: Whether y is logarithmic.
        smoothing: Weight of a debiased moving average over the points, in [0, 0.99]; 0 for no smoothing.
    """

    DEFAULT_CSS = """
    LineChart {
        layout: horizontal;
        width: 1fr;
        height: 1fr;
        & > .line-chart--axis { color: $text-muted; }
        & > .line-chart--legend { color: $text-muted; }
        & > .line-chart--reference { color: $text-muted; }
        & > .line-chart--cursor { color: $text-muted; }
        &:focus > .line-chart--title { text-style: bold; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"line-chart--{part}" for part in ("title", "axis", "legend", "reference", "cursor")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "cursor_left", "Cursor left", show=False),
        Binding("right", "cursor_right", "Cursor right", show=False),
        Binding("shift+left", "pan_left", "Pan left", show=False),
        Binding("shift+right", "pan_right", "Pan right", show=False),
        Binding("escape", "hide_cursor", "Hide cursor", show=False),
    ]
    ALLOW_SELECT = False

    log_y: reactive[bool] = reactive(False, repaint=False, init=False)
    smoothing: reactive[float] = reactive(0.0, repaint=False, init=False)

    def __init__(
        self,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
        disabled: bool = False,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes, disabled=disabled)
        self.picture = ChartState()
        self._painter = Painter()
        self._canvas: Canvas | None = None
        self._strips: dict[int, Strip] = {}
        self._styles: dict[str, Style] = {}

    def compose(self) -> ComposeResult:
        """Compose the bands."""
        for _ in range(BANDS):
            yield Band(self)

    def show(
        self,
        series: Sequence[Series],
        *,
        references: Sequence[ReferenceLine] = (),
        title: str = "",
        x_label: str = "",
        x_max: float | None = None,
        places: int | None = None,
    ) -> None:
        """Display these curves.

        Args:
            series: In drawing order; where two curves share a cell, the later one gives the colour.
            references: Horizontal lines to compare the curves with.
            title: Title of the chart.
            x_label: Quantity on the x axis; a change resets zoom and cursor.
            x_max: Right end of the x axis; None to grow with the points, in steps.
            places: Decimals of the displayed values; None for three significant digits.
        """
        self.picture = ChartState(tuple(series), tuple(references), title, x_label, x_max, places)
        self._advance()

    def row(self, y: int) -> Strip:
        """A row of the chart, which is painted first if its size changed."""
        size = self.content_size
        if self._canvas is None or Size(self._canvas.width, self._canvas.height) != size:
            self._strips.clear()
            self._canvas = self._paint(size)
        if y not in self._strips:
            if not 0 <= y < size.height:
                return Strip.blank(size.width, self.rich_style)
            segments = [Segment(text, self._style(ink)) for text, ink in self._canvas.runs(y)]
            self._strips[y] = Strip(segments, size.width)
        return self._strips[y]

    def notify_style_update(self) -> None:
        """Discard the cached colours after a change of theme or focus."""
        super().notify_style_update()
        self._styles.clear()
        self.redraw()

    def redraw(self) -> None:
        """Discard the painted chart and refresh all bands."""
        self._canvas = None
        for band in self.query_children(Band):
            band.refresh()

    def _paint(self, size: Size) -> Canvas:
        picture = replace(self.picture, log_y=self.log_y, smoothing=self.smoothing)
        return self._painter.paint(picture, size.width, size.height, sorted(self._bands()))

    def _bands(self) -> dict[int, Band]:
        """The bands by their left edge in the chart."""
        left = self.content_region.x
        return {band.region.x - left: band for band in self.query_children(Band) if band.size}

    def _advance(self) -> None:
        """Paint, and refresh the regions that differ from the last painting."""
        size, older, bands = self.content_size, self._canvas, self._bands()
        if older is None or Size(older.width, older.height) != size or 0 not in bands:
            self.redraw()
            return
        self._canvas = self._paint(size)
        for y, begin, end in self._canvas.changes(older):
            self._strips.pop(y, None)
            left = max(x for x in bands if x <= begin)
            bands[left].refresh(Region(begin - left, y, end - begin, 1))

    def _style(self, ink: str) -> Style:
        style = self._styles.get(ink)
        if style is None:
            if ink.startswith("="):
                name = ink[1:]
                colour = self.app.theme_variables.get(name.removeprefix("$"), name)
                style = self.rich_style
                if not colour.startswith("auto"):  # such as the theme's text colours, which depend on the background
                    style += Style.from_color(Color.parse(colour).rich_color)
            elif ink in (PLAIN, "text"):
                style = self.rich_style
            else:
                part = "reference" if ink == "label" else ink
                style = self.get_component_rich_style(f"line-chart--{part}")
            self._styles[ink] = style
        return style

    def validate_smoothing(self, smoothing: float) -> float:
        """Limit the weight to its range."""
        return min(max(smoothing, 0.0), STRONGEST)

    def watch_log_y(self) -> None:
        """Redraw with the other scale."""
        self._advance()

    def watch_smoothing(self) -> None:
        """Redraw with the new smoothing."""
        self._advance()

    def action_toggle_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self.log_y = not self.log_y

    def action_smoother(self) -> None:
        """Increase the smoothing."""
        self.smoothing = next((weight for weight in SMOOTHINGS if weight > self.smoothing), STRONGEST)

    def action_rougher(self) -> None:
        """Decrease the smoothing."""
        self.smoothing = next((weight for weight in reversed(SMOOTHINGS) if weight < self.smoothing), 0.0)

    def action_zoom_in(self) -> None:
        """Display half as much of the x axis, around the cursor if there is one."""
        self._zoom(1 / ZOOM)

    def action_zoom_out(self) -> None:
        """Display twice as much of the x axis."""
        self._zoom(ZOOM)

    def _zoom(self, factor: float) -> None:
        self._painter.viewport.zoom(factor)
        self._painter.refit()
        self._advance()

    def action_pan_left(self) -> None:
        """Move the view to the left."""
        self._painter.viewport.pan(-PAN)
        self._advance()

    def action_pan_right(self) -> None:
        """Move the view to the right."""
        self._painter.viewport.pan(PAN)
        self._advance()

    def action_reset_view(self) -> None:
        """Display the whole x axis, without a cursor."""
        self._painter.viewport.reset()
        self._painter.refit()
        self._advance()

    def action_cursor_left(self) -> None:
        """Move the cursor to the next point at least one cell to the left."""
        self._move_cursor(-1)

    def action_cursor_right(self) -> None:
        """Move the cursor to the next point at least one cell to the right."""
        self._move_cursor(1)

    def _move_cursor(self, cells: int) -> None:
        painter = self._painter
        painter.viewport.move_cursor(cells * painter.cell_width, painter.axes)
        self._advance()

    def action_hide_cursor(self) -> None:
        """Hide the cursor."""
        self._painter.viewport.cursor = None
        self._advance()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the binding of escape while there is no cursor to hide."""
        return action != "hide_cursor" or self._painter.viewport.cursor is not None

    def on_click(self, event: Click) -> None:
        """Move the cursor to the point nearest to a click in the plot."""
        x = self._painter.x_at(event.screen_x - self.content_region.x)
        if x is not None and (point := nearest(x, self._painter.axes)) is not None:
            event.stop()
            self._painter.viewport.place_cursor(point)
            self._advance()
