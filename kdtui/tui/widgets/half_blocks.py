"""Images in a terminal: a cell shows two pixels, as ``▀`` in the upper one's colour on the lower one's as background.

:func:`draw` needs Pillow and is slow: call it in a thread. :class:`HalfBlocks` displays its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kdtui.text import clean, width
from kdtui.tui.widgets.columns import cut

if TYPE_CHECKING:
    from PIL.Image import Image

Pixel = tuple[int, int, int]
PixelPair = tuple[Pixel, Pixel | None]
"""Upper and lower pixel; None where the image ends in the middle of the cell."""


@dataclass(frozen=True)
class Tile:
    """An image and the label above it."""

    label: str
    image: Image


@dataclass(frozen=True)
class Drawn:
    """A scaled tile: ``rows`` of cells, and the position of its label."""

    label: str
    column: int
    row: int
    width: int
    rows: tuple[tuple[PixelPair, ...], ...]


@dataclass(frozen=True)
class TileGrid:
    """Arrangement of the tiles: how many per row, and the size of each in columns and pixel rows."""

    across: int
    columns: int
    pixels: int


def arrange(count: int, tile: tuple[int, int], room: Size) -> TileGrid | None:
    """The arrangement with the largest tiles; None if there is not enough room.

    Args:
        count: Number of tiles, at least one.
        tile: Width and height of each tile in pixels; the aspect ratio is kept.
        room: Available columns and rows of the terminal; each row of tiles needs one for its labels.
    """
    grids = []
    for across in range(1, count + 1):
        down = -(-count // across)
        columns = (room.width - (across - 1)) // across
        pixels = 2 * (room.height // down - 1)
        if columns >= 1 and pixels >= 2:
            scale = min(columns / tile[0], pixels / tile[1])
            grids.append((down, TileGrid(across, max(1, round(tile[0] * scale)), max(1, round(tile[1] * scale)))))
    if not grids:
        return None
    # The largest; among equals the one with the fewest rows, then the one with the fewest tiles per row.
    return max(grids, key=lambda found: (found[1].columns, found[1].pixels, -found[0], -found[1].across))[1]


def draw(tiles: Sequence[Tile], room: Size) -> list[Drawn]:
    """Scale tiles of equal size to the available room; empty if there is none."""
    if not tiles:
        return []
    grid = arrange(len(tiles), tiles[0].image.size, room)
    if grid is None:
        return []
    drawn = []
    for index, tile in enumerate(tiles):
        below, beside = divmod(index, grid.across)
        height = -(-grid.pixels // 2)
        rows = _cells(tile.image, grid.columns, grid.pixels)
        drawn.append(Drawn(tile.label, beside * (grid.columns + 1), below * (height + 1), grid.columns, rows))
    return drawn


def _cells(image: Image, columns: int, pixels: int) -> tuple[tuple[PixelPair, ...], ...]:
    from PIL.Image import Resampling

    smaller = columns < image.width
    # Averaging keeps thin structures when the image shrinks; when it grows, a pixel stays a square.
    scaled = image.convert("RGB").resize((columns, pixels), Resampling.BOX if smaller else Resampling.NEAREST)
    data = scaled.tobytes()
    lines = [
        [(data[at], data[at + 1], data[at + 2]) for at in range(y * columns * 3, (y + 1) * columns * 3, 3)]
        for y in range(pixels)
    ]
    return tuple(
        tuple(zip(lines[y], lines[y + 1] if y + 1 < pixels else [None] * columns, strict=True))
        for y in range(0, pixels, 2)
    )


class HalfBlocks(Widget):
    """Displays drawn tiles, or a text instead."""

    DEFAULT_CSS = """
    HalfBlocks { height: 1fr; width: 1fr; }
    """

    class Room(Message):
        """Posted when the available size changed, so that the tiles have to be drawn again."""

        def __init__(self, size: Size) -> None:
            self.size = size
            super().__init__()

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._drawn: tuple[Drawn, ...] = ()
        self._words: tuple[str, ...] = ()

    def show(self, drawn: Sequence[Drawn]) -> None:
        """Display tiles."""
        self._become(tuple(drawn), ())

    def tell(self, text: str) -> None:
        """Display a text instead of tiles; control characters are removed."""
        self._become((), tuple(clean(text).expandtabs().split("\n")))

    def _become(self, drawn: tuple[Drawn, ...], words: tuple[str, ...]) -> None:
        if (drawn, words) != (self._drawn, self._words):
            self._drawn, self._words = drawn, words
            self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Post the new size."""
        self.post_message(self.Room(self.content_size))

    def render_line(self, y: int) -> Strip:
        """Render one row of cells or labels."""
        base, room = self.rich_style, self.content_size.width
        if self._words:
            text = self._words[y] if y < len(self._words) else ""
            return Strip([Segment(cut(text, room), base)]).adjust_cell_length(room, base)
        segments: list[Segment] = []
        at = 0
        for tile in self._drawn:
            row = y - tile.row
            if not 0 <= row <= len(tile.rows):
                continue
            segments.append(Segment(" " * (tile.column - at), base))
            if row == 0:
                label = cut(tile.label, tile.width)
                segments.append(Segment(label + " " * (tile.width - width(label)), base + Style(bold=True)))
            else:
                segments += _segments(tile.rows[row - 1], base)
            at = tile.column + tile.width
        return Strip(segments).adjust_cell_length(room, base)


def _segments(cells: Sequence[PixelPair], base: Style) -> list[Segment]:
    """One segment per run of equal cells: a class mask has few of them."""
    segments = []
    begin = 0
    for end in range(1, len(cells) + 1):
        if end == len(cells) or cells[end] != cells[begin]:
            upper, lower = cells[begin]
            solid = upper == lower
            style = base + _colours(upper, None if solid else lower)
            segments.append(Segment(("█" if solid else "▀") * (end - begin), style))
            begin = end
    return segments


@lru_cache(4096)
def _colours(upper: Pixel, lower: Pixel | None) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=None if lower is None else Color.from_rgb(*lower))
