"""The cockpit's table against Textual's DataTable: 10 000 rows filled, and ticks in which eight rows change.

Both in one process, a round of each in turn, so that the ratios hold when the machine's speed drifts. Bytes are what
a terminal of 120x36 with 24-bit colour would get: ``python -m benchmarks.table``.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

os.environ["TEXTUAL_COLOR_SYSTEM"] = "truecolor"  # read at import

from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import DataTable

from kdtui.tui.compositor import NarrowCompositor
from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.table import Table

ROWS = 10_000
LIVE = 8
TICKS = 20
ROUNDS = 3
SIZE = (120, 36)
COLUMNS = (
    Column("state", "", 1, 1),
    Column("run", "run", 16, 40, grow=True),
    Column("student", "student", 8, 22, drop=2),
    Column("temperature", "T", 4, 6, right=True, drop=4),
    Column("alpha", "α", 4, 4, right=True, drop=4),
    Column("epoch", "ep", 6, 9, right=True),
    Column("loss", "loss", 5, 8, right=True),
    Column("miou", "mIoU", 6, 7, right=True),
    Column("eta", "eta", 9, 60),
)
STYLES = ("success", "", "", "text-muted", "text-muted", "", "", "", "")
CHANGING = ("epoch", "loss", "eta")


class Rows:
    """Runs as texts; the first eight live and change every tick."""

    def __init__(self) -> None:
        self.keys = [f"run-{index:05d}" for index in range(ROWS)]
        self.tick = 0

    def texts(self, key: str) -> tuple[str, ...]:
        """The cells of a row."""
        index = int(key[4:])
        at = self.tick if index < LIVE else 0
        epoch, loss = f"{at // 4 + 1}/80", f"{1.5 / (1 + (at + index) % 50):.3f}"
        eta = f"{30 - at % 30}m{index % 60:02d}s"
        return "▶", f"b0-from-b3-{index}", "effnet-b0", "4.0", "0.70", epoch, loss, f"0.{index % 9999:04d}", eta


class CountingDriver(HeadlessDriver):
    """Counts what would be written to a terminal."""

    written = 0

    @property
    def is_headless(self) -> bool:
        """Textual writes nothing to a headless driver."""
        return False

    def write(self, data: str) -> None:
        """Count."""
        CountingDriver.written += len(data.encode())


class NarrowScreen(Screen[None]):
    """Sends changed columns only, as the cockpit's screens do."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = NarrowCompositor()


class OurTable(App[None]):
    """The table of this repository."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(driver_class=CountingDriver)
        self.rows = rows

    def compose(self) -> ComposeResult:
        """One table."""
        yield Table(COLUMNS, self._cells)

    def get_default_screen(self) -> Screen[None]:
        """As in the cockpit."""
        return NarrowScreen()

    def _cells(self, key: str) -> list[Cell]:
        return [Cell(text, style) for text, style in zip(self.rows.texts(key), STYLES, strict=True)]

    def fill(self) -> None:
        """All rows."""
        self.query_one(Table).show(self.rows.keys)

    def advance(self) -> None:
        """The live rows changed."""
        self.query_one(Table).show(self.rows.keys, self.rows.keys[:LIVE])


class OnTextualsScreen(OurTable):
    """The same on Textual's own screen, which sends rows from their start."""

    def get_default_screen(self) -> Screen[None]:
        """Textual's."""
        return Screen()


class TheirTable(App[None]):
    """Textual's DataTable."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(driver_class=CountingDriver)
        self.rows = rows

    def compose(self) -> ComposeResult:
        """One table."""
        yield DataTable[str](cursor_type="row")

    def fill(self) -> None:
        """All rows."""
        table = self.query_one(DataTable)
        for column in COLUMNS:
            table.add_column(column.title, key=column.key, width=max(column.minimum, 9))
        for key in self.rows.keys:
            table.add_row(*self.rows.texts(key), key=key)

    def advance(self) -> None:
        """The live rows changed."""
        table = self.query_one(DataTable)
        for key in self.rows.keys[:LIVE]:
            for column, text in zip(COLUMNS, self.rows.texts(key), strict=True):
                if column.key in CHANGING:
                    table.update_cell(key, column.key, text)


@dataclass
class Measured:
    """Seconds of processor time and bytes, of each fill and each tick."""

    fill_seconds: list[float] = field(default_factory=list)
    fill_bytes: list[int] = field(default_factory=list)
    tick_seconds: list[float] = field(default_factory=list)
    tick_bytes: list[int] = field(default_factory=list)


@contextmanager
def _measure(seconds: list[float], count: list[int]) -> Iterator[None]:
    begin, written = time.process_time(), CountingDriver.written
    yield
    seconds.append(time.process_time() - begin)
    count.append(CountingDriver.written - written)


async def _round(make: Callable[[Rows], OurTable | TheirTable], measured: Measured) -> None:
    app = make(Rows())

    async def pilot(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        with _measure(measured.fill_seconds, measured.fill_bytes):
            app.fill()
            await pilot.pause()
        for _ in range(TICKS):
            app.rows.tick += 1
            with _measure(measured.tick_seconds, measured.tick_bytes):
                app.advance()
                await pilot.pause()
        app.exit()

    await app.run_async(size=SIZE, mouse=False, auto_pilot=pilot)


TABLES: dict[str, type[OurTable | TheirTable]] = {
    "Table": OurTable,
    "Table, plain screen": OnTextualsScreen,
    "DataTable": TheirTable,
}


async def measured() -> dict[str, Measured]:
    """All tables, in turn."""
    found = {name: Measured() for name in TABLES}
    for _ in range(ROUNDS):
        for name, table in TABLES.items():
            await _round(table, found[name])
    return found


def main() -> None:
    """Print seconds, bytes and ratios to the first."""
    found = asyncio.run(measured())
    print(f"{ROWS} rows at {SIZE[0]}x{SIZE[1]}, {LIVE} rows change in a tick; medians")
    for what in ("fill_seconds", "fill_bytes", "tick_seconds", "tick_bytes"):
        values = {name: statistics.median(getattr(one, what)) for name, one in found.items()}
        scale, unit = (1e3, "ms") if what.endswith("seconds") else (1.0, "B")
        words = [f"{name} {v * scale:.1f} {unit} ({v / values['Table']:.1f}x)" for name, v in values.items()]
        print("  ".join([what.split("_")[0], *words]))


if __name__ == "__main__":
    main()
