"""The screen of the sweeps: their list with progress, and the heat map or the trials of the one under the cursor."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from textual.containers import Vertical
from textual.widget import Widget

from kdtui.errors import KdtuiError
from kdtui.store.state import LIVE, State
from kdtui.sweep.controlled import stop_all
from kdtui.sweep.folder import SweepFolder
from kdtui.sweep.heatmap import Best, GridCell, HeatMap, heat_map
from kdtui.sweep.listing import SweepListing, SweepRow
from kdtui.sweep.runs import RESTARTED, Launched, launch, stop
from kdtui.sweep.sampled import control
from kdtui.sweep.sampled.results import SampledRuns
from kdtui.sweep.sampled.trials import Trial
from kdtui.sweep.spec import from_tables
from kdtui.text import counted
from kdtui.tui.keys import bindings
from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.values import Cell, Part
from kdtui.tui.views.sweeps import (
    COLUMNS,
    cells,
    field_texts,
    headline,
    marginal_lines,
    summary_lines,
    titles,
    trial_cells,
    trial_columns,
    trials_headline,
    trials_summary,
)
from kdtui.tui.widgets.heat_grid import Field, HeatGrid
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.table import Table

_NONE = (
    "no sweeps yet\n"
    "press n on the list of runs and give T, α or another key several values, as in 1,2,4; or run `kdtui sweep PROFILE`"
)
_NO_GRID = "a sampled sweep has trials, not a grid"
_SECONDS = 2.0
"""Seconds between two looks while a sampled sweep is running."""


class SweepsScreen(CockpitScreen):
    """The list of sweeps, and the heat map or the trials of one.

    Args:
        sweep_id: The sweep under the cursor at first; None for the newest.
    """

    SCOPES = ("sweeps",)
    BINDINGS = bindings("sweeps")
    DEFAULT_CSS = """
    SweepsScreen #sweeps { height: auto; max-height: 25%; }
    SweepsScreen #trials { height: 1fr; }
    SweepsScreen #map { height: 1fr; border-top: solid $foreground 30%; }
    SweepsScreen #marginals { margin-top: 1; }
    """

    def __init__(self, sweep_id: str | None = None) -> None:
        super().__init__()
        self._wanted = sweep_id
        self._listing: SweepListing | None = None
        self._rows: dict[str, SweepRow] = {}
        self._reading = self._again = False
        self._were_read = False
        self._choice: dict[str, Any] = {}
        self._grid: HeatMap | None = None
        self._best: tuple[str, Best | None] | None = None
        self._pending = ""
        self._trials: dict[str, Trial] = {}
        self.table = Table(COLUMNS, self._cells, empty="reading…", id="sweeps")
        self.heat = HeatGrid(id="heat")
        self.trials = Table((), self._trial_cells, empty="no trial has begun", id="trials")
        self._headline = Panel(id="headline")
        self._summary = Panel(wraps=True, id="summary")
        self._marginals = Panel("MEAN OF EACH VALUE", id="marginals")

    def body(self) -> Iterable[Widget]:
        """Compose the list, the heat map and what follows from it."""
        yield self.table
        with Vertical(id="map"):
            yield self._headline
            yield self.heat
            yield self.trials
            yield self._summary
            yield self._marginals

    def on_mount(self) -> None:
        """Focus the list."""
        self.table.focus()
        self._listing = SweepListing(self.cockpit.store.for_thread())
        self.watch(self.app, "theme", self._show, init=False)
        self.set_interval(_SECONDS, self._read_live)

    @property
    def sweep_id(self) -> str | None:
        """The sweep under the cursor."""
        return self.table.cursor_key

    @property
    def row(self) -> SweepRow | None:
        """The sweep under the cursor."""
        return self._rows.get(self.sweep_id or "")

    @property
    def sampled(self) -> SampledRuns | None:
        """The sampled sweep under the cursor; None for a grid."""
        return None if self.row is None else self.row.sampled

    @property
    def trial(self) -> Trial | None:
        """The trial under the cursor."""
        return self._trials.get(self.trials.cursor_key or "")

    @property
    def grid(self) -> HeatMap | None:
        """The displayed heat map."""
        return self._grid

    @property
    def cell(self) -> GridCell | None:
        """The field under the cursor."""
        row, column = self.heat.cursor
        return None if self._grid is None else self._grid.grid[row][column]

    # Reading.

    def board_changed(self, ids: frozenset[str]) -> None:
        """Read the sweeps again if a run of one of them changed."""
        if not self.ready:
            return
        rows = self.cockpit.board.rows
        if ids and self._were_read and not any(key not in rows or rows[key].sweep for key in ids):
            return
        self._read()

    def _read_live(self) -> None:
        """Read again while a controller is running: it also ends without a change of a run."""
        if any(row.sampled is not None and row.sampled.controller.live for row in self._rows.values()):
            self._read()

    def _read(self) -> None:
        """Read in a thread, one at a time."""
        listing = self._listing
        if self._reading or listing is None:
            self._again = True
            return
        self._reading, self._again = True, False
        summaries = list(self.cockpit.board.rows.values())
        self.cockpit.do(lambda: listing.rows(summaries), self._take, failed=self._failed, group="sweeps")

    def _failed(self, error: KdtuiError) -> None:
        self._reading = False
        self.cockpit.say_error(error)

    def _take(self, rows: list[SweepRow]) -> None:
        self._reading = False
        if not self.ready:
            return
        self._rows = {row.id: row for row in reversed(rows)}  # the newest first
        self._were_read = self.cockpit.board.whole
        self.table.empty = _NONE if self._were_read else "reading…"
        self.table.styles.min_height = 3 if rows else 6
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

    def _trial_cells(self, key: str) -> Sequence[Cell]:
        return [] if self.sampled is None else trial_cells(self.sampled, self._trials[key])

    def on_table_moved(self, event: Table.Moved) -> None:
        """Display another sweep, or describe another trial."""
        if event.table is self.trials:
            self.cockpit.say("")
            self.say("")
            return
        self._choice = {}
        self._show()

    def _show(self) -> None:
        """Display the sweep under the cursor."""
        row = self.row
        runs = None if row is None else row.runs
        self._grid = None if runs is None else heat_map(runs, **self._choice)
        grid, dark = self._grid, self.app.current_theme.dark
        sampled = self.sampled
        self.heat.display, self.trials.display = sampled is None, sampled is not None
        if sampled is not None:
            self._show_trials(sampled)
            return
        if grid is None:
            for panel in (self._headline, self._summary, self._marginals):
                panel.show([])
            self.heat.show((), (), ())
            if row is not None and row.problem:
                self._headline.show([[(row.problem, "bad")]])
            return
        key = self._evidence_key(grid)
        best = self._best[1] if self._best is not None and self._best[0] == key else None
        pending = self._best is None or self._best[0] != key
        fields = [[Field(*one) for one in line] for line in field_texts(grid, best, dark=dark)]
        self._headline.show(headline(grid))
        self.heat.show(*titles(grid), fields)
        self._summary.show(summary_lines(grid, best, pending=pending))
        self._marginals.show(marginal_lines(grid))
        self.say(*self.cockpit.said)
        if pending and self._pending != key:
            self._weigh(grid, key)

    def _show_trials(self, sampled: SampledRuns) -> None:
        self._trials = {trial.key: trial for trial in sampled.trials}
        self._headline.show(trials_headline(sampled))
        self.trials.set_columns(trial_columns(sampled))
        self.trials.show(list(self._trials))
        self._summary.show(trials_summary(sampled))
        self._marginals.show([])
        self.say(*self.cockpit.said)

    def _evidence_key(self, grid: HeatMap) -> str:
        """Changes when a run finishes, or when other fields are displayed."""
        finished = [row.id for row in grid.runs.in_state(State.FINISHED)]
        keys = grid.rows.key, grid.columns and grid.columns.key, sorted(grid.fixed.items())
        return f"{grid.runs.id} {keys} {finished}"

    def _weigh(self, grid: HeatMap, key: str) -> None:
        """Read the intervals in a thread, which takes up to a second for each run of one seed."""
        self._pending = key

        def then(best: Best | None) -> None:
            self._best, self._pending = (key, best), ""
            if self.ready:
                self._show()

        self.cockpit.do(grid.best, then, group="sweep evidence")

    def silence(self) -> Sequence[Part]:
        """The field or trial under the cursor."""
        if self.sampled is not None and self.trial is not None:
            runs = ", ".join(run.id for run in self.trial.runs)
            return [Part(f"trial {self.trial.number}: {runs}", "text-muted")]
        cell, grid = self.cell, self._grid
        if cell is None or grid is None:
            return ()
        values = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in grid.values_of(cell).items())
        states = ", ".join(f"{run.state.word.lower()} {run.best(grid.score) or 0:.4f}" for run in cell.runs[:4])
        return [Part(f"{values}: {states or 'not made'}", "text-muted")]

    def on_heat_grid_moved(self, event: HeatGrid.Moved) -> None:
        """Describe the field under the cursor."""
        self.cockpit.say("")
        self.say("")

    # Keys.

    def action_back(self) -> None:
        """Go back to the previous screen."""
        self.leave()

    def action_open(self) -> None:
        """Display the runs of the field or trial under the cursor; from the list, go there."""
        if self.table.has_focus and self._grid is not None:
            self.heat.focus()
            return
        if self.table.has_focus and self._trials and self.sampled is not None:
            self.trials.focus()
            return
        place = self.cell if self.sampled is None else self.trial
        ids = [run.id for run in place.runs] if place is not None else []
        if len(ids) == 1:
            self.cockpit.open_run(ids[0])
        elif ids:
            self.cockpit.compare(ids)
        else:
            self.cockpit.say("this field has no run yet", error=True)

    def on_table_opened(self, event: Table.Opened) -> None:
        """As the key."""
        self.action_open()

    def action_runs(self) -> None:
        """Display all runs of the sweep in the list of runs."""
        if self.sweep_id is not None:
            self.leave()
            self.cockpit.list_runs(f"sweep={self.sweep_id}")

    def action_next_rows(self) -> None:
        """Display the next key in the rows."""
        self._turn("rows", "columns")

    def action_next_columns(self) -> None:
        """Display the next key in the columns."""
        self._turn("columns", "rows")

    def _turn(self, which: str, other: str) -> None:
        grid = self._grid
        if grid is None or grid.columns is None:
            self.cockpit.say("the sweep has one key" if self.sampled is None else _NO_GRID, error=True)
            return
        keys = [axis.key for axis in grid.runs.spec.axes]
        now = {"rows": grid.rows.key, "columns": grid.columns.key}
        following = keys[(keys.index(now[which]) + 1) % len(keys)]
        self._choice = {which: following, other: now[which] if following == now[other] else now[other]}
        self._show()

    def action_next_value(self) -> None:
        """Fix the first averaged key at its next value; after the last, the mean over all."""
        grid = self._grid
        axes = (
            () if grid is None else tuple(axis for axis in grid.runs.spec.axes if axis not in (grid.rows, grid.columns))
        )
        if grid is None or not axes:
            no_other = "no other key: rows and columns are all keys of the sweep"
            self.cockpit.say(no_other if self.sampled is None else _NO_GRID, error=True)
            return
        axis = axes[0]
        values: list[Any] = [None, *axis.values]
        at = dict(grid.fixed)
        following = values[(values.index(at.get(axis.key)) + 1) % len(values)]
        at = {**{key: value for key, value in at.items() if key != axis.key}} | (
            {} if following is None else {axis.key: following}
        )
        self._choice = {**self._shown_keys(grid), "at": at}
        self._show()

    def _shown_keys(self, grid: HeatMap) -> Mapping[str, str]:
        return {"rows": grid.rows.key, **({} if grid.columns is None else {"columns": grid.columns.key})}

    def action_stop(self) -> None:
        """Save and stop all runs of the sweep, after confirmation."""
        sweep_id, row = self.sweep_id, self.row
        if sweep_id is not None and row is not None and row.sampled is not None:
            self._stop_sampled(sweep_id, row.sampled)
            return
        live = [] if row is None or row.runs is None else row.runs.in_state(*LIVE)
        if sweep_id is None or not live:
            self.cockpit.say("nothing to stop: no run of this sweep is running or queued", error=True)
            return
        command = shlex.join(["kdtui", "sweep", "stop", sweep_id])
        what = f"{counted(len(live), 'run')} save and stop; R resumes the sweep later."

        def stopped(_: object) -> None:
            self.cockpit.watcher.nudge()
            self.cockpit.say(f"{sweep_id}: stopping {counted(len(live), 'run')}", command)

        folder = SweepFolder(self._path(sweep_id))
        work = lambda: stop(self.cockpit.store.for_thread(), folder)  # noqa: E731
        self._ask(Confirm(f"Stop {sweep_id}?", what, command), lambda: self.cockpit.do(work, stopped))

    def action_resume(self) -> None:
        """Launch stopped and lost runs again and make missing ones, after confirmation; then failed ones."""
        sweep_id, row = self.sweep_id, self.row
        if sweep_id is not None and row is not None and row.sampled is not None:
            self._resume_sampled(sweep_id, row.sampled)
            return
        if sweep_id is None or row is None or row.runs is None:
            return
        again = row.runs.in_state(*RESTARTED, State.STOPPED)
        missing, failed = row.runs.missing, row.runs.in_state(State.FAILED)
        retry = not again and not missing and bool(failed)
        if not (again or missing or failed):
            self.cockpit.say("nothing to resume: every run has finished, is running or queued", error=True)
            return
        states = (*RESTARTED, State.STOPPED, *((State.FAILED,) if retry else ()))
        command = shlex.join(["kdtui", "sweep", "resume", sweep_id, *(["--retry"] if retry else []), "--detach"])
        parts = [f"{len(again) or len(failed)} launched again"] if again or retry else []
        parts += [f"{counted(len(missing), 'new run')}"] if missing else []

        def work() -> Launched:
            folder = SweepFolder(self._path(sweep_id))
            return launch(self.cockpit.store.for_thread(), from_tables(folder), relaunch=states)

        def resumed(done: Launched) -> None:
            self.cockpit.watcher.nudge()
            self.cockpit.say(f"{sweep_id}: {counted(len(done.new) + len(done.again), 'run')} launched", command)

        question = Confirm(f"Resume {sweep_id}?", f"{', '.join(parts)}.", command)
        self._ask(question, lambda: self.cockpit.do(work, resumed))

    def _stop_sampled(self, sweep_id: str, sampled: SampledRuns) -> None:
        if not sampled.controller.live and not any(run.state in LIVE for one in sampled.trials for run in one.runs):
            self.cockpit.say("nothing to stop: this sweep is not running", error=True)
            return
        command = shlex.join(["kdtui", "sweep", "stop", sweep_id])
        folder = SweepFolder(self._path(sweep_id))
        work = lambda: stop_all(self.cockpit.store.for_thread(), folder)  # noqa: E731
        question = Confirm(f"Stop {sweep_id}?", "Its runs save and stop; R resumes the sweep later.", command)
        self._ask(question, lambda: self._carry_out(work, f"{sweep_id}: stopping", command))

    def _resume_sampled(self, sweep_id: str, sampled: SampledRuns) -> None:
        failed = sum(trial.outcome == "failed" for trial in sampled.trials)
        if sampled.controller.live:
            self.cockpit.say("nothing to resume: this sweep is running", error=True)
            return
        done = sampled.controller.state is State.FINISHED and sampled.ended >= sampled.total
        if done and not failed:
            self.cockpit.say("nothing to resume: every trial has ended", error=True)
            return
        retry = bool(failed) and sampled.ended >= sampled.total
        command = shlex.join(["kdtui", "sweep", "resume", sweep_id, *(["--retry"] if retry else []), "--detach"])
        folder = SweepFolder(self._path(sweep_id))
        work = lambda: control.start(folder, retry=retry)  # noqa: E731
        what = f"{counted(failed, 'failed trial')} trained again." if retry else "Nothing is trained twice."
        question = Confirm(f"Resume {sweep_id}?", what, command)
        self._ask(question, lambda: self._carry_out(work, f"{sweep_id}: resumed", command))

    def _carry_out(self, work: Callable[[], object], done: str, command: str) -> None:
        def then(_: object) -> None:
            self.cockpit.watcher.nudge()
            self.cockpit.say(done, command)
            self._read()

        self.cockpit.do(work, then)

    def _path(self, sweep_id: str) -> Any:
        return self.cockpit.store.root / ".sweeps" / sweep_id

    def _ask(self, question: Confirm, then: Callable[[], None]) -> None:
        self.app.push_screen(question, lambda yes: then() if yes else None)

    def action_copy(self) -> None:
        """Copy the id of the sweep."""
        if self.sweep_id is not None:
            self.cockpit.copy_text(self.sweep_id, self.sweep_id)

    def action_copy_command(self) -> None:
        """Copy the command line that displays the same heat map or trials."""
        grid = self._grid
        if self.sampled is not None:
            self.cockpit.copy_text(shlex.join(["kdtui", "sweep", "show", self.sampled.id]), "command line")
        if grid is None:
            return
        words = ["kdtui", "sweep", "show", grid.runs.id]
        for key, value in self._shown_keys(grid).items() if self._choice else ():
            words += [f"--{key}", value]
        for key, value in grid.fixed.items():
            words += ["--at", f"{key}={value}"]
        self.cockpit.copy_text(shlex.join(words), "command line")
