from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from kdtui.tui.values import ReferenceLine, Series
from kdtui.tui.widgets.chart.line_chart import SMOOTHINGS, LineChart
from tests.tui.widgets.chart.growing_chart import HEIGHT, WIDTH, Live, Shown, until


async def test_the_screen_shows_what_was_painted_after_every_update() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart)
        for by in (0, 1, 5, 50, 400, 1, 1):
            live.grow(by)
            await pilot.pause()
            assert app.rows() == [app.chart.row(y).text for y in range(HEIGHT)]
        assert app.rows()[0].startswith("loss")
        fresh = LineChart()
        await app.mount(fresh)
        fresh.show(live.series(), title="loss", x_label="step", x_max=1500)
        await pilot.pause()
        assert [fresh.row(y).text for y in range(HEIGHT)] == app.rows()


async def test_without_new_data_nothing_is_redrawn() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart)
        await pilot.pause()
        app.chart.asked()
        for _ in range(3):
            live.show()
            await pilot.pause()
        assert app.chart.asked() == []


async def test_a_new_point_redraws_only_the_end_of_its_line_and_its_value() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart, runs=1)
        await pilot.pause()
        for _ in range(40):
            before = [app.chart.row(y).text for y in range(HEIGHT)]
            app.chart.asked()
            live.grow(1)
            after = [app.chart.row(y).text for y in range(HEIGHT)]
            regions = [region for region in app.chart.asked() if region is not None]
            covered = {(y, x + column) for y, x, width in regions for column in range(width)}
            differing = {(y, x) for y in range(HEIGHT) for x in range(WIDTH) if before[y][x] != after[y][x]}
            assert differing <= covered
            assert len(covered) <= len(differing) + 8
            assert sum(width for _, _, width in regions) < WIDTH / 2


async def test_all_is_drawn_again_only_when_the_scale_changes() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart, runs=1, points=10)
        await pilot.pause()
        app.chart.asked()
        large = 0
        for _ in range(300):
            live.grow(1)
            large += sum(region[2] for region in app.chart.asked() if region is not None) > 2 * WIDTH
        assert large < 12


async def test_truncated_and_replaced_curves_are_redrawn() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart, runs=1)
        await pilot.pause()
        whole = app.rows()
        del live.xs[0][100:], live.ys[0][100:]
        live.show()
        await pilot.pause()
        assert app.rows() != whole
        live.ys[0] = [0.5] * 100
        live.show()
        await pilot.pause()
        assert sum(any("⠀" < char <= "⣿" for char in row) for row in app.rows()) == 1


async def test_keys_move_the_cursor_and_the_title_reads_the_values() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        Live(app.chart)
        await pilot.pause()
        await pilot.press("left")
        assert "step 300" in app.chart.row(0).text
        await pilot.press("left", "left")
        assert "step 2" in app.chart.row(0).text
        assert "A ." in app.chart.row(0).text
        assert any("│" in app.chart.row(y).text[8:] for y in range(1, HEIGHT - 1))
        await pilot.press("escape")
        assert "step 2" not in app.chart.row(0).text
        assert app.left == 0
        await pilot.press("escape")
        assert app.left == 1


async def test_zoom_pan_and_reset() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        Live(app.chart)
        await pilot.pause()
        whole = app.rows()
        app.chart.action_zoom_in()
        app.chart.action_zoom_in()
        await pilot.pause()
        near = app.rows()
        assert "zoom" in near[0]
        await pilot.press("shift+left")
        await pilot.pause()
        assert app.rows()[-1] != near[-1]
        await pilot.press("shift+right")
        app.chart.action_zoom_out()
        app.chart.action_reset_view()
        await pilot.pause()
        assert app.rows() == whole


async def test_scale_and_smoothing_are_switched() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        Live(app.chart)
        await pilot.pause()
        plain = app.rows()
        app.chart.action_toggle_log()
        assert app.chart.log_y
        app.chart.action_smoother()
        await pilot.pause()
        assert app.rows()[0].rstrip().endswith("log · smooth .3")
        for _ in SMOOTHINGS:
            app.chart.action_smoother()
        assert app.chart.smoothing == SMOOTHINGS[-1]
        for _ in SMOOTHINGS:
            app.chart.action_rougher()
        app.chart.action_toggle_log()
        await pilot.pause()
        assert app.rows()[0] == plain[0]
        app.chart.smoothing = 7.0
        assert app.chart.smoothing == SMOOTHINGS[-1]


async def test_a_click_in_the_plot_moves_the_cursor() -> None:
    app = Shown(fills=True)
    async with app.run_test(size=(80, 24)) as pilot:
        Live(app.chart)
        await pilot.pause()
        await pilot.click(LineChart, offset=(10, 9))
        assert "step 1" in app.chart.row(0).text
        middle = app.chart.row(0).text
        await pilot.click(LineChart, offset=(2, 9))  # the labels of the axis
        assert app.chart.row(0).text == middle


@pytest.mark.parametrize("series", [0, 1, 30])
async def test_every_size_shows_whole_rows(series: int) -> None:
    app = Shown(fills=True)
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart, runs=series)
        for size in [(3, 3), (4, 4), (12, 5), (30, 9), (31, 9), (60, 10), (79, 24), (80, 24), (81, 24), (150, 40)]:
            await pilot.resize_terminal(*size)
            live.grow(1)
            await pilot.pause()
            content = app.chart.content_size
            assert content == (size[0] - 2, size[1] - 2)
            painted = [app.chart.row(y).text for y in range(content.height)]
            assert [cell_len(row) for row in painted] == [content.width] * content.height
            assert app.rows() == painted


async def test_a_change_of_the_border_moves_the_bands_with_it() -> None:
    app = Shown(fills=True)
    async with app.run_test(size=(80, 24)) as pilot:
        Live(app.chart)
        await pilot.pause()
        app.chart.styles.border = ("none", "red")
        await until(pilot, lambda: app.chart.content_size.width == 80)
        await pilot.pause()
        assert app.rows() == [app.chart.row(y).text for y in range(24)]


def inks(chart: LineChart) -> Iterator[tuple[str, str]]:
    for y in range(HEIGHT):
        for text, style, _ in chart.row(y):
            assert style is not None
            assert style.color is not None
            yield text, style.color.name


async def test_colours_are_those_of_the_theme() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart, runs=4)
        await pilot.pause()
        dark = set(inks(app.chart))
        primary = app.theme_variables["primary"].lower()
        assert any("B" in text and colour == primary for text, colour in dark)
        app.theme = "textual-light"
        await pilot.pause()
        light = set(inks(app.chart))
        assert dark != light
        assert app.rows() == [app.chart.row(y).text for y in range(HEIGHT)]
        live.grow(1)


async def test_curves_are_distinguishable_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        live = Live(app.chart)
        live.grow(10)
        await pilot.press("left")
        rows = app.rows()
        assert rows == [app.chart.row(y).text for y in range(HEIGHT)]
        assert all(any(letter in row[10:50] for row in rows[1:7]) for letter in "AB")


async def test_foreign_text_is_displayed_literally() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        series = Series("a", "A", "[red]名前[/]\x1b[2J", [1, 2], [0.5, 0.6], "cyan")
        app.chart.show([series], references=[ReferenceLine(0.7, "[b]teacher\x07")], title="[link=x]\nloss")
        await pilot.pause()
        shown = "\n".join(app.rows())
        assert "[red]" in shown
        assert "[b]teacher .700" in shown
        assert "[link=x] loss" in shown
        assert shown.replace("\n", "").isprintable()


async def test_data_and_actions_are_accepted_before_mounting_and_while_hidden() -> None:
    app = Shown()
    live = Live(app.chart)
    app.chart.action_cursor_left()
    app.chart.action_zoom_in()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "loss" in app.rows()[0]
        app.chart.display = False
        await pilot.pause()
        live.grow(500)
        app.chart.display = True
        await pilot.pause()
        assert app.rows() == [app.chart.row(y).text for y in range(HEIGHT)]


async def test_rows_beyond_the_chart_are_blank() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)):
        Live(app.chart)
        assert app.chart.row(99).text == " " * WIDTH
