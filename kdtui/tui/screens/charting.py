"""The keys of the chart, for every screen with a chart."""

from __future__ import annotations

from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.widgets.chart.line_chart import LineChart

CHART_HINT = r"m metric  l log  ., smooth  zZ zoom  \[ ] read"
"""Subtitle in the lower border of a chart."""


class ChartKeys(CockpitScreen):
    """A screen with the actions of the scope ``chart``, which it forwards to its chart."""

    @property
    def chart(self) -> LineChart:
        """The chart on which the actions work."""
        raise NotImplementedError

    def step_metric(self, by: int) -> None:
        """Display the next (1) or the previous (-1) metric."""
        raise NotImplementedError

    def action_next_metric(self) -> None:
        """Display the next metric."""
        self.step_metric(1)

    def action_previous_metric(self) -> None:
        """Display the previous metric."""
        self.step_metric(-1)

    def action_toggle_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self.chart.action_toggle_log()

    def action_smoother(self) -> None:
        """Increase the smoothing."""
        self.chart.action_smoother()

    def action_rougher(self) -> None:
        """Decrease the smoothing."""
        self.chart.action_rougher()

    def action_zoom_in(self) -> None:
        """Zoom in."""
        self.chart.action_zoom_in()

    def action_zoom_out(self) -> None:
        """Zoom out."""
        self.chart.action_zoom_out()

    def action_pan_left(self) -> None:
        """Pan to the left."""
        self.chart.action_pan_left()

    def action_pan_right(self) -> None:
        """Pan to the right."""
        self.chart.action_pan_right()

    def action_cursor_left(self) -> None:
        """Move the cursor to the left."""
        self.chart.action_cursor_left()

    def action_cursor_right(self) -> None:
        """Move the cursor to the right."""
        self.chart.action_cursor_right()

    def action_reset_view(self) -> None:
        """Reset zoom and cursor."""
        self.chart.action_reset_view()
