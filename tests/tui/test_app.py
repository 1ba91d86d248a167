"""The app around its screens: terminal, themes, quitting, work in threads."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from pathlib import Path

import pyte
import pytest
from textual.message import Message
from textual.pilot import Pilot

from kdtui.errors import LaunchError, UsageError
from kdtui.store.state import State
from kdtui.tui.app import KdtuiApp
from kdtui.tui.cockpit import command_line
from kdtui.tui.keys import KEYS, SCOPES
from kdtui.tui.screens.dialogs import HelpScreen, TooSmall
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.widgets.chart.line_chart import LineChart
from tests.tui.piloting import strips as screen_strips
from tests.tui.scenes import Recorded, Scene, cockpit, lines, recorded, settled, shows, text, until
from tests.waiting import in_time

HOSTILE = "[b]x[/b] \x1b[31mred\x1b]0;title\x07\x9b2J\u202eabc\x08\r [@click=app.quit]q[/] $x"
"""What a run may be called, noted or say, and no terminal may obey."""
SHOWN = "[b]x[/b] [31mred]0;title2Jabc [@click=app.quit]q[/] $x"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SEQUENCE = re.compile(r"\x1b\[[0-9;?<>=]*[a-zA-Z]")
OWN = re.compile(r"\x1b\](52;c;[A-Za-z0-9+/=]*|22;[a-z]*)\x07")
"""The clipboard, and the mouse pointer's shape."""


class Looks:
    """Counts the looks of the watch: all other sources were looked at as often."""

    period = 0.05

    def __init__(self) -> None:
        self.count = 0

    def poll(self) -> Iterable[Message]:
        self.count += 1
        return ()


class Emulator:
    """A terminal that shows what the app wrote."""

    def __init__(self, app: Recorded, columns: int, rows: int) -> None:
        self._app = app
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        self._fed = 0

    def lines(self) -> list[str]:
        new = "".join(self._app.written[self._fed :])
        self._fed = len(self._app.written)
        self._stream.feed(new)
        return [line.rstrip() for line in self.screen.display]


async def quiet(pilot: Pilot[None], app: Recorded, looks: int = 5) -> str:
    """What is written while the watch looks that many times."""
    counter = Looks()
    app.watcher.add(counter)
    await settled(pilot)
    await pilot.pause()
    await until(pilot, lambda: counter.count > 2)
    begin = len(app.written)
    last = counter.count + looks
    await until(pilot, lambda: counter.count >= last)
    return "".join(app.written[begin:])


async def test_partial_updates_add_up_to_the_whole_screen(crowd: Scene) -> None:
    app = recorded(crowd)
    async with app.run_test(size=(80, 24)) as pilot:
        terminal = Emulator(app, 80, 24)
        await settled(pilot)
        run = next(run for run in crowd.store.runs() if run.id.endswith("b0-t4"))
        presses = ["down", "down", "down", "space", "m", "s", "l", "[", "end", "escape"]
        for key in [*presses, "slash", "b", "escape", "question_mark", "escape", "ctrl+t"]:
            await pilot.press(key)
            crowd.advance(run, 0.5)
            await pilot.pause()
            await until(pilot, lambda: terminal.lines() == lines(app))


async def test_nothing_is_written_when_nothing_happens(scene: Scene) -> None:
    scene.finished("b0-alone", horizon=4)
    scene.failed("b0-hot", "why")
    app = recorded(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        assert await quiet(pilot, app) == ""
        run = scene.queued("b0")
        await shows(pilot, "… b0")
        assert await quiet(pilot, app) == ""  # it waits
        scene.start(run)
        scene.advance(run, 1)
        await shows(pilot, " 1/80 ")
        assert await quiet(pilot, app) == ""
        begin = len(app.written)
        scene.advance(run, 1)
        await shows(pilot, " 2/80 ")
        assert 0 < len("".join(app.written[begin:])) < 4000
        await pilot.press("slash")
        assert await quiet(pilot, app) == ""  # no cursor blinks


@pytest.mark.parametrize("no_colour", [False, True])
async def test_markup_and_control_characters_are_not_interpreted(
    scene: Scene, no_colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    scene.finished("b0", horizon=2, shown_as=HOSTILE, note=HOSTILE, tags=(HOSTILE,))
    scene.failed("b1", HOSTILE, hint=HOSTILE, shown_as=HOSTILE)
    scene.finished("b2", horizon=2, folder=f"20260821-235959-{HOSTILE.replace('/', '')}")
    app = recorded(scene)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await shows(pilot, "[b]x[/b] … 14:30", "20260821-235959-[b]x[b] [31mred]0;title2Jabc")
        await pilot.press("down")
        await shows(pilot, f"failed: {SHOWN} · next: [b]x[/b] [31mred]")
        await pilot.press("up")
        for key in ("down", "space", "down", "space", "t", "escape", "delete", "n", "R", "escape"):
            await pilot.press(key)
            await pilot.pause()
            assert not CONTROL.search(text(app).replace("\n", ""))
        await pilot.press("ctrl+p", *"re", "down")
        await shows(pilot, "open 20260821")
        assert not CONTROL.search(text(app).replace("\n", ""))
        await pilot.press("escape", "y")
        await shows(pilot, "copied")
    # What is left of the bytes without the sequences that the app itself writes holds no control character, and
    # those are Textual's: no colour or title that a name asked for.
    written = SEQUENCE.sub("", OWN.sub("", "".join(app.written)))
    assert not CONTROL.search(written)


async def test_without_colour_nothing_is_lost(crowd: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for no_colour in (False, True):
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        app = recorded(crowd)
        async with app.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            await pilot.press("down", "down", "down", "space", "down", "space")
            await settled(pilot)
            await shows(pilot, "A b0-t4", "B b0-t2")
            seen.append(lines(app))
            styles = {segment.style for strip in screen_strips(app) for segment in strip}
            colours = {c.triplet for style in styles if style for c in (style.color, style.bgcolor) if c and c.triplet}
            grey = all(c.red == c.green == c.blue for c in colours)
            assert colours and grey is no_colour
    assert seen[0] == seen[1]
    everything = "\n".join(seen[1])
    for state in State:
        assert f"{state.glyph} " in everything and state.word.lower()[:7] in everything
    assert " A▶ b0-t4" in everything and ">B▶ b0-t2" in everything


async def test_every_theme_shows_the_same_and_curves_take_its_colours(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("down", "down", "down")
        await settled(pilot)
        await shows(pilot, "● b0-t4")
        dark = lines(app)

        def colours() -> list[str]:
            return [series.colour for series in app.query_one("#chart", LineChart).picture.series]

        before = colours()
        await pilot.press("ctrl+t")
        assert not app.current_theme.dark
        await pilot.pause()
        assert lines(app) == dark and colours() != before
        await pilot.press("ctrl+t")
        assert app.current_theme.dark and colours() == before
        for name in ("nord", "gruvbox", "solarized-light", "catppuccin-latte", "tokyo-night"):
            app.theme = name
            await pilot.pause()
            assert lines(app) == dark, name


async def test_a_small_terminal_is_reported_and_works_again_when_enlarged(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(60, 15)) as pilot:
        await shows(pilot, "kdtui needs 80x24; this terminal has 60x15.")
        assert isinstance(app.screen, TooSmall)
        await pilot.resize_terminal(79, 40)
        await shows(pilot, "this terminal has 79x40.")
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        await shows(pilot, "> · draft", "? help")
        assert isinstance(app.screen, RunsScreen)
        await pilot.press("down", "X")
        await pilot.resize_terminal(20, 5)
        await shows(pilot, "kdtui needs")
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: not any(isinstance(screen, TooSmall) for screen in app.screen_stack))
        await shows(pilot, "Kill b0-t16?")  # where it was
        await pilot.press("n", "s")
        await shows(pilot, "sorted by run")
        await pilot.resize_terminal(60, 15)
        await shows(pilot, "kdtui needs")
        await pilot.press("question_mark")  # help works there as well, and blocks nothing
        await pilot.resize_terminal(80, 24)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await shows(pilot, "kdtui people")
        await pilot.resize_terminal(60, 15)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)


async def test_help_lists_every_key_the_current_screen_first(scene: Scene) -> None:
    app = cockpit(scene)
    async with app.run_test(size=(120, 260)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await shows(pilot, "Runs", "Never launched")
        shown = text(app)
        for key in KEYS:
            assert f"  {key.shown:<5} {key.help}" in shown
            assert key.command in shown
        titles = [line.strip("│ ") for line in shown.splitlines()]
        titles = [title for title in titles if title in SCOPES.values()]
        assert titles[:3] == ["Runs", "Chart", "Everywhere"] and set(titles) == set(SCOPES.values())
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_help_scrolls_in_a_small_terminal(scene: Scene) -> None:
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await shows(pilot, "Keys of this screen first")
        assert "Never launched" not in text(app)
        await pilot.press("end")
        await shows(pilot, "Never launched")


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(file): (file.stat().st_mtime_ns, file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file() and ".cache" not in file.parts
    }


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
async def test_looking_and_leaving_change_no_run(crowd: Scene, key: str) -> None:
    before = everything(crowd.store.root)
    app = cockpit(crowd)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("down", "down", "down", "space", "m", "s", "ctrl+c")
        await shows(pilot, "^q quits; running trainings continue")
        await pilot.press(key)
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0
    assert everything(crowd.store.root) == before
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("kdtui")]
    for thread in threads:  # one of an earlier test may take a moment to end
        in_time(thread.join)


async def test_an_empty_store_displays_a_hint(scene: Scene) -> None:
    scene.store.root.rmdir()
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(
            pilot, "no runs yet in /", "press n to set one up, or run `kdtui demo` to train three in a few minutes"
        )
        await pilot.press("down", "space", "c", "x", "X", "R", "t", "delete", "y", "s", "m", "l", "z")
        await shows(pilot, "kdtui people")
    assert not scene.store.root.exists()


async def test_errors_in_a_thread_are_reported(scene: Scene) -> None:
    app = cockpit(scene)
    got: list[object] = []

    def fail() -> None:
        raise LaunchError("The supervisor\n  sleeps", found="[b]zzz", hint="wake it")

    def break_disk() -> None:
        raise OSError(28, "No space left on device", "/full")

    async with app.run_test(size=(80, 24)) as pilot:
        app.do(lambda: 7, got.append)
        await until(pilot, lambda: got == [7])
        app.do(fail, got.append)
        await shows(pilot, "The supervisor sleeps · found: [b]zzz · next: wake it")
        app.do(break_disk, got.append)
        await shows(pilot, "No space left on device")
        app.do(fail, got.append, failed=got.append)
        await until(pilot, lambda: isinstance(got[-1], LaunchError))
        app.say(UsageError("no such file", where="a.png", found=3).message, error=True)
        assert app.said[0] == "no such file · where: a.png · found: 3"
        app.say("a sentence", "kdtui runs")
        await shows(pilot, "a sentence", "kdtui runs")
        assert app.said == ("a sentence", "kdtui runs", False)


async def test_leaving_while_work_is_running(scene: Scene) -> None:
    app = cockpit(scene)
    gate, done = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait()
        done.set()

    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.do(work, lambda _: app.say("never seen"))
        await pilot.press("q")
        gate.set()
        await until(pilot, lambda: not app.is_running)
    in_time(done.wait)
    assert app.return_code == 0


def test_equivalent_commands_are_quoted_for_a_shell() -> None:
    assert command_line("stop", "--kill", "a b", "c") == "kdtui stop --kill 'a b' c"
    assert issubclass(Recorded, KdtuiApp)
