"""The chart beside textual-plotext, in one process: time of a frame, time and bytes of an update.

Both stand in an app of 80x24 whose driver counts what it is given to write: ``make bench``. Each update is one more
look at runs that grow, as in the cockpit. The first painting of a chart is a frame: everything is worked out and
written anew.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver
from textual_plotext import PlotextPlot

from kdtui.tui.values import Series
from kdtui.tui.widgets.chart.line_chart import LineChart

WIDTH, HEIGHT = 78, 8
COLOURS = ("cyan", "red", "green", "yellow", "magenta", "blue", "white", "orange")


class CountingDriver(HeadlessDriver):
    """Writes nowhere and counts the bytes. Textual draws for it, as it does not for a headless one."""

    written = 0

    @property
    def is_headless(self) -> bool:
        """Drawn for."""
        return False

    def write(self, data: str) -> None:
        """Count."""
        CountingDriver.written += len(data.encode())


class Stage(App[None]):
    """One widget in the room that a screen of 80x24 leaves a chart."""

    CSS = f"Screen > * {{ width: {WIDTH}; height: {HEIGHT}; }}"

    def __init__(self, widget: LineChart | PlotextPlot) -> None:
        super().__init__(driver_class=CountingDriver)
        self.widget = widget

    def compose(self) -> ComposeResult:
        """The widget."""
        yield self.widget


@dataclass
class Growing:
    """Runs whose curves grow: noise around a decay, as losses are.

    Attributes:
        runs: How many.
        points: Of each at the start.
        horizon: Of each at its end.
        seed: Of the noise.
    """

    runs: int
    points: int
    horizon: int
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.xs: list[list[int]] = [[] for _ in range(self.runs)]
        self.ys: list[list[float]] = [[] for _ in range(self.runs)]
        self.grow(self.points)

    def grow(self, by: int) -> None:
        """More points on every curve."""
        gauss = self._random.gauss
        for run, (xs, ys) in enumerate(zip(self.xs, self.ys, strict=True)):
            for _ in range(by):
                step = len(xs) + 1
                xs.append(step)
                ys.append((1.5 + run / 10) * math.exp(-5 * step / self.horizon) + 0.3 + gauss(0, 0.02))

    def series(self) -> list[Series]:
        """For our chart."""
        return [
            Series(str(run), chr(65 + run), f"b0-from-b3-t{run}", xs, ys, COLOURS[run % len(COLOURS)], run % 4)
            for run, (xs, ys) in enumerate(zip(self.xs, self.ys, strict=True))
        ]


@dataclass
class Costs:
    """Medians over the rounds; seconds of processor time and bytes written."""

    first: float
    first_bytes: float
    update: float
    update_bytes: float


def show_ours(chart: LineChart, runs: Growing) -> None:
    """One look with our chart."""
    chart.show(runs.series(), title="loss", x_label="step", x_max=runs.horizon)


def show_plotext(plot: PlotextPlot, runs: Growing) -> None:
    """One look with plotext, which takes all points each time."""
    plt = plot.plt
    plt.clear_data()
    plt.title("loss")
    plt.xlim(0, runs.horizon)
    for run, (xs, ys) in enumerate(zip(runs.xs, runs.ys, strict=True)):
        plt.plot(xs, ys, label=f"b0-from-b3-t{run}", marker="braille")
    plot.refresh()


async def cost_of(step: Callable[[], None]) -> tuple[float, int]:
    """Processor time and bytes until what ``step`` asked for is written."""
    bytes_before, begin = CountingDriver.written, time.process_time()
    step()
    for _ in range(4):  # a few of Textual's frames; longer than any of them takes to begin
        await asyncio.sleep(1 / 50)
    return time.process_time() - begin, CountingDriver.written - bytes_before


async def staged(ours: bool, runs: Growing, by: int, rounds: int) -> Costs:
    """Costs of one widget in an app of its own.

    Args:
        ours: Our chart, or plotext's.
        runs: What it shows; it grows meanwhile.
        by: New points of each curve between two updates.
        rounds: Updates.
    """
    widget = LineChart() if ours else PlotextPlot()
    app = Stage(widget)
    costs: list[tuple[float, int]] = []

    async def drive() -> None:
        while not (app.is_running and widget.size):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        idle, _ = await cost_of(lambda: None)
        for _ in range(rounds + 1):
            seconds, size = await cost_of(lambda: _look(widget, runs))
            costs.append((max(seconds - idle, 0.0), size))
            runs.grow(by)
        app.exit()

    await _both(app.run_async(size=(80, 24)), drive())
    (first, first_bytes), *updates = costs
    return Costs(
        first,
        first_bytes,
        statistics.median(seconds for seconds, _ in updates),
        statistics.mean(size for _, size in updates),
    )


def _look(widget: LineChart | PlotextPlot, runs: Growing) -> None:
    if isinstance(widget, LineChart):
        show_ours(widget, runs)
    else:
        show_plotext(widget, runs)


async def _both(*awaitables: Awaitable[None]) -> None:
    await asyncio.gather(*awaitables)


CASES = (
    ("1 run, 500 points and 2 more each time", 1, 500, 5_000, 2, 40),
    ("8 runs, 20 000 points and 2 more each time", 8, 20_000, 60_000, 2, 10),
    ("2 runs, 200 000 points and 10 more each time", 2, 200_000, 400_000, 10, 4),
)


def main() -> None:
    """Print a row per case."""
    print(f"chart of {WIDTH}x{HEIGHT}; processor time, bytes to the terminal; ours, plotext, ratio")
    for name, runs, points, horizon, by, rounds in CASES:
        ours = asyncio.run(staged(True, Growing(runs, points, horizon), by, rounds))
        theirs = asyncio.run(staged(False, Growing(runs, points, horizon), by, rounds))
        print(name)
        for what, mine, other, unit, scale in (
            ("first frame", ours.first, theirs.first, "ms", 1e3),
            ("first frame", ours.first_bytes, theirs.first_bytes, "bytes", 1),
            ("update", ours.update, theirs.update, "ms", 1e3),
            ("update", ours.update_bytes, theirs.update_bytes, "bytes", 1),
        ):
            ratio = f"{other / mine:6.1f}x" if mine else "      -"
            print(f"  {what:12} {mine * scale:9.1f} {other * scale:9.1f} {unit:5} {ratio}")


if __name__ == "__main__":
    main()
