"""The app: connects the state of the runs, the watch and the screens."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
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
from kdtui.text import clean, joined_lines
from kdtui.tui.cockpit import Cockpit, Measuring
from kdtui.tui.keys import Key, bindings, keys_of
from kdtui.tui.machine import MachineSource
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
    RunsListed,
    RunsSource,
    SourceFailed,
    Watch,
    WatchSource,
    follower,
)
from kdtui.tui.widgets.line import Line

_RUNS = 300
"""Most runs that a search lists; the filter finds the others."""
_NAMED = 1000.0
"""Score of an action that was named; a fuzzy match scores some tens."""
_PIECE = 500
"""Number of names compared without yielding to the event loop."""


class RunCommands(Provider):
    """Search provider for actions, with their keys and command lines, and for runs."""

    def _keys(self) -> list[Key]:
        scopes = getattr(self.screen, "SCOPES", ())
        return [key for key in keys_of(*scopes, "app") if key.palette]

    def _do(self, key: Key) -> Callable[[], Any]:
        target = self.app if key.scope == "app" else self.screen
        return partial(target.run_action, key.action)

    async def discover(self) -> Hits:
        """List the actions before anything was typed."""
        for key in self._keys():
            yield DiscoveryHit(Content(key.help), self._do(key), text=key.help, help=_command_line(key))

    async def search(self, query: str) -> Hits:
        """Search actions and runs."""
        matcher = self.matcher(query)
        for key in self._keys():
            score = _named(key, query) or matcher.match(key.help)
            if score > 0:
                yield Hit(score, _highlighted(matcher, key.help), self._do(key), text=key.help, help=_command_line(key))
        app = cast(Cockpit, self.app)
        offered = 0
        for index, run_id in enumerate(app.board.order):
            if index % _PIECE == _PIECE - 1:
                await asyncio.sleep(0)  # 10 000 names take 0.1 s: handle keys in between
            name = f"open {clean(run_id)}"
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, _highlighted(matcher, name), partial(app.open_run, run_id), text=name)
                offered += 1
            if offered >= _RUNS:
                break


def _named(key: Key, query: str) -> float:
    """Score of a query that names an action, higher than any fuzzy match; 0 if it does not name it.

    An action is named by its label, its other search terms and its command: `kill` finds ``kdtui stop --kill``.
    """
    words = f"{key.label} {key.words} {key.command.replace('-', ' ')}".lower().split()
    typed = query.replace("-", " ").lower().split()
    if not typed or not all(any(word.startswith(part) for word in words) for part in typed):
        return 0.0
    whole = sum(part in words for part in typed) / len(typed)
    return _NAMED * (1 + whole) - words.index(next(word for word in words if word.startswith(typed[0])))


def _highlighted(matcher: Matcher, text: str) -> Content:
    """Highlight the matching letters. The matcher's own method would parse the text as markup."""
    content = Content(text)
    for offset in matcher.fuzzy_search.match(matcher.query, text)[1]:
        if not text[offset].isspace():
            content = content.stylize(matcher.match_style, offset, offset + 1)
    return content


def _command_line(key: Key) -> str:
    return escape(f"{key.shown}   {key.command}" if key.command else key.shown)


_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
MESSAGE_SECONDS = 10.0
"""Seconds for which the status line displays a message."""


class KdtuiApp(Cockpit):
    """The cockpit for one run store.

    Args:
        store: The run store; the watch gets its own view of it.
        ask: Calls the engine.
        seconds: Seconds between two updates of the watch; by default from the kind of terminal.
        machine: Source of the load at the right of the header; None for this machine.
        clock: Returns the time of day for the header.
        measure: Measures runs, like :func:`kdtui.launch.measure.measure`.
        preferences: File with the user's choices; None not to save any.
    """

    CSS_PATH = str(Path(__file__).with_name("kdtui.tcss"))  # also for subclasses in other folders
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
        machine: WatchSource | None = None,
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
        self._machine_source = machine or MachineSource(self._seconds, self.board.live)
        self._machine: Sequence[str] = ()
        self._clock = clock
        self._message_count = 0

    def get_default_screen(self) -> Screen[Any]:
        """The list of runs is the first screen."""
        return RunsScreen()

    def on_mount(self) -> None:
        """Start the watch and handle signals."""
        self.watcher.add(self._runs_source)
        self.watcher.add(follower(self.store, self._seconds))
        self.watcher.add(self._machine_source)
        self.watcher.start()
        # Exit as ^q does: otherwise the terminal would stay in the alternate screen.
        for number in _ENDINGS:
            asyncio.get_running_loop().add_signal_handler(number, self.exit, None, 128 + number)
        # Redraw everything after a suspend: other programs have overwritten the screen.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        if self._preferences_trouble:
            self.say(self._preferences_trouble, error=True)

    def on_unmount(self) -> None:
        """Stop the watch; trainings continue."""
        for number in _ENDINGS:
            asyncio.get_running_loop().remove_signal_handler(number)
        self.watcher.stop()

    # Messages of the watch.

    def on_runs_listed(self, message: RunsListed) -> None:
        """Update the states of the runs."""
        before = self.board.trouble, self.board.whole, self.board.total
        self.board.trouble = ""
        ids = self.board.take(message.change)
        if ids or before != ("", self.board.whole, self.board.total):
            self.show_header()
            self._tell(lambda screen: screen.board_changed(ids))

    def on_history_ready(self, message: HistoryReady) -> None:
        """Set the history of a followed run."""
        self.board.histories[message.run_id] = message.history
        self.board.broken.pop(message.run_id, None)
        (self.board.partial.add if message.partial else self.board.partial.discard)(message.run_id)
        self._tell(lambda screen: screen.history_changed(message.run_id))

    def on_run_advanced(self, message: RunAdvanced) -> None:
        """Append to the history of a followed run."""
        history = self.board.histories.get(message.run_id)
        if history is not None:
            history.extend(message.events)
            self._tell(lambda screen: screen.history_changed(message.run_id))

    def on_history_broken(self, message: HistoryBroken) -> None:
        """Record that the events of a followed run cannot be read."""
        self.board.broken[message.run_id] = message.reason
        self._tell(lambda screen: screen.history_changed(message.run_id))

    def on_history_dropped(self, message: HistoryDropped) -> None:
        """Release the history of a run that is no longer followed."""
        self.board.histories.pop(message.run_id, None)
        self.board.partial.discard(message.run_id)
        self.board.broken.pop(message.run_id, None)

    def on_machine_read(self, message: MachineRead) -> None:
        """Update the load in the header."""
        self._machine = message.words
        self.show_header()

    def on_source_failed(self, message: SourceFailed) -> None:
        """Report a source that cannot be read; for the store, also in the header until it can."""
        error = message.error
        text = joined_lines(error.message if isinstance(error, KdtuiError) else error)
        if message.source is self._runs_source and self.board.trouble != text:
            self.board.trouble = text
            self.show_header()
            self._tell(lambda screen: screen.board_changed(frozenset()))
        if self.said[0] != text:
            self.say(text, error=True)

    def _tell(self, what: Callable[[CockpitScreen], None]) -> None:
        """Notify the top screen, or the one below a dialog; the others update when they are displayed again."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, CockpitScreen):
                if screen.ready:
                    what(screen)
                return

    def show_header(self) -> None:
        """Update the header of the visible screens."""
        doing = f"measuring {self.measuring.subject}" if self.measuring.ids else ""
        left, right = header_parts(self.store.root, self.board, self._machine, self._clock, doing)
        for screen in self.screen_stack:
            for line in screen.query("#header").results(Line):
                line.show(left, right)

    # Methods for the screens.

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """Display a message in the status line for a while, with the equivalent command.

        An empty message clears it; then the progress of a measurement is displayed, if one is running.
        """
        lasts = not text
        if lasts and self.measuring.words:
            text, command = self.measuring.words, self.measuring.command_line
        self.said = (joined_lines(text), command, error)
        self._message_count += 1
        mine = self._message_count
        self._tell(lambda screen: screen.say(*self.said))
        if not lasts:
            self.set_timer(MESSAGE_SECONDS * (3 if error else 1), lambda: self._unsay(mine))

    def _unsay(self, count: int) -> None:
        if count == self._message_count and self.said[0]:
            self.say("")

    def prefer(self, **choices: Any) -> None:
        """Save choices, fields of :class:`Preferences`, for the next start. A failure is reported once."""
        before, self.preferences = self.preferences, replace(self.preferences, **choices)
        path = self._preferences_path
        if path is None or self.preferences == before:
            return

        def write() -> None:
            with self._writing:  # one at a time, each with the newest choices
                save(path, self.preferences)

        def failed(error: KdtuiError) -> None:
            self._preferences_path = None
            self.say_error(error)

        self.do(write, lambda _: None, failed=failed, group="preferences")

    def go_to(self, screen: CockpitScreen) -> None:
        """Display another screen; the message of the former one is cleared.

        The screen is laid out when all of it is mounted: several times before that would take longer than the rest.
        """
        self.say("")
        batch = ExitStack()
        batch.enter_context(self.batch_update())
        mounted = self.push_screen(screen)

        async def wait() -> None:
            with batch:
                await mounted

        self.run_worker(wait(), group="opening")

    def open_run(self, run_id: str) -> None:
        """Display one run."""
        from kdtui.tui.screens.run import RunScreen

        self.go_to(RunScreen(run_id))

    def new_run(self, clone: str | None = None, *, profile: str = "") -> None:
        """Display the form of a new run, of one like ``clone``, or of a profile."""
        from kdtui.tui.screens.new_run import NewRunScreen

        self.go_to(NewRunScreen(clone=clone, profile=profile))

    def new_profiles(self, then: Callable[[str], None] | None = None) -> None:
        """Display the screen that writes profiles for a folder of images and labels."""
        from kdtui.tui.screens.new_profiles import NewProfilesScreen

        def form(profile: str) -> None:
            if profile:
                self.new_run(profile=profile)

        self.go_to(NewProfilesScreen(then or form))

    def compare(self, ids: Collection[str]) -> None:
        """Display the comparison of runs."""
        from kdtui.tui.screens.compare import CompareScreen

        self.go_to(CompareScreen(tuple(ids)))

    def sweeps(self, sweep_id: str | None = None) -> None:
        """Display the sweeps, with the cursor on one of them."""
        from kdtui.tui.screens.sweeps import SweepsScreen

        self.go_to(SweepsScreen(sweep_id))

    def list_runs(self, expression: str) -> None:
        """Display the list of runs with a filter."""
        for screen in self.screen_stack:
            if isinstance(screen, RunsScreen):
                screen.apply_filter(expression)

    def searches(self, search_id: str | None = None) -> None:
        """Display the searches, with the cursor on one of them."""
        from kdtui.tui.screens.searches import SearchesScreen

        if isinstance(self.screen, SearchesScreen) and search_id is not None:
            self.screen.select(search_id)
        else:
            self.go_to(SearchesScreen(search_id))

    def new_search(self, teacher: str = "") -> None:
        """Display the form of a search, for the students of a run."""
        from kdtui.tui.screens.new_search import NewSearchScreen

        self.go_to(NewSearchScreen(teacher))

    def export_runs(self, ids: Collection[str]) -> None:
        """Display the export of these runs; without runs, that of a checkpoint file."""
        from kdtui.tui.screens.export import ExportScreen

        self.go_to(ExportScreen(ids))

    def measured(self, ids: Collection[str]) -> None:
        """Update the screens after runs were measured."""
        self.watcher.nudge(ids)
        self._tell(lambda screen: screen.measured())

    # Keys of the app.

    def action_help(self) -> None:
        """Display the help screen."""
        from kdtui.tui.screens.dialogs import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            scopes = self.screen.SCOPES if isinstance(self.screen, CockpitScreen) else ()
            self.push_screen(HelpScreen(scopes))

    def action_toggle_theme(self) -> None:
        """Switch between the dark and the light theme."""
        light = self.current_theme.dark
        self.theme = LIGHT.name if light else DARK.name
        self.prefer(theme="light" if light else "dark")
        self._tell(lambda screen: screen.board_changed(frozenset()))  # the colours of curves depend on the theme

    def action_help_quit(self) -> None:
        """Display which key quits: Ctrl-C does not."""
        self.say("^q quits; running trainings continue")

    def on_resize(self, event: Resize) -> None:
        """Display a notice if the terminal is smaller than 80x24."""
        small = not TooSmall.fits(event.size)
        if small and not any(isinstance(screen, TooSmall) for screen in self.screen_stack):
            self.push_screen(TooSmall())
        elif not small and isinstance(self.screen, TooSmall):
            self.pop_screen()
