from __future__ import annotations

from textual.events import MouseScrollDown
from textual.geometry import Region

from kdtui.tui.values import Cell
from kdtui.tui.widgets.table import Table
from tests.tui.widgets.tables import Tabled, line_of, lines, some


async def test_an_empty_table_displays_a_hint_until_it_has_rows() -> None:
    app = Tabled({})
    async with app.run_test(size=(30, 8)) as pilot:
        await pilot.pause()
        assert "no runs yet: n sets one" in "\n".join(lines(app))
        for key in ("up", "down", "pageup", "pagedown", "home", "end"):
            await pilot.press(key)
        app.table.action_open()
        app.table.action_toggle_mark()
        assert app.told == []
        app.table.empty = "no run fits"
        assert "no run fits" in "\n".join(lines(app))
        app.rows.update(some(2))
        app.table.show(list(app.rows))
        await pilot.pause()
        assert "no run fits" not in "\n".join(lines(app))
        assert app.table.cursor_key == "k0" and app.kinds() == [Table.Moved]


async def test_marks_and_letters() -> None:
    app = Tabled(some(5))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.table.action_toggle_mark()
        await pilot.pause()
        (message,) = (each for each in app.told if isinstance(each, Table.Marked))
        assert message.keys == app.table.marks == frozenset({"k0"}) and message.control is app.table
        app.table.refreshed.clear()
        app.table.letters = {"k0": "A", "k2": "C"}
        app.table.marks = frozenset({"k0", "k2"})
        assert set(app.table.refreshed) == {Region(0, 1, 2, 1), Region(0, 3, 2, 1)}
        assert line_of(app, "run-0").startswith(">A▶") and line_of(app, "run-2").startswith(" C▶")
        app.table.letters = {"k2": Cell("C", "#56b4e9")}
        assert line_of(app, "run-0").startswith(">*▶")  # marked, and no letter was given
        app.table.action_toggle_mark()
        assert app.table.marks == frozenset({"k2"})


async def test_the_sorted_column_is_marked_without_moving_any() -> None:
    app = Tabled(some(5))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        row = line_of(app, "run-0")
        app.table.refreshed.clear()
        app.table.set_sorted("loss", True)
        assert {region.y for region in app.table.refreshed if region is not None} == {0}
        assert lines(app)[0].rstrip().endswith("▼") and line_of(app, "run-0") == row
        app.table.set_sorted("student", False)
        assert "student▲" in lines(app)[0] and "▼" not in lines(app)[0]
        app.table.set_sorted(None, False)
        assert "▲" not in lines(app)[0]


async def test_keys_move_the_cursor_and_keep_it_visible() -> None:
    app = Tabled(some(100))
    async with app.run_test(size=(80, 11)) as pilot:
        await pilot.pause()
        steps = {"down": 1, "pagedown": 11, "up": 10, "end": 99, "right": 99, "home": 0, "pageup": 0}
        for key, then in steps.items():
            await pilot.press(key)
            assert app.table.cursor_key == f"k{then}", key
            assert sum(line.startswith(">") for line in lines(app)) == 1, key
        app.table.move_to("no such key")
        assert app.table.cursor_key == "k0"
        app.table.action_open()
        await pilot.pause()
        assert isinstance(app.told[-1], Table.Opened) and app.told[-1].key == "k0"


async def test_the_mouse_moves_opens_sorts_and_scrolls() -> None:
    app = Tabled(some(100))
    async with app.run_test(size=(80, 11)) as pilot:
        await pilot.pause()
        app.told.clear()
        await pilot.click("#table", offset=(6, 4))
        assert app.table.cursor_key == "k3" and app.kinds() == [Table.Moved]
        await pilot.double_click("#table", offset=(6, 5))
        assert [message.key for message in app.told if isinstance(message, Table.Opened)] == ["k4"]
        app.told.clear()
        await pilot.click("#table", offset=(lines(app)[0].index("loss"), 0))
        (message,) = app.told
        assert isinstance(message, Table.HeaderClicked) and message.column_key == "loss"
        await pilot._post_mouse_events([MouseScrollDown], "#table", offset=(6, 4))
        await pilot.pause()
        assert "run-0" not in lines(app)[1] and app.table.cursor_key == "k4"  # the wheel looks, the cursor stays
        await pilot.click("#table", offset=(6, 1))
        assert app.table.cursor_key == f"k{app.table.scroll_offset.y}"


async def test_a_click_below_the_rows_does_nothing() -> None:
    app = Tabled(some(2))
    async with app.run_test(size=(80, 11)) as pilot:
        await pilot.pause()
        app.told.clear()
        await pilot.click("#table", offset=(6, 8))
        assert app.table.cursor_key == "k0" and app.told == []


async def test_the_scrollbar_matches_the_rows() -> None:
    app = Tabled(some(17))
    async with app.run_test(size=(80, 7)) as pilot:
        app.table.show(["k12"])
        await pilot.pause()
        assert not app.table.show_vertical_scrollbar
        app.table.show(list(app.rows))
        app.table.move_to("k16")  # before there was a bar again
        await pilot.pause()
        assert app.table.show_vertical_scrollbar
        assert app.table.vertical_scrollbar.position == app.table.scroll_y == 11
