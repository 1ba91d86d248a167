"""A table over rows that a test changes."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.message import Message

from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.table import Table

COLUMNS = (
    Column("glyph", "", 1, 1),
    Column("name", "run", 10, grow=True),
    Column("student", "student", 8, 12, drop=1),
    Column("note", "note", 30, 30, drop=2),
    Column("loss", "loss", 5, 8, right=True),
)


class Watched(Table):
    """Says what was refreshed."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.refreshed: list[Region | None] = []

    def refresh(self, *regions: Region, **kw: Any) -> Watched:
        if hasattr(self, "refreshed"):
            self.refreshed += regions or ([None] if kw.get("repaint", True) else [])
        return super().refresh(*regions, **kw)


class Tabled(App[None]):
    """A table over rows that the test changes."""

    def __init__(self, rows: dict[str, list[str]], tones: tuple[str, ...] = ("success", "", "", "", "")) -> None:
        super().__init__()
        self.rows = rows
        self.tones = tones
        self.asked: list[str] = []
        self.told: list[Message] = []

    def compose(self) -> ComposeResult:
        yield Watched(COLUMNS, self.cells, empty="no runs yet: n sets one up", id="table")

    def cells(self, key: str) -> list[Cell]:
        self.asked.append(key)
        return [Cell(text, style) for text, style in zip(self.rows[key], self.tones, strict=True)]

    def on_mount(self) -> None:
        self.table.show(list(self.rows))
        self.table.focus()

    def on_table_moved(self, event: Table.Moved) -> None:
        self.told.append(event)

    def on_table_opened(self, event: Table.Opened) -> None:
        self.told.append(event)

    def on_table_marked(self, event: Table.Marked) -> None:
        self.told.append(event)

    def on_table_header_clicked(self, event: Table.HeaderClicked) -> None:
        self.told.append(event)

    @property
    def table(self) -> Watched:
        return self.query_one("#table", Watched)

    def kinds(self) -> list[type[Message]]:
        return [type(message) for message in self.told]


def some(count: int) -> dict[str, list[str]]:
    return {f"k{n}": ["▶", f"run-{n}", "effnet-b0", f"note {n}", f"{n % 7}.123"] for n in range(count)}


def lines(app: App[Any]) -> list[str]:
    table = app.query_one(Table)
    room = table.scrollable_content_region
    strips = [table.render_line(y) for y in range(room.height)]
    assert all(strip.cell_length == room.width == cell_len(strip.text) for strip in strips)
    return [strip.text for strip in strips]


def line_of(app: App[Any], text: str) -> str:
    return next(line for line in lines(app) if text in line)
