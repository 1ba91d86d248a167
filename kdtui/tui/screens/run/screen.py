"""The screen of one run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence

from textual.containers import Container
from textual.events import Resize, ScreenSuspend
from textual.widget import Widget

from kdtui.errors import KdtuiError, StoreError
from kdtui.store.history import History
from kdtui.store.state import RunSummary, State
from kdtui.text import number
from kdtui.tui.keys import bindings
from kdtui.tui.screens.charting import ChartKeys
from kdtui.tui.screens.dialogs import Prompt
from kdtui.tui.screens.run.curves import Curves
from kdtui.tui.screens.run.files import RunFiles, Snapshot
from kdtui.tui.screens.run.logs import FilesRead, FilesSource, LogRead, Logs, LogsSource
from kdtui.tui.screens.run.numbers import Numbers
from kdtui.tui.screens.run.predictions import Gallery, Predictions, look
from kdtui.tui.screens.run.settings import Other, Settings, beside, find, partner
from kdtui.tui.screens.run_actions import RunActions
from kdtui.tui.terminal import period
from kdtui.tui.views import panels
from kdtui.tui.views.colours import STATE_STYLES
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.choices import Pages
from kdtui.tui.widgets.line import Line, Part
from kdtui.tui.widgets.panel import Panel


class Partners(RunActions):
    """Actions that need a second run to compare with.

    Attributes:
        other: The second run; None if there is none.
        searched: Whether the search for it has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.other: Other | None = None
        self.searched = False
        self._searching = False

    def partner_changed(self) -> None:
        """Called when the second run changed."""
        raise NotImplementedError

    def search(self, then: Callable[[], None] | None = None) -> None:
        """Search the run to compare with, unless one was chosen; then call ``then``."""
        row, run_id = self.row, self.run_id
        if self.other is not None or row is None or run_id is None:
            if then is not None:
                then()
            return
        if self._searching:
            return
        self._searching = True
        run, rows = self.cockpit.run_of(run_id), list(self.cockpit.board.rows.values())

        def work() -> Other | None:
            try:
                profile = run.profile_table()
            except StoreError:  # reported on the page
                return None
            return partner(row, profile, rows, lambda: not self.ready)

        def found(other: Other | None) -> None:
            self._searching, self.searched = False, self.cockpit.board.whole
            self._take(self.other or other)
            if then is not None:
                then()

        self.cockpit.do(work, found, group="partner")

    def _take(self, other: Other | None) -> None:
        self.other = other
        if self.ready:
            self.partner_changed()

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
            if self.other is None:
                self.cockpit.say("no matched baseline to compare with; o chooses a run", error=True)
            else:
                self.cockpit.compare([str(self.run_id), self.other.run_id])

        self.search(go)

    def action_copy_path(self) -> None:
        """Copy the path of the folder of the run."""
        path = str(self.cockpit.run_of(str(self.run_id)).path)
        self.cockpit.copy_text(path, path)

    def action_copy_command(self) -> None:
        """Copy the command line in the status line, or the one that watches this run."""
        command = self.cockpit.said[1] or f"kdtui watch {shlex.quote(str(self.run_id))}"
        self.cockpit.copy_text(command, command)


class Picturing(RunActions):
    """A screen with :class:`Predictions`."""

    def __init__(self) -> None:
        super().__init__()
        self._wishes = 0

    def on_predictions_wished(self, event: Predictions.Wished) -> None:
        """Read and draw the image in a thread; the result of an outdated request is dropped."""
        self._wishes += 1
        mine, run, wish = self._wishes, self.cockpit.run_of(str(self.run_id)), event.wish

        def take(gallery: Gallery) -> None:
            if mine == self._wishes and self.ready:
                self.query_one(Predictions).take(gallery)

        def failed(error: KdtuiError) -> None:
            if mine == self._wishes and self.ready:
                self.query_one(Predictions).tell(error.message)

        self.cockpit.do(lambda: look(run, wish), take, failed=failed, group="pictures")

    def action_next_picture(self) -> None:
        """Display the next image of the epoch."""
        self.query_one(Predictions).step_picture(1)

    def action_previous_picture(self) -> None:
        """Display the previous image of the epoch."""
        self.query_one(Predictions).step_picture(-1)

    def action_next_epoch(self) -> None:
        """Display the next epoch with images."""
        self.query_one(Predictions).step_epoch(1)

    def action_previous_epoch(self) -> None:
        """Display the previous epoch with images."""
        self.query_one(Predictions).step_epoch(-1)

    def action_next_part(self) -> None:
        """Display all panels, or the next one enlarged."""
        self.query_one(Predictions).step_part()


PAGES = ("curves", "numbers", "predictions", "log", "profile")
WIDE, TALL = 110, 32
"""Width in columns for numbers next to the curves, and height in rows for the log below them."""
_DETAILED = (State.QUEUED, State.RUNNING, State.STOPPED)
"""States whose detail is displayed as a remark; that of others is displayed with the error."""
_HINTS = {
    "curves": "m next curve   z Z zoom   [ ] read values   l logarithmic   , . smooth",
    "numbers": "↑↓ scroll   t tags and note",
    "predictions": "←→ picture   ↑↓ epoch   v one part, larger   Y copies the folder's path",
    "log": "w the other log   ←→ long lines   ↑ stops following, end follows again",
    "profile": "o another run to differ from   c compare with it   N a new run like this one",
}


class RunScreen(ChartKeys, Picturing, Partners):
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
    RunScreen #room > * { display: none; }
    RunScreen #room.-curves Curves, RunScreen #room.-numbers Numbers, RunScreen #room.-log Logs { display: block; }
    RunScreen #room.-predictions Predictions, RunScreen #room.-profile Settings { display: block; }
    RunScreen #room.-curves.-wide { grid-size: 2 1; grid-columns: 1fr 44; }
    RunScreen #room.-curves.-wide Numbers { display: block; }
    RunScreen #room.-curves.-wide #newest { display: none; }
    RunScreen #room.-curves.-wide.-tall { grid-size: 2 2; grid-rows: 1fr 9; }
    RunScreen #room.-curves.-wide.-tall Logs { display: block; column-span: 2; border-top: solid $border-blurred; }
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._row: RunSummary | None = None
        self._history: History | None = None
        self._files: RunFiles | None = None
        self._page = PAGES[0]
        self._wide = self._tall = False
        self._files_source: FilesSource | None = None
        self._logs_source: LogsSource | None = None

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._run_id

    def body(self) -> Iterable[Widget]:
        """Compose identity, tabs, error and the selected page."""
        yield Line(id="identity")
        yield Pages(PAGES, id="pages")
        yield Panel(wraps=True, id="failure")
        with Container(id="room", classes="-curves"):
            yield Curves(id="curves")
            yield Numbers(id="numbers")
            yield Predictions(colours=self._has_colours(), id="predictions")
            yield Logs(id="logs")
            yield Settings(id="settings")

    def _has_colours(self) -> bool:
        return not self.app.no_color and self.app.console.color_system in ("256", "truecolor")

    def on_mount(self) -> None:
        """Create the sources for the files of the run."""
        run = self.cockpit.run_of(self._run_id)
        self._files_source = FilesSource(run, self.post_message)
        self._logs_source = LogsSource(run, self.post_message, period())
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
        for source in (self._files_source, self._logs_source):
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

    def on_log_read(self, message: LogRead) -> None:
        """Append to a log."""
        if self.ready:
            self.query_one(Logs).take(message)

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
        self._show_head()
        row = self._row
        if row is None:
            return
        if self._page == "curves":
            partial = self._run_id in board.partial
            self.query_one(Curves).show(row, self._history, partial=partial, dark=self.app.current_theme.dark)
        if self._page == "numbers" or (self._page == "curves" and self._wide):
            self.query_one(Numbers).show(row, self._history, self._files)
        if self._page == "predictions":
            drawn = self._history.pictures if self._history is not None else 0
            classes = [name for name, _, _ in panels.class_bars(row, self._history)]
            val = self._history.last_val.scalars if self._history is not None and self._history.last_val else {}
            best = val.get("best_epoch")
            started = self._history.started if self._history is not None else None
            colours = started.student.get("class_colours") if started is not None else None
            self.query_one(Predictions).follow(classes, drawn, None if best is None else round(best), colours)
        if self._page == "profile":
            self.query_one(Settings).show(self._files, self.other, searched=self.searched)

    def _tell_source(self) -> None:
        row, history = self._row, self._history
        if self._files_source is None or row is None:
            return
        started = history.started if history is not None else None
        found = started.teacher if started is not None and started.teacher is not None else {}
        names = (found.get("architecture"), found.get("encoder"))
        self._files_source.known = Snapshot(
            row.parameters,
            row.teacher_checkpoint if row.distilled else None,
            row.teacher_parameters,
            (str(names[0]), str(names[1])) if all(names) else None,
        )

    def _show_head(self) -> None:
        board, row = self.cockpit.board, self._row
        pages, failure = self.query_one(Pages), self.query_one("#failure", Panel)
        unreadable = board.broken.get(self._run_id, "")
        if row is None:
            gone = panels.failure(None, None, unreadable) if board.whole else []
            self.query_one("#identity", Line).show([Part(f" {self._run_id}", bold=True)])
            pages.show(self._page, None, "" if board.whole else "reading …")
            failure.show(gone)
            return
        here = row if self._run_id in board.rows or not board.whole else None
        wrong = panels.failure(here, self._history, unreadable)
        # the page of numbers displays the error in full
        failure.show([] if self._page == "numbers" else wrong)
        if self._page == "numbers":
            self.query_one(Numbers).show_failure(wrong)
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

    def silence(self) -> Sequence[Part]:
        """The keys of the selected page."""
        return [Part(f" {_HINTS[self._page]}", "text-muted")]

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
        room = self.query_one("#room")
        for name in PAGES:
            room.set_class(name == self._page, f"-{name}")
        room.set_class(self._wide, "-wide")
        room.set_class(self._tall, "-tall")
        self.query_one(Numbers).set_class(self._page == "curves", "-narrow")
        self.query_one(Settings).set_class(self._wide, "-beside")
        self._watch_logs(self._shows_log)
        self._focus()
        self._refresh()
        if self._page == "predictions":
            self.query_one(Predictions).ask()
        if self._page == "profile":
            self.search()

    def _focus(self) -> None:
        """Focus what can be scrolled with keys."""
        if self._page == "log":
            self.query_one(Logs).view.focus()
        elif self._page == "numbers":
            self.query_one(Numbers).focus()
        elif self._page == "profile":
            self.query_one(Settings).focus()
        else:
            self.set_focus(None)

    def _watch_logs(self, wanted: bool) -> None:
        if self._logs_source is not None and self.app.screen is self:
            (self.cockpit.watcher.add if wanted else self.cockpit.watcher.remove)(self._logs_source)

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
        if action in ("previous_picture", "next_picture", "previous_epoch", "next_epoch", "next_part"):
            return self._page == "predictions"
        return self._shows_log or action != "other_log"

    @property
    def _shows_log(self) -> bool:
        return self._page == "log" or (self._page == "curves" and self._wide and self._tall)

    def action_other_log(self) -> None:
        """Switch between the engine's log and the output of its processes."""
        self.query_one(Logs).switch()

    # The second run, and leaving.

    def partner_changed(self) -> None:
        """Display the differences from the second run."""
        self._refresh()

    def action_back(self) -> None:
        """Go back."""
        self.leave()
