from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.geometry import Region

from kdtui.tui.widgets.table import Table
from tests.tui.piloting import strips as screen_strips
from tests.tui.widgets.tables import COLUMNS, Tabled, line_of, lines, some


async def test_header_rows_and_the_cursors_sign() -> None:
    app = Tabled(some(3))
    async with app.run_test(size=(80, 10)) as pilot:
        await pilot.pause()
        header, first, second, *_ = lines(app)
        assert header.split() == ["run", "student", "note", "loss"]
        assert first.startswith("> ▶ run-0") and second.startswith("  ▶ run-1")
        assert header.index("loss") + 4 == first.index("0.123") + 5  # numbers end under their title
        assert app.table.cursor_key == "k0"


async def test_only_visible_rows_of_ten_thousand_are_formatted() -> None:
    app = Tabled(some(10_000))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert set(app.asked) == {f"k{n}" for n in range(23)}
        app.asked.clear()
        await pilot.press("end")
        assert app.table.cursor_key == "k9999"
        assert lines(app)[-1].startswith("> ▶ run-9999")
        await pilot.press("pageup")
        assert len(app.asked) <= 2 * 23
        app.asked.clear()
        app.table.show(list(app.rows), ["k1", "k2"])
        await pilot.pause()
        assert app.asked == []


async def test_a_tick_refreshes_only_the_cells_that_differ() -> None:
    app = Tabled(some(200))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.table.refreshed.clear()
        app.table.show(list(app.rows))
        assert app.table.refreshed == []  # everything may have changed, nothing did
        app.rows["k3"][4] = "9.999"
        app.rows["k5"][2] = "mbnet"
        app.rows["k190"][4] = "9.999"
        app.table.show(list(app.rows), ["k3", "k5", "k190"])
        loss = line_of(app, "run-3").index("9.999")
        assert Region(loss, 4, 5, 1) in app.table.refreshed
        assert {(region.y, region.height) for region in app.table.refreshed if region is not None} == {(4, 1), (6, 1)}
        assert all(region is not None and region.width < 15 for region in app.table.refreshed)


async def test_another_style_is_a_difference() -> None:
    app = Tabled(some(4))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.table.refreshed.clear()
        app.tones = ("error", "", "", "", "")
        app.table.show(list(app.rows), ["k2"])
        assert app.table.refreshed == [Region(2, 3, 1, 1)]


async def test_a_number_that_grows_moves_columns_once_and_they_stay() -> None:
    app = Tabled(some(5))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.rows["k1"][4] = "123.456"
        app.table.show(list(app.rows), ["k1"])
        await pilot.pause()
        wide = line_of(app, "run-0").index("0.123")
        assert "123.456" in line_of(app, "run-1")
        app.table.refreshed.clear()
        app.rows["k1"][4] = "1.1"
        app.table.show(list(app.rows), ["k1"])
        assert len(app.table.refreshed) == 1
        assert line_of(app, "run-0").index("0.123") == wide
        app.rows["k1"][4] = "123456789.1"
        app.table.show(list(app.rows), ["k1"])
        assert "123456…" not in line_of(app, "run-1") and "1234567…" in line_of(app, "run-1")


async def test_a_resize_drops_columns_and_brings_them_back() -> None:
    app = Tabled(some(50))
    async with app.run_test(size=(120, 24)) as pilot:
        await pilot.pause()
        whole = lines(app)[0].split()
        await pilot.press("end")
        await pilot.resize_terminal(60, 10)
        await pilot.pause()
        assert lines(app)[0].split() == ["run", "student", "loss"]
        assert any(line.startswith("> ▶ run-49") for line in lines(app))  # the cursor is still in sight
        await pilot.resize_terminal(30, 10)
        await pilot.pause()
        assert lines(app)[0].split() == ["run", "student", "loss"]
        await pilot.resize_terminal(25, 10)
        await pilot.pause()
        assert lines(app)[0].split() == ["run", "loss"]
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert lines(app)[0].split() == whole == ["run", "student", "note", "loss"]


async def test_the_cursor_stays_on_its_key_and_on_its_line_when_the_order_changes() -> None:
    app = Tabled(some(100))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.table.move_to("k50")
        await pilot.pause()
        at = lines(app).index(line_of(app, "run-50 "))
        app.told.clear()
        app.rows["new"] = ["▶", "run-new", "", "", ""]
        app.table.show(["new", *(f"k{n}" for n in range(100))])
        await pilot.pause()
        assert app.table.cursor_key == "k50" and lines(app).index(line_of(app, "run-50 ")) == at
        app.table.show([f"k{n}" for n in reversed(range(100))])
        await pilot.pause()
        assert app.table.cursor_key == "k50" and line_of(app, "run-50 ").startswith(">")
        assert app.told == []  # it never moved to another key


async def test_at_the_top_new_rows_become_visible() -> None:
    app = Tabled(some(100))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.rows["new"] = ["▶", "run-new", "", "", ""]
        app.table.show(["new", *(f"k{n}" for n in range(100))])
        await pilot.pause()
        assert "run-new" in lines(app)[1] and lines(app)[2].startswith("> ▶ run-0")


@pytest.mark.parametrize(
    ("left", "then"),
    [
        (["k0", "k1", "k3", "k4"], "k3"),  # the row below moves up
        (["k0", "k1"], "k1"),  # nothing below: the row above
        (["k4", "k0"], "k4"),
        ([], None),
    ],
)
async def test_when_the_row_under_the_cursor_is_removed_the_cursor_moves_to_the_nearest(
    left: list[str], then: str | None
) -> None:
    app = Tabled(some(5))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.table.move_to("k2")
        await pilot.pause()
        app.told.clear()
        for key in set(app.rows) - set(left):
            del app.rows[key]
        app.table.show(left)
        await pilot.pause()
        assert app.table.cursor_key == then
        assert [message.key for message in app.told if isinstance(message, Table.Moved)] == [then]
        assert sum(line.startswith(">") for line in lines(app)) == (then is not None)


async def test_control_characters_are_not_interpreted() -> None:
    rows = {
        "markup": ["▶", "[red]x[/][@click=app.quit]q[/]", "[b]", "", "1.0"],
        "escape": ["\x1b[31m", "a\x1b[31mred\x1b]0;title\x07", "tab\tnew\nline", "\u202eabc\u200b", "2.0"],
        "wide": ["▶", "日本語の実験の名前がとても長い場合のための行です", "한국어", "e\u0301" * 20, "3.0"],
        "selector": ["▶", "❤\ufe0f❤\ufe0f👩\u200d👩", "", "", "4.0"],
    }
    app = Tabled(rows)
    async with app.run_test(size=(90, 10)) as pilot:
        await pilot.pause()
        text = lines(app)  # each fills the line exactly
        assert "[red]x[/][@click=app.quit]q[/]" in "\n".join(text) and "[b]" in "\n".join(text)
        assert "a[31mred]0;title" in "\n".join(text) and "tab new line" in "\n".join(text)
        assert all(letter.isprintable() for line in text for letter in line)
        ends = {cell_len(line[: line.index(loss) + 3]) for line, loss in zip(text[1:5], "1234", strict=True)}
        assert len(ends) == 1  # the last column is never pushed aside
        assert "…" in text[3]


async def test_without_colour_the_cursor_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Tabled(some(3))
    async with app.run_test(size=(80, 10)) as pilot:
        await pilot.pause()
        strips = screen_strips(app)
        assert strips[1].text.startswith("> ▶ run-0")
        assert all(segment.style is not None and segment.style.reverse for segment in strips[1])
        assert not any(segment.style is not None and segment.style.reverse for segment in strips[2])
        app.screen.set_focus(None)
        await pilot.pause()
        strips = screen_strips(app)
        assert strips[1].text.startswith("> ▶ run-0")
        assert all(segment.style is not None and segment.style.bold for segment in strips[1])


async def test_colours_follow_the_theme() -> None:
    app = Tabled(some(3), tones=("success", "text-muted", "#56b4e9", "", "warning"))
    async with app.run_test(size=(80, 10)) as pilot:
        await pilot.pause()

        def colours() -> list[str]:
            strip = app.table.render_line(2)
            return [str(segment.style.color.name) for segment in strip if segment.style and segment.style.color]

        dark = colours()
        assert app.theme_variables["success"].lower() in dark and "#56b4e9" in dark
        app.theme = "textual-light"
        await pilot.pause()
        assert colours() != dark and "#56b4e9" in colours()


async def test_columns_can_be_replaced() -> None:
    app = Tabled(some(5))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.rows = {key: texts[:2] for key, texts in app.rows.items()}
        app.tones = ("", "")
        app.table.set_columns(COLUMNS[:2])
        app.table.show(list(app.rows))
        await pilot.pause()
        assert lines(app)[0].split() == ["run"]
        assert line_of(app, "run-0").split() == [">", "▶", "run-0"] and app.table.cursor_key == "k0"
