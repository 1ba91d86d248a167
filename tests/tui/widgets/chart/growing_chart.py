"""A chart of curves that grow, in an app of its own, that keeps what it is asked to draw again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.geometry import Region
from textual.pilot import Pilot

from kdtui.tui.values import Series
from kdtui.tui.widgets.chart.line_chart import BANDS, Band, LineChart
from tests.tui.piloting import strips as screen_strips

WIDTH, HEIGHT = 78, 8


class SpyBand(Band):
    """Keeps the regions that it is asked to draw again, as (row, first column, width); None for all of it."""

    DEFAULT_CSS = "SpyBand { width: 1fr; height: 1fr; }"

    def __init__(self, chart: LineChart) -> None:
        self.asked: list[tuple[int, int, int] | None] = []
        super().__init__(chart)

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> SpyBand:
        self.asked += [(region.y, region.x + self.offset_in_chart, region.width) for region in regions] or [None]
        super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self

    @property
    def offset_in_chart(self) -> int:
        return self.region.x - self._chart.content_region.x


class SpyChart(LineChart):
    def compose(self) -> ComposeResult:
        for _ in range(BANDS):
            yield SpyBand(self)

    def asked(self) -> list[tuple[int, int, int] | None]:
        """What was to be drawn again since the last call."""
        asked = []
        for band in self.query(SpyBand):
            asked += band.asked
            band.asked = []
        return asked


class Shown(App[None]):
    CSS = f"""
    LineChart {{ width: {WIDTH}; height: {HEIGHT}; }}
    .fills LineChart {{ width: 1fr; height: 1fr; border: solid red; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "Leave")]

    def __init__(self, *, fills: bool = False) -> None:
        super().__init__()
        self.chart = SpyChart()
        self.left = 0
        self.fills = fills

    def compose(self) -> ComposeResult:
        yield self.chart

    def on_mount(self) -> None:
        self.screen.set_class(self.fills, "fills")
        self.chart.focus()

    def action_leave(self) -> None:
        self.left += 1

    def rows(self) -> list[str]:
        """What the screen shows of the chart."""
        region = self.chart.content_region
        strips = screen_strips(self)[region.y : region.bottom]
        return [strip.crop(region.x, region.right).text for strip in strips]


class Live:
    """Curves that grow, as the watcher's do: the same lists, longer each time."""

    def __init__(self, chart: LineChart, runs: int = 2, points: int = 300) -> None:
        self.chart = chart
        self.xs: list[list[int]] = [[] for _ in range(runs)]
        self.ys: list[list[float]] = [[] for _ in range(runs)]
        self.grow(points)

    def grow(self, by: int) -> None:
        for run, (xs, ys) in enumerate(zip(self.xs, self.ys, strict=True)):
            for _ in range(by):
                xs.append(len(xs) + 1)
                ys.append((1.5 + run / 2) * math.exp(-len(xs) / 200) + 0.3)
        self.show()

    def show(self) -> None:
        self.chart.show(self.series(), title="loss", x_label="step", x_max=1500)

    def series(self) -> list[Series]:
        colours = ("cyan", "primary", "#e69f00", "$text-muted")
        return [
            Series(str(run), chr(65 + run), f"run {run}", xs, ys, colours[run % 4], run)
            for run, (xs, ys) in enumerate(zip(self.xs, self.ys, strict=True))
        ]


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait for a condition; a hundred looks are far more than any of them needs."""
    for _ in range(100):
        if condition():
            return
        await pilot.pause()
    raise AssertionError("it did not come about")
