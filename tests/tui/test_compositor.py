from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any
from unicodedata import normalize

import pyte
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot
from textual.screen import Screen

from kdtui.tui.compositor import NarrowCompositor
from tests.tui.piloting import strips as screen_strips
from tests.tui.widgets.tables import Tabled, some


class Writing(HeadlessDriver):
    """Feeds an emulator with what a terminal would get."""

    terminal: pyte.Screen

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        pyte.Stream(self.terminal).feed(data)


class Narrow(Tabled):
    """The table as in the cockpit: only changed columns are sent."""

    def get_default_screen(self) -> Screen[None]:
        screen = Screen[None]()
        screen._compositor = NarrowCompositor()
        return screen


def changes(app: Tabled, dice: random.Random) -> Iterator[Callable[[], None]]:
    """What may happen to a table."""
    names = ["run", "日本語", "a longer name than others", "e\u0301e\u0301"]
    while True:
        key = dice.choice(list(app.rows))
        kind = dice.randrange(6)
        if kind < 3:
            app.rows[key][4] = f"{dice.random() * 10 ** dice.randrange(4):.3f}"
            app.rows[key][1] = dice.choice(names)
            yield lambda key=key: app.table.show(list(app.rows), [key])  # type: ignore[misc]
        elif kind == 3:
            yield lambda: app.table.show(dice.sample(list(app.rows), dice.randrange(len(app.rows))))
        elif kind == 4:
            yield dice.choice([app.table.action_cursor_down, app.table.action_end, app.table.action_page_up])
        else:
            yield dice.choice([app.table.action_toggle_mark, lambda: app.table.set_sorted("loss", dice.random() < 0.5)])


async def test_narrow_updates_add_up_to_the_whole_screen() -> None:
    Writing.terminal = pyte.Screen(60, 12)
    app = Narrow(some(30))
    app.driver_class = Writing
    failed: list[str] = []

    async def play(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        for _, change in zip(range(80), changes(app, random.Random(7)), strict=False):
            change()
            await pilot.pause()
            wanted = [normalize("NFC", strip.text).rstrip() for strip in screen_strips(app)]
            found = [line.rstrip() for line in Writing.terminal.display]
            if found != wanted:
                failed.append("\n".join([*found, "-- instead of", *wanted]))
                break
        app.exit()

    await app.run_async(size=(60, 12), mouse=False, auto_pilot=play)
    assert not failed, failed[0]
