from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from textual.app import App, ComposeResult
from textual.geometry import Size

from kdtui.tui.widgets.half_blocks import Drawn, HalfBlocks, Tile, arrange, draw

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def picture(*rows: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.new("RGB", (len(rows[0]), len(rows)))
    image.putdata([pixel for row in rows for pixel in row])
    return image


@given(st.integers(1, 7), st.tuples(st.integers(1, 600), st.integers(1, 600)), st.integers(0, 130), st.integers(0, 50))
def test_tiles_are_within_the_area_and_do_not_overlap(
    count: int, size: tuple[int, int], columns: int, rows: int
) -> None:
    room = Size(columns, rows)
    drawn = draw([Tile(f"t{n}", Image.new("RGB", size)) for n in range(count)], room)
    assert bool(drawn) == (arrange(count, size, room) is not None)
    taken: set[tuple[int, int]] = set()
    for tile in drawn:
        cells = {(tile.column + x, tile.row + y) for x in range(tile.width) for y in range(len(tile.rows) + 1)}
        assert all(0 <= x < columns and 0 <= y < rows for x, y in cells)
        assert not taken & cells
        taken |= cells


@pytest.mark.parametrize(
    ("room", "across"),
    [(Size(80, 19), 3), (Size(200, 19), 5), (Size(30, 60), 1)],
)
def test_tiles_are_arranged_so_that_they_are_largest(room: Size, across: int) -> None:
    grid = arrange(5, (64, 64), room)
    assert grid is not None and grid.across == across
    assert grid.columns == grid.pixels  # square as the tile


def test_each_cell_is_two_pixels() -> None:
    tile = Tile("t", picture([RED, GREEN], [BLUE, GREEN], [WHITE, RED], [WHITE, BLUE]))
    (drawn,) = draw([tile], Size(2, 3))
    assert drawn.rows == (((RED, BLUE), (GREEN, GREEN)), ((WHITE, WHITE), (RED, BLUE)))


def test_the_last_cell_of_an_odd_picture_has_no_lower_pixel() -> None:
    (drawn,) = draw([Tile("t", picture([RED], [GREEN], [BLUE]))], Size(1, 3))
    assert drawn.rows == (((RED, GREEN),), ((BLUE, None),))


def test_shrunk_pixels_are_averages_and_enlarged_ones_squares() -> None:
    (small,) = draw([Tile("t", picture([RED, GREEN], [RED, GREEN]))], Size(1, 2))
    upper, _ = small.rows[0][0]
    assert upper[0] in (127, 128) and upper[1] in (127, 128)
    (large,) = draw([Tile("t", picture([RED, GREEN]))], Size(8, 40))
    assert [cell[0] for cell in large.rows[0]] == [RED] * 4 + [GREEN] * 4


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.rooms: list[Size] = []

    def compose(self) -> ComposeResult:
        yield HalfBlocks()

    def on_half_blocks_room(self, event: HalfBlocks.Room) -> None:
        self.rooms.append(event.size)


@pytest.mark.parametrize("no_colour", [False, True])
async def test_rows_have_labels_and_cells_in_their_columns(monkeypatch: pytest.MonkeyPatch, no_colour: bool) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(12, 5)) as pilot:
        view = app.query_one(HalfBlocks)
        left = Drawn("left", 0, 0, 4, (((RED, BLUE),) * 2 + ((GREEN, GREEN),) * 2, ((RED, None),) * 4))
        view.show([left, Drawn("too long", 5, 0, 3, (((RED, RED),) * 3,))])
        await pilot.pause()
        rows = [view.render_line(y) for y in range(5)]
        assert [row.text for row in rows] == [
            "left to…    ",
            "▀▀██ ███    ",
            "▀▀▀▀        ",
            "            ",
            "            ",
        ]
        first = rows[1]._segments[1].style
        assert first is not None and first.color is not None and first.bgcolor is not None
        assert (tuple(first.color.triplet or ()), tuple(first.bgcolor.triplet or ())) == (RED, BLUE)


async def test_a_resize_requests_new_tiles_and_texts_are_displayed() -> None:
    app = Shown()
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.pause()
        await pilot.resize_terminal(60, 12)
        await pilot.pause()
        assert app.rooms[0] == Size(40, 10) and app.rooms[-1] == Size(60, 12)
        view = app.query_one(HalfBlocks)
        view.tell("no [b]pictures\x1b[31m yet\nline two")
        assert view.render_line(0).text.rstrip() == "no [b]pictures[31m yet"
        assert view.render_line(1).text.rstrip() == "line two"
