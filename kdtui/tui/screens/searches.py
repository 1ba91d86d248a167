"""The screen of the searches: their list, and of one its networks and the front of score against latency."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence

from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from kdtui.errors import KdtuiError
from kdtui.store.state import LIVE, State
from kdtui.sweep.controlled import controller_state, start, stop_all
from kdtui.sweep.folder import SWEEPS, SweepFolder
from kdtui.sweep.search.listing import SearchListing, SearchRow
from kdtui.sweep.search.results import Entry, Results
from kdtui.tui.keys import bindings
from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.values import Cell, Part
from kdtui.tui.views.searches import (
    COLUMNS,
    NETWORKS,
    cells,
    entry_key,
    headline,
    legend,
    network_cells,
    note_lines,
    points,
)
from kdtui.tui.widgets.chart.scatter import Dot, Scatter
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.table import Table

_NONE = "no searches yet: n sets up one, or `kdtui search --teacher RUN --latency 10ms`"
_SECONDS = 2.0
"""Seconds between two looks while a search measures candidates, during which no run changes."""


class SearchesScreen(CockpitScreen):
    """The list of searches, and the front of one.

    Args:
        search_id: The search under the cursor at first; None for the newest.
    """

    SCOPES = ("searches",)
    BINDINGS = bindings("searches")
    DEFAULT_CSS = """
    SearchesScreen #searches { height: auto; max-height: 25%; min-height: 3; }
    SearchesScreen #search { height: 1fr; border-top: solid $foreground 30%; }
    SearchesScreen #front { height: 1fr; }
    SearchesScreen #networks { width: 1fr; height: 1fr; }
    SearchesScreen Scatter { width: 40%; min-width: 30; margin-right: 1; }
    SearchesScreen #remarks { height: auto; max-height: 4; }
    """

    def __init__(self, search_id: str | None = None) -> None:
        super().__init__()
        self._wanted = search_id
        self._listing: SearchListing | None = None
        self._rows: dict[str, SearchRow] = {}
        self._entries: dict[str, Entry] = {}
        self._teacher_score: float | None = None
        self._reading = self._again = False
        self.table = Table(COLUMNS, self._cells, empty="reading…", id="searches")
        self.networks = Table(NETWORKS, self._network_cells, empty="", id="networks")
        self.scatter = Scatter(id="scatter")
        self._headline = Panel(id="headline")
        self._remarks = Panel(wraps=True, id="remarks")

    def body(self) -> Iterable[Widget]:
        """Compose the list, and front and networks of one search."""
        yield self.table
        with Vertical(id="search"):
            yield self._headline
            with Horizontal(id="front"):
                yield self.scatter
                yield self.networks
            yield self._remarks

    def on_mount(self) -> None:
        """Focus the list, and look again while a search is running."""
        self.table.focus()
        self._listing = SearchListing(self.cockpit.store.for_thread())
        self.watch(self.app, "theme", self._show, init=False)
        self.set_interval(_SECONDS, self._read_live)

    @property
    def search_id(self) -> str | None:
        """The search under the cursor."""
        return self.table.cursor_key

    @property
    def results(self) -> Results | None:
        """The results of the search under the cursor."""
        row = self._rows.get(self.search_id or "")
        return row.outcome if row is not None and isinstance(row.outcome, Results) else None

    @property
    def entry(self) -> Entry | None:
        """The network under the cursor."""
        return self._entries.get(self.networks.cursor_key or "")

    def select(self, search_id: str) -> None:
        """Move the cursor to a search, once it was read."""
        self._wanted = search_id
        self._read()

    # Reading.

    def board_changed(self, ids: frozenset[str]) -> None:
        """Read the searches again if a run of one of them changed."""
        rows = self.cockpit.board.rows
        if self.ready and (not ids or any(key not in rows or rows[key].sweep for key in ids)):
            self._read()

    def _read_live(self) -> None:
        """Read again while a controller is running."""
        live = (row.outcome for row in self._rows.values() if isinstance(row.outcome, Results))
        if any(results.state in LIVE for results in live):
            self._read()

    def _read(self) -> None:
        """Read in a thread, one at a time; what changed during it is read afterwards."""
        listing = self._listing
        self._again = self._reading
        if self._reading or listing is None:
            return
        self._reading = True
        self.cockpit.do(listing.rows, self._take, failed=self._failed, group="searches")

    def _failed(self, error: KdtuiError) -> None:
        self._reading = False
        self.cockpit.say_error(error)

    def _take(self, rows: list[SearchRow]) -> None:
        self._reading = False
        if not self.ready:
            return
        self._rows = {row.id: row for row in reversed(rows)}  # the newest first
        self.table.empty = _NONE
        self.table.show(list(self._rows))
        if self._wanted in self._rows:
            self.table.move_to(str(self._wanted))
            self._wanted = None
        self._show()
        if self._again:
            self._read()

    # Displaying.

    def _cells(self, key: str) -> Sequence[Cell]:
        return cells(self._rows[key]) if key in self._rows else [Cell("")] * len(COLUMNS)

    def _network_cells(self, key: str) -> Sequence[Cell]:
        return network_cells(self._entries[key], self._teacher_score)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Display another search, or mark another network in the plot."""
        self._show()

    def _show(self) -> None:
        """Display the search under the cursor."""
        results, row = self.results, self._rows.get(self.search_id or "")
        self.networks.display = self.scatter.display = results is not None
        if results is None:
            self._entries = {}
            self.networks.show([])
            problem = row.outcome.brief if row is not None and isinstance(row.outcome, KdtuiError) else ""
            self._headline.show([[(problem, "bad")]] if problem else [])
            self._remarks.show([])
            return
        self._entries = {entry_key(entry): entry for entry in results.entries}
        self._teacher_score = results.teacher_score
        self.networks.show(list(self._entries))
        self._headline.show(headline(results))
        self._remarks.show(note_lines(results))
        found = points(results, dark=self.app.current_theme.dark)
        dots = [Dot(one.key, one.mark, one.latency, one.score, one.colour, one.front) for one in found]
        self.scatter.show(
            dots,
            title=legend(found),
            empty="no scores yet",
            selected=self.networks.cursor_key if self.networks.has_focus else None,
            limit=results.spec.budget.latency * 1e3,
        )
        self.say(*self.cockpit.said)

    def silence(self) -> Sequence[Part]:
        """The run of the network under the cursor."""
        entry = self.entry if self.networks.has_focus else None
        if entry is None:
            return ()
        words = [entry.state, entry.run or ("" if entry.role == "teacher" else "no run")]
        return [Part(": ".join(filter(None, (entry.key, ", ".join(filter(None, words))))), "text-muted")]

    # Keys.

    def action_back(self) -> None:
        """Go back to the previous screen."""
        self.leave()

    def action_open(self) -> None:
        """Display the run of the network under the cursor; from the list, go to the networks."""
        if self.table.has_focus and self._entries:
            self.networks.focus()
            return
        entry = self.entry
        if entry is None or entry.run is None:
            self.cockpit.say("this network has no run", error=True)
        else:
            self.cockpit.open_run(entry.run)

    def on_table_opened(self, event: Table.Opened) -> None:
        """As the key."""
        self.action_open()

    def action_runs(self) -> None:
        """Display all runs of the search in the list of runs."""
        if self.search_id is not None:
            self.leave()
            self.cockpit.list_runs(f"sweep={self.search_id}")

    def action_new_search(self) -> None:
        """Display the form of a search."""
        self.cockpit.new_search()

    def action_stop(self) -> None:
        """Save and stop the search and its runs, after confirmation."""
        self._end("stop", "Its runs save and stop; R resumes the search later.")

    def action_kill(self) -> None:
        """Kill the processes of the search and its runs, after confirmation."""
        self._end("kill", "Nothing is saved; R resumes the search from the last checkpoints.")

    def _end(self, verb: str, what: str) -> None:
        """Stop or kill the search, or the runs that a lost controller left running."""
        results = self.results
        rows = self.cockpit.board.rows.values()
        running = results is not None and any(row.sweep == results.id and row.state in LIVE for row in rows)
        if results is None or not (results.state in LIVE or running):
            self.cockpit.say(f"nothing to {verb}: this search is not running", error=True)
            return
        kill = verb == "kill"
        command = shlex.join(["kdtui", "search", "stop", *(["--kill"] if kill else []), results.id])
        store = self.cockpit.store.for_thread()

        def work(folder: SweepFolder) -> None:
            _, errors = stop_all(store, folder, kill=kill)
            if errors:
                raise errors[0]

        question = Confirm(f"{verb.title()} {results.id}?", what, command)
        self._ask(question, lambda: self._carry_out(work, "killed" if kill else "stopping", command))

    def action_resume(self) -> None:
        """Continue the search after confirmation; one that failed trains its failed runs again."""
        results = self.results
        if results is None or results.state in LIVE:
            self.cockpit.say("nothing to resume: this search is running", error=True)
            return
        if results.state is State.FINISHED:
            self.cockpit.say("nothing to resume: this search is finished", error=True)
            return
        retry = results.state is State.FAILED
        flags = ["--retry"] if retry else []
        command = shlex.join(["kdtui", "search", "resume", results.id, *flags, "--detach"])
        what = "Failed runs are trained again." if retry else "Nothing is trained twice."
        question = Confirm(f"Resume {results.id}?", what, command)
        self._ask(question, lambda: self._carry_out(lambda folder: start(folder, retry=retry), "resumed", command))

    def _carry_out(self, work: Callable[[SweepFolder], object], done: str, command: str) -> None:
        folder = SweepFolder(self.cockpit.store.root / SWEEPS / str(self.search_id))

        def then(_: object) -> None:
            self.cockpit.watcher.nudge()
            self.cockpit.say(f"{folder.id}: {done}", command)
            self._read()

        def act() -> object:
            work(folder)
            return controller_state(folder)

        self.cockpit.do(act, then)

    def _ask(self, question: Confirm, then: Callable[[], None]) -> None:
        self.app.push_screen(question, lambda yes: then() if yes else None)

    def action_copy(self) -> None:
        """Copy the id of the search."""
        if self.search_id is not None:
            self.cockpit.copy_text(self.search_id, self.search_id)

    def action_copy_command(self) -> None:
        """Copy the command line that displays the same search."""
        if self.search_id is not None:
            self.cockpit.copy_text(shlex.join(["kdtui", "search", "show", self.search_id]), "command line")

    def action_toggle_log(self) -> None:
        """Switch between a linear and a logarithmic latency."""
        self.scatter.log_x = not self.scatter.log_x
