"""The app: the board, the watch and the screens."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.events import Resize
from textual.fuzzy import Matcher
from textual.markup import escape
from textual.screen import Screen

from kdtui.errors import KdtuiError
from kdtui.launch.engine_process import ask as ask_the_engine
from kdtui.launch.measure import measure as measure_runs
from kdtui.store.store import RunStore
from kdtui.text import clean
from kdtui.tui.cockpit import Cockpit, Measuring
from kdtui.tui.keys import Key, bindings, keys_of
from kdtui.tui.machine import Machine
from kdtui.tui.preferences import Preferences, load, save
from kdtui.tui.run_states import RunStates
from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.dialogs import TooSmall
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.terminal import period
from kdtui.tui.themes import DARK, LIGHT, THEMES
from kdtui.tui.views.rows import header_parts, time_of_day
from kdtui.tui.watch import (
    HistoryBroken,
    HistoryDropped,
    HistoryReady,
    MachineRead,
    RunAdvanced,
    RunsLooked,
    RunsSource,
    Source,
    SourceFailed,
    Watch,
    follower,
)
from kdtui.tui.widgets.line import Line

_RUNS = 300
"""Runs that a search offers at most; a filter finds the others."""
_NAMED = 1000.0
"""Score of an action that was named; letters that fit somewhere score some tens."""
_PIECE = 500
"""Names that are compared in one go."""


class RunCommands(Provider):
    """Actions with their key and their command line, and runs."""

    def _keys(self) -> list[Key]:
        scopes = getattr(self.screen, "SCOPES", ())
        return [key for key in keys_of(*scopes, "app") if key.palette]

    def _do(self, key: Key) -> Callable[[], Any]:
        target = self.app if key.scope == "app" else self.screen
        return partial(target.run_action, key.action)

    async def discover(self) -> Hits:
        """What is offered before anything was typed."""
        for key in self._keys():
            yield DiscoveryHit(Content(key.help), self._do(key), text=key.help, help=_twin(key))

    async def search(self, query: str) -> Hits:
        """What fits what was typed."""
        matcher = self.matcher(query)
        for key in self._keys():
            score = _named(key, query) or matcher.match(key.help)
            if score > 0:
                yield Hit(score, _highlighted(matcher, key.help), self._do(key), text=key.help, help=_twin(key))
        app = cast(Cockpit, self.app)
        offered = 0
        for index, run_id in enumerate(app.board.order):
            if index % _PIECE == _PIECE - 1:
                await asyncio.sleep(0)  # 10 000 names take a tenth of a second: keys come in between
            name = f"open {clean(run_id)}"
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, _highlighted(matcher, name), partial(app.open_run, run_id), text=name)
                offered += 1
            if offered >= _RUNS:
                break


def _named(key: Key, query: str) -> float:
    """How well a query names the action, above every score of letters that fit somewhere; 0 where it does not.

    An action is named by its label, its other words and the words of its command: `kill` finds ``kdtui stop --kill``.
    """
    words = f"{key.label} {key.words} {key.command.replace('-', ' ')}".lower().split()
    typed = query.replace("-", " ").lower().split()
    if not typed or not all(any(word.startswith(part) for word in words) for part in typed):
        return 0.0
    whole = sum(part in words for part in typed) / len(typed)
    return _NAMED * (1 + whole) - words.index(next(word for word in words if word.startswith(typed[0])))


def _highlighted(matcher: Matcher, text: str) -> Content:
    """The letters that fit stand out. The matcher's own way reads the text as markup, and it is foreign."""
    content = Content(text)
    for offset in matcher.fuzzy_search.match(matcher.query, text)[1]:
        if not text[offset].isspace():
            content = content.stylize(matcher.match_style, offset, offset + 1)
    return content


def _twin(key: Key) -> str:
    return escape(f"{key.shown}   {key.command}" if key.command else key.shown)


_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
SAID = 10.0
"""Seconds for which the status line says what was done."""


class KdtuiApp(Cockpit):
    """The cockpit over one run store.

    Args:
        store: The runs; the watch gets a view of its own.
        ask: The engine's door.
        seconds: Between two looks of the watch; default by where the terminal is.
        machine: What is looked at for the header's right end; None for this machine.
        clock: The time of day as the header says it.
        measure: Measures runs, as :func:`kdtui.launch.measure.measure`.
        preferences: The file that keeps the user's choices; None keeps none.
    """

    CSS_PATH = str(Path(__file__).with_name("kdtui.tcss"))  # beside this module for subclasses elsewhere as well
    TITLE = "kdtui"
    BINDINGS = bindings("app")
    COMMANDS: ClassVar[set[Any]] = {RunCommands}
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        store: RunStore,
        *,
        ask: Callable[..., dict[str, Any]] = ask_the_engine,
        seconds: float | None = None,
        machine: Source | None = None,
        clock: Callable[[], str] = time_of_day,
        measure: Callable[..., dict[str, Any]] = measure_runs,
        preferences: Path | None = None,
    ) -> None:
        super().__init__()
        self.animation_level = "none"
        for theme in THEMES.values():
            self.register_theme(theme)
        self._preferences_path, self._preferences_trouble = preferences, ""
        self.preferences = Preferences()
        self._writing = threading.Lock()
        if preferences is not None:
            self.preferences, self._preferences_trouble = load(preferences)
        self.theme = LIGHT.name if self.preferences.theme == "light" else DARK.name
        self.store = store
        self.ask = ask
        self.board = RunStates()
        self.watcher = Watch(self.post_message)
        self.measuring = Measuring(self, measure)
        self.said: tuple[str, str, bool] = ("", "", False)
        self._seconds = period() if seconds is None else seconds
        self._runs_source = RunsSource(store.for_thread(), self._seconds)
        self._machine_source = machine or Machine(self._seconds, self.board.live)
        self._machine: Sequence[str] = ()
        self._clock = clock
        self._said_count = 0

    def get_default_screen(self) -> Screen[Any]:
        """The list of runs is home."""
        return RunsScreen()

    def on_mount(self) -> None:
        """Begin to look."""
        self.watcher.add(self._runs_source)
        self.watcher.add(follower(self.store, self._seconds))
        self.watcher.add(self._machine_source)
        self.watcher.start()
        # As ^q does: a terminal that is left in the alternate screen shows no prompt.
        for number in _ENDINGS:
            asyncio.get_running_loop().add_signal_handler(number, self.exit, None, 128 + number)
        # Whoever had the terminal meanwhile left nothing of the screen; else only what changes is written.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        if self._preferences_trouble:
            self.say(self._preferences_trouble, error=True)

    def on_unmount(self) -> None:
        """End looking; nothing that trains is touched."""
        for number in _ENDINGS:
            asyncio.get_running_loop().remove_signal_handler(number)
        self.watcher.stop()

    # what the watch found

    def on_runs_looked(self, message: RunsLooked) -> None:
        """Rows are other now."""
        before = self.board.trouble, self.board.whole, self.board.total
        self.board.trouble = ""
        ids = self.board.take(message.look)
        if ids or before != ("", self.board.whole, self.board.total):
            self.show_header()
            self._tell(lambda screen: screen.board_changed(ids))

    def on_history_ready(self, message: HistoryReady) -> None:
        """A followed run's history is here."""
        self.board.histories[message.run_id] = message.history
        self.board.broken.pop(message.run_id, None)
        (self.board.partial.add if message.partial else self.board.partial.discard)(message.run_id)
        self._tell(lambda screen: screen.history_changed(message.run_id))

    def on_run_advanced(self, message: RunAdvanced) -> None:
        """A followed run's history grew."""
        history = self.board.histories.get(message.run_id)
        if history is not None:
            history.extend(message.events)
            self._tell(lambda screen: screen.history_changed(message.run_id))

    def on_history_broken(self, message: HistoryBroken) -> None:
        """A followed run's events cannot be read."""
        self.board.broken[message.run_id] = message.reason
        self._tell(lambda screen: screen.history_changed(message.run_id))

    def on_history_dropped(self, message: HistoryDropped) -> None:
        """A run is no longer followed: its history would stay in memory."""
        self.board.histories.pop(message.run_id, None)
        self.board.partial.discard(message.run_id)
        self.board.broken.pop(message.run_id, None)

    def on_machine_read(self, message: MachineRead) -> None:
        """The machine's load."""
        self._machine = message.words
        self.show_header()

    def on_source_failed(self, message: SourceFailed) -> None:
        """Something cannot be looked at; a store that cannot be listed says so until it can."""
        error = message.error
        text = error.message if isinstance(error, KdtuiError) else str(error)
        text = " ".join(text.split())
        if message.source is self._runs_source and self.board.trouble != text:
            self.board.trouble = text
            self.show_header()
            self._tell(lambda screen: screen.board_changed(frozenset()))
        if self.said[0] != text:
            self.say(text, error=True)

    def _tell(self, what: Callable[[CockpitScreen], None]) -> None:
        """Tell the screen in front, or the one behind a dialog; others catch up when they come back."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, CockpitScreen):
                if screen.ready:
                    what(screen)
                return

    def show_header(self) -> None:
        """Write the header of the screens that can be seen."""
        doing = f"measuring {self.measuring.who}" if self.measuring.ids else ""
        left, right = header_parts(self.store.root, self.board, self._machine, self._clock, doing)
        for screen in self.screen_stack:
            for line in screen.query("#header").results(Line):
                line.show(left, right)

    # what screens ask for

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """Put a sentence into the status line for a while, with the command line's way to do the same.

        In silence it says how far a measurement is, if one goes on.
        """
        lasts = not text
        if lasts and self.measuring.words:
            text, command = self.measuring.words, self.measuring.twin
        self.said = (" ".join(text.split()), command, error)
        self._said_count += 1
        mine = self._said_count
        self._tell(lambda screen: screen.say(*self.said))
        if not lasts:
            self.set_timer(SAID * (3 if error else 1), lambda: self._unsay(mine))

    def _unsay(self, count: int) -> None:
        if count == self._said_count and self.said[0]:
            self.say("")

    def prefer(self, **choices: Any) -> None:
        """Keep choices, fields of :class:`Preferences`, for the next start. A failure to write them is said once."""
        before, self.preferences = self.preferences, replace(self.preferences, **choices)
        path = self._preferences_path
        if path is None or self.preferences == before:
            return

        def write() -> None:
            with self._writing:  # one after the other, and each the newest choices
                save(path, self.preferences)

        def failed(error: KdtuiError) -> None:
            self._preferences_path = None
            self.say_error(error)

        self.do(write, lambda _: None, failed=failed, group="preferences")

    def go_to(self, screen: CockpitScreen) -> None:
        """Show another screen; what was said about the former one is over."""
        self.say("")
        self.push_screen(screen)

    def open_run(self, run_id: str) -> None:
        """Show one run."""
        from kdtui.tui.screens.run import RunScreen

        self.go_to(RunScreen(run_id))

    def new_run(self, clone: str | None = None) -> None:
        """Show the form of a new run, or of one like ``clone``."""
        from kdtui.tui.screens.new_run import NewRunScreen

        self.go_to(NewRunScreen(clone=clone))

    def compare(self, ids: Collection[str]) -> None:
        """Show runs beside each other."""
        from kdtui.tui.screens.compare import CompareScreen

        self.go_to(CompareScreen(tuple(ids)))

    def export_runs(self, ids: Collection[str]) -> None:
        """Show the menu of an export of these runs; of none, for a checkpoint by its path."""
        from kdtui.tui.screens.export import ExportScreen

        self.go_to(ExportScreen(ids))

    def measured(self, ids: Collection[str]) -> None:
        """Runs were measured: what is shown of them is other now."""
        self.watcher.nudge(ids)
        self._tell(lambda screen: screen.measured())

    # the app's own keys

    def action_help(self) -> None:
        """Every key."""
        from kdtui.tui.screens.dialogs import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            scopes = self.screen.SCOPES if isinstance(self.screen, CockpitScreen) else ()
            self.push_screen(HelpScreen(scopes))

    def action_toggle_theme(self) -> None:
        """Dark or light."""
        light = self.current_theme.dark
        self.theme = LIGHT.name if light else DARK.name
        self.prefer(theme="light" if light else "dark")
        self._tell(lambda screen: screen.board_changed(frozenset()))  # curves have colours of their own

    def action_help_quit(self) -> None:
        """Ctrl-C is no way out of a cockpit: say which key is."""
        self.say("^q leaves the cockpit; running trainings continue")

    def on_resize(self, event: Resize) -> None:
        """Below 80x24 say so instead of showing half of everything."""
        small = not TooSmall.fits(event.size)
        if small and not any(isinstance(screen, TooSmall) for screen in self.screen_stack):
            self.push_screen(TooSmall())
        elif not small and isinstance(self.screen, TooSmall):
            self.pop_screen()
