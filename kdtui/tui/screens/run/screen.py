"""The screen of one run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from textual.containers import Container
from textual.events import Resize, ScreenSuspend
from textual.widget import Widget

from kdtui.errors import StoreError
from kdtui.plugins import imported
from kdtui.store.history import History
from kdtui.store.state import RunSummary, State
from kdtui.text import number
from kdtui.tui.keys import PAGES, bindings
from kdtui.tui.screens.charting import ChartKeys
from kdtui.tui.screens.dialogs import Prompt
from kdtui.tui.screens.run.curves import Curves
from kdtui.tui.screens.run.files import RunFiles, Snapshot
from kdtui.tui.screens.run.logs import FilesRead, FilesSource
from kdtui.tui.screens.run.page import RunPage, RunView
from kdtui.tui.screens.run.partner import Partner, beside, find, partner
from kdtui.tui.screens.run.settings import Settings
from kdtui.tui.screens.run_actions import RunActions
from kdtui.tui.values import Part, TextLine
from kdtui.tui.views import panels
from kdtui.tui.views.colours import STATE_STYLES
from kdtui.tui.watch import WatchSource
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.choices import Pages
from kdtui.tui.widgets.line import Line
from kdtui.tui.widgets.panel import Panel

WIDE, TALL = 110, 32
"""Width in columns for numbers next to the curves, and height in rows for the log below them."""
_DETAILED = (State.QUEUED, State.RUNNING, State.STOPPED)
"""States whose detail is displayed as a remark; that of others is displayed with the error."""


class RunScreen(ChartKeys, RunActions):
    """Displays everything about one run.

    Args:
        run_id: Id of the run; it may have been removed.
    """

    SCOPES = ("run", "chart")
    BINDINGS = bindings("run", "chart")
    DEFAULT_CSS = """
    RunScreen #identity { background: $surface; }
    RunScreen #pages { background: $surface; }
    RunScreen #failure { max-height: 7; overflow-y: auto; border-left: outer $error; background: $error 10%; }
    RunScreen #room { height: 1fr; layout: grid; grid-size: 1 1; }
    RunScreen #room.-curves.-wide { grid-size: 2 1; grid-columns: 1fr 44; }
    RunScreen #room.-curves.-wide #newest { display: none; }
    RunScreen #room.-curves.-wide.-tall { grid-size: 2 2; grid-rows: 1fr 9; }
    RunScreen #room.-curves.-wide.-tall Logs { column-span: 2; border-top: solid $border-blurred; }
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._row: RunSummary | None = None
        self._history: History | None = None
        self._files: RunFiles | None = None
        self._pages: dict[str, RunPage] = {page.name: imported(page.implementation)() for page in PAGES["run"]}
        self._page = PAGES["run"][0].name
        for name, page in self._pages.items():
            page.display = name == self._page
        self._wide = self._tall = False
        self._files_source: FilesSource | None = None
        self._page_sources: dict[str, WatchSource] = {}
        self._partner: Partner | None = None
        self._searched = self._searching = False

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._run_id

    def body(self) -> Iterable[Widget]:
        """Compose identity, tabs, error and the selected page."""
        yield Line(id="identity")
        yield Pages(tuple(self._pages), id="pages")
        yield Panel(wraps=True, id="failure")
        with Container(id="room", classes="-curves"):
            yield from self._pages.values()

    def on_mount(self) -> None:
        """Create the sources for the files of the run."""
        run = self.cockpit.run_of(self._run_id)
        self._files_source = FilesSource(run, self.post_message)
        sources = {name: page.source(run) for name, page in self._pages.items()}
        self._page_sources = {name: source for name, source in sources.items() if source is not None}
        self.watch(self.app, "theme", self._recolour, init=False)

    def on_unmount(self) -> None:
        """Stop reading the files of the run."""
        self._look_away()

    def on_screen_suspend(self, event: ScreenSuspend) -> None:
        """Stop reading the files of the run while the screen is hidden."""
        self._look_away()

    def on_screen_resume(self) -> None:
        """Read the files of the run, and update the screen."""
        super().on_screen_resume()
        self.cockpit.watcher.follow([self._run_id])
        if self._files_source is not None:
            self.cockpit.watcher.add(self._files_source)
        self._show_page()

    def _look_away(self) -> None:
        for source in (self._files_source, *self._page_sources.values()):
            if source is not None:
                self.cockpit.watcher.remove(source)

    # Changes.

    def board_changed(self, ids: frozenset[str]) -> None:
        """Update the screen, if the run is among the changed ones."""
        if not ids or self._run_id in ids:
            self._refresh()

    def history_changed(self, run_id: str) -> None:
        """Update the screen, if it is the history of this run."""
        if run_id == self._run_id:
            self._refresh()

    def on_files_read(self, message: FilesRead) -> None:
        """Update the screen after the files of the run changed."""
        self._files = message.files
        self._refresh()

    def _recolour(self) -> None:
        self._refresh()

    def on_resize(self, event: Resize) -> None:
        """Update the layout for the new size."""
        self._wide, self._tall = event.size.width >= WIDE, event.size.height >= TALL
        self._show_page()

    # Displaying.

    def _refresh(self) -> None:
        """Update everything that the selected page displays."""
        if not self.ready:
            return
        board = self.cockpit.board
        # A removed run keeps its last state: its events are removed slightly earlier than its summary.
        self._row = board.find(self._run_id) or self._row
        history = board.histories.get(self._run_id)
        if history is not None and (self._history is None or history.attempt or history.curves):
            self._history = history
        self._tell_source()
        failure = self._show_head()
        row = self._row
        if row is None:
            return
        view = RunView(
            run=self.cockpit.run_of(self._run_id),
            row=row,
            history=self._history,
            files=self._files,
            failure=tuple(failure) if self._pages[self._page].HAS_FAILURE else (),
            partial=self._run_id in board.partial,
            dark=self.app.current_theme.dark,
            other=self._partner,
            searched=self._searched,
        )
        for name in self._displayed:
            self._pages[name].show(view)

    @property
    def _displayed(self) -> tuple[str, ...]:
        """Names of the displayed pages, first the selected one."""
        return (self._page, *self._pages[self._page].beside(wide=self._wide, tall=self._tall))

    def _tell_source(self) -> None:
        row, history = self._row, self._history
        if self._files_source is None or row is None:
            return
        started = history.started if history is not None else None
        found = started.teacher if started is not None and started.teacher is not None else {}
        names = (found.get("architecture"), found.get("encoder"))
        self._files_source.snapshot = Snapshot(
            row.parameters,
            row.teacher_checkpoint if row.distilled else None,
            row.teacher_parameters,
            (str(names[0]), str(names[1])) if all(names) else None,
        )

    def _show_head(self) -> Sequence[TextLine]:
        """Display identity, progress and failure; returns the lines of the failure."""
        board, row = self.cockpit.board, self._row
        pages, failure = self.query_one(Pages), self.query_one("#failure", Panel)
        unreadable = board.broken.get(self._run_id, "")
        if row is None:
            gone = panels.failure(None, None, unreadable) if board.whole else []
            self.query_one("#identity", Line).show([Part(f" {self._run_id}", bold=True)])
            pages.show(self._page, None, "" if board.whole else "reading …")
            failure.show(gone)
            return gone
        here = row if self._run_id in board.rows or not board.whole else None
        wrong = panels.failure(here, self._history, unreadable)
        failure.show([] if self._pages[self._page].HAS_FAILURE else wrong)
        letter, name = board.letters.get(self._run_id), board.names.get(self._run_id, row.name)
        style = STATE_STYLES[row.state]
        left = [
            Part(f" {row.state.glyph} ", style, bold=True),
            Part(f"{letter} {name}" if letter else name, bold=True),
            Part(f"  {row.state.word if here is not None else 'REMOVED'}", style, bold=True),
        ]
        if row.detail and here is not None and row.state in _DETAILED:
            left.append(Part(f"  {row.detail}", "warning"))
        taught = f"  T {number(row.temperature, 1)}  α {number(row.alpha, 2)}" if row.distilled else ""
        self.query_one("#identity", Line).show(left, [Part(f"  {row.encoder or '-'}{taught} ", "text-muted")])
        pages.show(self._page, *panels.progress(row, self._history))
        return wrong

    def silence(self) -> Sequence[Part]:
        """The keys of the selected page."""
        return [Part(f" {self._pages[self._page].HINT}", "text-muted")]

    # The pages.

    def action_page(self, name: str) -> None:
        """Select a page."""
        self._page = name
        self._show_page()
        self.cockpit.say("")

    def on_pages_chosen(self, event: Pages.Chosen) -> None:
        """Select the clicked page."""
        self.action_page(event.name)

    def _show_page(self) -> None:
        if self not in self.app.screen_stack:  # removed before it was displayed
            return
        room, displayed = self.query_one("#room"), self._displayed
        room.set_classes([f"-{self._page}"])
        room.set_class(self._wide, "-wide")
        room.set_class(self._tall, "-tall")
        for name, page in self._pages.items():
            page.display = name in displayed
            page.fit(wide=self._wide, main=name == self._page)
        if self.app.screen is self:
            for name, source in self._page_sources.items():
                (self.cockpit.watcher.add if name in displayed else self.cockpit.watcher.remove)(source)
        self.set_focus(self._pages[self._page].focus_target())
        self._refresh()
        self._pages[self._page].selected()

    @property
    def chart(self) -> LineChart:
        """The chart on which the actions work."""
        return self.query_one(Curves).upper

    def step_metric(self, by: int) -> None:
        """Display the next or previous metric."""
        self.query_one(Curves).step(by)
        self._refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable keys that belong to another page: there they scroll."""
        pages = [name for name, page in self._pages.items() if action in page.ACTIONS]
        return not pages or any(name in self._displayed for name in pages)

    def __getattr__(self, name: str) -> Any:
        """Find the actions of the pages."""
        action = name.removeprefix("action_")
        for page in self.__dict__.get("_pages", {}).values() if action != name else ():
            if action in page.ACTIONS:
                return getattr(page, name)
        raise AttributeError(name)

    # The second run, and leaving.

    def on_settings_partner_requested(self, event: Settings.PartnerRequested) -> None:
        """Search the run to compare with."""
        event.stop()
        self._search()

    def _search(self, then: Callable[[], None] | None = None) -> None:
        """Search the run to compare with, unless one was chosen; then call ``then``."""
        row, run_id = self.row, self.run_id
        if self._partner is not None or row is None or run_id is None:
            if then is not None:
                then()
            return
        if self._searching:
            return
        self._searching = True
        run, rows = self.cockpit.run_of(run_id), list(self.cockpit.board.rows.values())

        def work() -> Partner | None:
            try:
                profile = run.profile_table()
            except StoreError:  # reported on the page
                return None
            return partner(row, profile, rows, lambda: not self.ready)

        def found(other: Partner | None) -> None:
            self._searching, self._searched = False, self.cockpit.board.whole
            self._take(self._partner or other)
            if then is not None:
                then()

        self.cockpit.do(work, found, group="partner")

    def _take(self, other: Partner | None) -> None:
        self._partner = other
        self._refresh()

    def action_other(self) -> None:
        """Prompt for the run to compare with."""
        board, own = self.cockpit.board, str(self.run_id)

        def check(text: str) -> str:
            return find(text, own, board.rows, board.order)

        def answered(text: str | None) -> None:
            if text is not None:
                run = self.cockpit.run_of(check(text))
                self.cockpit.do(lambda: beside(run, "chosen"), self._take, group="partner")

        title = "Compare with which run?"
        detail = "An id, a name, or the beginning of an id."
        self.app.push_screen(Prompt(title, detail=detail, check=check, command=f"kdtui compare {own} RUN"), answered)

    def action_compare(self) -> None:
        """Compare this run with the second one."""

        def go() -> None:
            if self._partner is None:
                self.cockpit.say("no matched baseline to compare with; o chooses a run", error=True)
            else:
                self.cockpit.compare([str(self.run_id), self._partner.run_id])

        self._search(go)

    def action_copy_path(self) -> None:
        """Copy the path of the folder of the run."""
        path = str(self.cockpit.run_of(str(self.run_id)).path)
        self.cockpit.copy_text(path, path)

    def action_copy_command(self) -> None:
        """Copy the command line in the status line, or the one that watches this run."""
        command = self.cockpit.said[1] or f"kdtui watch {shlex.quote(str(self.run_id))}"
        self.cockpit.copy_text(command, command)

    def action_back(self) -> None:
        """Go back."""
        self.leave()
