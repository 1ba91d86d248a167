"""The first screen: the table of all runs, and the curve of the run under the cursor or of the marked runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input

from kdtui.errors import FilterError
from kdtui.store.filter import complete, parse
from kdtui.store.run import Run
from kdtui.store.space import Collectable, collect, collectable
from kdtui.store.view_logits import Entry, clear, entries
from kdtui.text import counted, mebibytes
from kdtui.tui.keys import bindings
from kdtui.tui.screens.charting import CHART_HINT, ChartKeys
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.screens.run_actions import RunActions
from kdtui.tui.values import Cell, Part
from kdtui.tui.views.curves import metric_title, metrics, neighbour, shown
from kdtui.tui.views.rows import BEST_FIRST, SORTABLE, best_of, cells, columns, ordered
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.choices import LineInput
from kdtui.tui.widgets.table import Table

if TYPE_CHECKING:
    from kdtui.tui.run_states import RunStates

_LISTED = 6
"""Most teachers or runs that a dialog about disk space lists; the others are counted."""
_MOVED = 0.12
"""Seconds without a cursor move after which a history is read."""


class FilterEntry(LineInput):
    """The input of the filter; tab accepts the suggestion, like the right arrow."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "cursor_right", "Complete", show=False)]


class _Completer(Suggester):
    def __init__(self, board: RunStates) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._board = board

    async def get_suggestion(self, value: str) -> str | None:
        """Complete the last term of the filter."""
        return complete(value, self._board.rows.values())


class RunsScreen(ChartKeys, RunActions):
    """The list of runs."""

    SCOPES = ("runs", "chart")
    BINDINGS = bindings("runs", "chart")

    def __init__(self) -> None:
        super().__init__()
        self._filter = ""
        self._filtering: FilterError | None = None
        self._sort: tuple[str | None, bool] = (None, False)
        self._keys: list[str] = []
        self._best: str | None = None
        self._columns = columns(())
        self._chosen_metric: str | None = None
        self._moves = 0
        self._slid: tuple[str | None] | None = None

    def body(self) -> Iterable[Widget]:
        """Compose table, filter and chart."""
        yield Table(self._columns, self._cells, id="runs")
        filter_line = FilterEntry(
            placeholder="student:b0 T>=4 miou>.65 state:failed   tab completes, enter keeps, esc clears",
            id="filter",
            suggester=_Completer(self.cockpit.board),
        )
        filter_line.display = False
        yield filter_line
        with Container(id="curve") as curve:
            curve.border_subtitle = CHART_HINT
            yield LineChart(id="chart")

    def on_mount(self) -> None:
        """Focus the table, sorted as in the last session."""
        chosen = self.cockpit.preferences
        self._sort = (chosen.sort or None, chosen.descending)
        self.table.set_sorted(*self._sort)
        self.table.focus()

    @property
    def table(self) -> Table:
        """The table of runs."""
        return self.query_one("#runs", Table)

    @property
    def chart(self) -> LineChart:
        """The chart of the chosen runs."""
        return self.query_one("#chart", LineChart)

    @property
    def board(self) -> RunStates:
        """The states of the runs."""
        return self.cockpit.board

    @property
    def run_id(self) -> str | None:
        """The run under the cursor."""
        return self.table.cursor_key

    @property
    def chosen(self) -> list[str]:
        """The marked runs, or the run under the cursor."""
        return list(self.board.marked) or ([] if self.run_id is None else [self.run_id])

    @property
    def hidden(self) -> frozenset[str]:
        """The marked runs that the filter hides."""
        return frozenset(self.board.marked) - frozenset(self._keys)

    # Changes.

    def board_changed(self, ids: frozenset[str]) -> None:
        """Update order, cells and status line."""
        if not self.ready:
            return
        self._arrange()
        visible = [self.board.rows[key] for key in self._keys]
        self._columns = columns(sorted({row.score for row in visible}))
        self.table.set_columns(self._columns)
        best = best_of(visible)
        changed = (
            None if not ids else ids | {key for key in (best, self._best) if key is not None and best != self._best}
        )
        self._best = best
        if self.table.marks != frozenset(self.board.marked):  # a marked run was deleted
            self._hand_marks()
        before = self.run_id
        self.table.show(self._keys, changed)
        if self.run_id != before:
            self._slid = (self.run_id,)  # the run under the cursor disappeared: not a move by the user
        self._follow()
        if not self.cockpit.said[0]:
            self.say("")

    def _arrange(self) -> None:
        rows = self.board.rows
        keys: Sequence[str] = self.board.order
        if self._filter:
            matches = parse(self._filter)
            keys = [key for key in keys if matches(rows[key])]
        self._keys = ordered(keys, rows, self._sort[0], descending=self._sort[1])
        self.table.empty = self._nothing()

    def _nothing(self) -> str:
        if self.board.trouble:
            return self.board.trouble
        if not self.board.whole and self.board.total:
            return "reading…"
        if self._filter and self.board.rows:
            return f"no run matches '{self._filter}'; Esc clears the filter"
        hint = "press n to set one up, or run `kdtui demo` to train three in a few minutes"
        return f"no runs yet in {self.cockpit.store.root}\n{hint}"

    def _cells(self, key: str) -> Sequence[Cell]:
        row = self.board.find(key)
        if row is None:
            return [Cell("")] * len(self._columns)
        return cells(row, self._columns, best=key == self._best, name=self.board.names[key])

    def history_changed(self, run_id: str) -> None:
        """Update the chart of a chosen run."""
        if run_id in self.chosen:
            self._draw()

    def silence(self) -> Sequence[Part]:
        """Why the run under the cursor is queued or failed, its tags and note, and the filter."""
        if self._filtering is not None:
            what = " · ".join(fact for fact in (self._filtering.what, self._filtering.allowed) if fact)
            return [Part(what, "error")]
        row = self.row
        parts = [Part(f"filter {self._filter}  ", "accent")] if self._filter else []
        if row is None:
            return parts
        hint = f" · next: {row.hint}" if row.hint else ""
        if row.detail:
            parts.append(Part(f"{row.state.word.lower()}: {row.detail}{hint}", "error" if row.error else ""))
        tags = " ".join(f"#{tag}" for tag in row.tags)
        parts.append(Part(f"{'  ' if row.detail else ''}{row.id}  {tags}  {row.notes}", "text-muted"))
        return parts

    # The table.

    def on_table_moved(self, event: Table.Moved) -> None:
        """Follow the run under the cursor, once the cursor rests."""
        self._moves += 1
        mine = self._moves
        slid, self._slid = self._slid, None
        if not self.cockpit.said[0]:
            self.say("")
        elif slid != (event.key,):  # the user has read the message and moved on
            self.cockpit.say("")
        # Not `is_current`: that is true for the screen directly below the top one as well.
        self.set_timer(_MOVED, lambda: self._follow() if mine == self._moves and self.app.screen is self else None)

    def on_table_opened(self, event: Table.Opened) -> None:
        """Display the opened run."""
        self.cockpit.open_run(event.key)

    def on_table_marked(self, event: Table.Marked) -> None:
        """Mark the runs, which share the chart."""
        former = self.board.marked
        added = [key for key in self._keys if key in event.keys and key not in former]
        self.board.mark([*(key for key in former if key in event.keys), *added])
        self._show_marks()

    def _hand_marks(self) -> None:
        self.table.marks = frozenset(self.board.marked)
        self.table.letters = dict(self.board.letters)

    def _show_marks(self) -> None:
        self._hand_marks()
        self.table.show(self._keys)
        self._follow()

    def on_table_header_clicked(self, event: Table.HeaderClicked) -> None:
        """Sort by the clicked column; a second click reverses the order."""
        if self._sort[0] == event.column_key:
            self.action_reverse()
        else:
            self._sort_by(event.column_key)

    def _sort_by(self, column: str | None) -> None:
        self._sort = (column, column in BEST_FIRST)
        self._sorted()

    def _sorted(self) -> None:
        column, descending = self._sort
        self.table.set_sorted(column, descending)
        self.cockpit.prefer(sort=column or "", descending=descending)
        self.board_changed(frozenset())
        title = next((c.title or c.key for c in self._columns if c.key == column), column)
        self.cockpit.say(
            f"sorted by {title}, {'largest' if descending else 'smallest'} first" if column else "newest first"
        )

    # The chart.

    def _follow(self) -> None:
        """Follow the chosen runs and draw their curves."""
        ids = self.chosen
        self.cockpit.watcher.follow(ids)
        self._draw()

    @property
    def _metric(self) -> str:
        """Name of the displayed curve; by default the loss for one run, and the mIoU for several.

        Losses are not comparable: that of a distilled run is a different function than that of its baseline.
        """
        return self._chosen_metric or ("train/loss" if len(self.chosen) < 2 else "val/miou")

    def _draw(self) -> None:
        ids = self.chosen
        board = self.board
        found = shown(self._metric, ids, board.rows, board.histories, board.letters, dark=self.app.current_theme.dark)
        who = board.names[ids[0]] if len(ids) == 1 and ids[0] in board.rows else f"{len(ids)} runs"
        notes = [board.broken[key] for key in ids if key in board.broken]
        if any(key in board.partial for key in ids):
            notes.append("reading the beginning")
        title = " · ".join([f"{metric_title(self._metric)}  {who}" if ids else "", *notes])
        self.chart.show(
            [replace(one, label=board.names.get(one.key, one.label)) for one in found.series],
            references=found.references,
            title=title,
            x_label=found.x_label,
            x_max=found.x_max,
        )

    def _metrics(self) -> list[str]:
        return metrics(self.board.histories[key] for key in self.chosen if key in self.board.histories)

    def step_metric(self, by: int) -> None:
        """Display the next or previous metric."""
        names = self._metrics()
        if names:
            self._chosen_metric = neighbour(self._metric, names, by)
            self._draw()

    # Order and marks.

    def action_toggle_mark(self) -> None:
        """Mark or unmark the run under the cursor."""
        self.table.action_toggle_mark()

    def action_teacher_logits(self) -> None:
        """Display the cached teacher logits of the store; remove them after confirmation."""
        root = self.cockpit.store.root

        def removed(freed: int) -> None:
            self.cockpit.say(f"{mebibytes(freed)} of teacher logits removed", "kdtui cache --clear")

        def listed(cached: list[Entry]) -> None:
            if not cached:
                self.cockpit.say(
                    "no cached teacher logits: runs with data.views or data.view_seed keep them", "kdtui cache"
                )
                return
            lines = [
                f"{mebibytes(entry.bytes)}, {counted(entry.views, 'view')}: {entry.about.get('encoder', 'a teacher')}"
                for entry in cached[:_LISTED]
            ]
            if len(cached) > _LISTED:
                lines.append(f"and {len(cached) - _LISTED} more")
            lines.append("Trainings that need them compute them again.")
            total = mebibytes(sum(entry.bytes for entry in cached))
            question = Confirm(f"Remove {total} of cached teacher logits?", "\n".join(lines), "kdtui cache --clear")
            self._ask(question, lambda: self.cockpit.do(lambda: clear(root), removed))

        self.cockpit.do(lambda: entries(root), listed)

    def action_free_space(self) -> None:
        """Remove the training states of ended runs, or of those marked, after confirmation."""
        store = self.cockpit.store
        marked = [Run(self.board.rows[key].path) for key in self.board.marked if key in self.board.rows]
        command = shlex.join(["kdtui", "gc", *(run.id for run in marked)])

        def removed(freed: int) -> None:
            self.cockpit.say(f"{mebibytes(freed)} of training states removed", command)

        def listed(removable: list[Collectable]) -> None:
            if not removable:
                self.cockpit.say("no training states to remove: none of an ended run, or other runs need them", command)
                return
            lines = [f"{mebibytes(one.bytes)}: {one.run.id}" for one in removable[:_LISTED]]
            if len(removable) > _LISTED:
                lines.append(f"and {len(removable) - _LISTED} more")
            lines.append("The best checkpoints and exports stay. These runs cannot be resumed for more epochs.")
            total = mebibytes(sum(one.bytes for one in removable))
            question = Confirm(f"Remove {total} of training states?", "\n".join(lines), command)
            self._ask(question, lambda: self.cockpit.do(lambda: sum(collect(store, one) for one in removable), removed))

        self.cockpit.do(lambda: collectable(store, marked or None), listed)

    def action_sweeps(self) -> None:
        """Display the sweeps, with the cursor on that of the run."""
        self.cockpit.sweeps(None if self.row is None else self.row.sweep)

    def action_searches(self) -> None:
        """Display the searches, with the cursor on that of the run."""
        self.cockpit.searches(None if self.row is None else self.row.sweep)

    def action_sort(self) -> None:
        """Sort by the next column; after the last, newest first."""
        order: list[str | None] = [None, *SORTABLE]
        at = order.index(self._sort[0]) if self._sort[0] in order else 0
        self._sort_by(order[(at + 1) % len(order)])

    def action_reverse(self) -> None:
        """Reverse the sort order."""
        if self._sort[0] is not None:
            self._sort = (self._sort[0], not self._sort[1])
            self._sorted()

    # The filter.

    def action_filter(self) -> None:
        """Display the input of the filter."""
        line = self.query_one("#filter", FilterEntry)
        line.display = True
        line.value = self._filter
        line.focus()

    def action_clear(self) -> None:
        """Close the input of the filter, then clear the filter, then the marks."""
        line = self.query_one("#filter", FilterEntry)
        if line.display or self._filter:
            self._leave_filter(keep=False)
        elif self.board.marked:
            self.board.mark(())
            self._show_marks()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Apply the filter while it is typed."""
        try:
            parse(event.value)
        except FilterError as error:
            self._filtering = error
        else:
            self._filtering = None
            self._filter = event.value.strip()
            self.board_changed(frozenset())
        self.say("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter and close its input."""
        if self._filtering is None:
            self._leave_filter(keep=True)

    def apply_filter(self, expression: str) -> None:
        """Filter the runs with a valid expression, as if it was typed."""
        self._filter = expression
        self._leave_filter(keep=True)

    def _leave_filter(self, *, keep: bool) -> None:
        line = self.query_one("#filter", FilterEntry)
        if not keep:
            self._filter = ""
        self._filtering = None
        with line.prevent(Input.Changed):
            line.value = self._filter
        line.display = False
        self.table.focus()
        self.board_changed(frozenset())
        if keep and self._filter:
            same = shlex.join(["kdtui", "runs", "--filter", self._filter])
            self.cockpit.say(f"{len(self._keys)} of {self.board.total} runs", same)
        else:
            self.cockpit.say("")
