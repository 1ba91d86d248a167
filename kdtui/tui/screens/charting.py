"""The chart's keys, for every screen that shows one."""

from __future__ import annotations

from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.widgets.chart.line_chart import LineChart

CHART_HINT = r"m metric  l log  ., smooth  zZ zoom  \[ ] read"
"""For the lower border of a chart."""


class ChartKeys(CockpitScreen):
    """A screen with the actions of the scope ``chart``, handed to its chart."""

    @property
    def chart(self) -> LineChart:
        """The chart the keys are for."""
        raise NotImplementedError

    def step_metric(self, by: int) -> None:
        """Show the next (1) or the former (-1) curve."""
        raise NotImplementedError

    def action_next_metric(self) -> None:
        """The next curve."""
        self.step_metric(1)

    def action_previous_metric(self) -> None:
        """The curve before."""
        self.step_metric(-1)

    def action_toggle_log(self) -> None:
        """Logarithmic or linear height."""
        self.chart.action_toggle_log()

    def action_smoother(self) -> None:
        """Smooth more."""
        self.chart.action_smoother()

    def action_rougher(self) -> None:
        """Smooth less."""
        self.chart.action_rougher()

    def action_zoom_in(self) -> None:
        """Closer."""
        self.chart.action_zoom_in()

    def action_zoom_out(self) -> None:
        """Farther away."""
        self.chart.action_zoom_out()

    def action_pan_left(self) -> None:
        """To the left."""
        self.chart.action_pan_left()

    def action_pan_right(self) -> None:
        """To the right."""
        self.chart.action_pan_right()

    def action_cursor_left(self) -> None:
        """The value before."""
        self.chart.action_cursor_left()

    def action_cursor_right(self) -> None:
        """The next value."""
        self.chart.action_cursor_right()

    def action_reset_view(self) -> None:
        """All of it, without a cursor."""
        self.chart.action_reset_view()
