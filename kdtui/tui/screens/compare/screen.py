"""The screen that compares runs."""

from __future__ import annotations

import shlex
import string
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from textual.events import Resize
from textual.widget import Widget
from textual.worker import get_current_worker

from kdtui.compare import COSTS, ComparedRun, Comparison, Pareto, compare, pareto, render
from kdtui.compare.entries import on_split, split_note
from kdtui.compare.evidence import with_evidence
from kdtui.compare.named import called
from kdtui.compare.render import group_lines
from kdtui.errors import Interrupted, KdtuiError, UsageError
from kdtui.launch.engine_process import EngineStep
from kdtui.launch.evaluations import evaluations
from kdtui.store.run import write_atomically
from kdtui.store.state import RunSummary
from kdtui.tui.cockpit import throttled
from kdtui.tui.keys import bindings
from kdtui.tui.screens.charting import ChartKeys
from kdtui.tui.screens.compare.pages import ComparisonPages, ComparisonView, Folders, read_folders
from kdtui.tui.screens.dialogs import Confirm, Prompt, SplitChoice
from kdtui.tui.screens.run_actions import RunActions
from kdtui.tui.values import Cell, Part, TextLine
from kdtui.tui.views.colours import curve_colour
from kdtui.tui.views.compare import Compared, ComparedTeacher, Missing, teachers
from kdtui.tui.widgets.chart.line_chart import LineChart
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.table import Table

FORMATS = {".md": "markdown", ".markdown": "markdown", ".csv": "csv", ".json": "json"}
"""Format of :func:`kdtui.compare.render` by suffix of the file name."""
DEFAULT = "comparison.md"


def target(text: str) -> tuple[Path, str]:
    """Parse a typed path to the path and the format of its suffix; ``~`` is the home directory.

    Raises:
        UsageError: Unknown suffix, missing parent folder, or the path is a folder.
    """
    path = Path(text.strip()).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise UsageError("unknown suffix", found=text.strip() or "nothing", allowed=", ".join(FORMATS))
    if not path.parent.is_dir():
        raise UsageError("this folder does not exist", where=path.parent, hint="create it first")
    if path.is_dir():
        raise UsageError("this is a folder", where=path, allowed="a file")
    return path, FORMATS[path.suffix.lower()]


_READING = "being read"
_STILL: dict[str, Any] = dict.fromkeys(
    (
        "loss",
        "miou",
        "retention",
        "agreement",
        "step",
        "eta_seconds",
        "images_per_second",
        "data_wait",
        "last_event",
        "place",
    )
)
"""Values that change with every step and do not affect a comparison."""
_LEGEND = "★ best and ▼ worst of a column   ◆ teacher   b Δ against the run under the cursor, again: matched baselines"


class CompareScreen(ChartKeys, RunActions):
    """Compares runs: their numbers, the differences of their profiles, and their curves.

    Args:
        ids: Ids of the runs; they may have been removed.

    Attributes:
        table: The table of runs.
        room: The pages below the table.
    """

    SCOPES = ("compare", "chart")
    BINDINGS = bindings("compare", "chart")
    DEFAULT_CSS = """
    CompareScreen #compared { height: auto; }
    CompareScreen #evidence { max-height: 3; background: $surface; }
    """

    def __init__(self, ids: Collection[str]) -> None:
        super().__init__()
        self._ids = tuple(dict.fromkeys(ids))
        self._folders = Folders()
        self._rows: dict[str, RunSummary] = {}  # last known summaries: a run may be deleted
        self._entries: list[ComparedRun] = []
        self._names: dict[str, str] = {}
        self._were_read = False
        self._baseline: str | None = None
        self._split = "val"
        self._answers: dict[str, Mapping[str, Any]] = {}  # evaluations on another split, by run
        self._evaluating = ""  # progress of an evaluation
        self._cancel = threading.Event()
        self._newest_request = self._shown_request = 0
        self._compared = Compared(None, {}, {}, {})
        self._fronts: dict[str, Pareto] = {}

        self.table = Table(self._compared.columns, lambda key: self._compared.row(key), empty=_READING, id="compared")
        self.room = ComparisonPages(id="room")
        self._evidence = Panel(id="evidence")

    def body(self) -> Iterable[Widget]:
        """Compose what each Δ is worth, the table of runs and the pages."""
        yield self._evidence
        yield self.table
        yield self.room

    def on_mount(self) -> None:
        """Focus the table."""
        self.table.focus()
        self.watch(self.app, "theme", self._recolour, init=False)

    @property
    def chart(self) -> LineChart:
        """The chart of the curves."""
        return self.room.curves.chart

    @property
    def run_id(self) -> str | None:
        """Id of the run under the cursor; None if the run was removed."""
        key = self.table.cursor_key
        return key if key in self.cockpit.board.rows and key in self._ids else None

    @property
    def comparison(self) -> Comparison | None:
        """The displayed comparison; None if there is nothing to compare."""
        return self._compared.comparison

    @property
    def command_line(self) -> str:
        """The command line that displays the comparison."""
        return shlex.join([*self.words(), *(["--baseline", self._baseline] if self._baseline else [])])

    def words(self, split: str | None = None) -> list[str]:
        """The command line that compares the runs on a split, by default the displayed one, as words."""
        split = self._split if split is None else split
        on = [] if split == "val" else ["--split", split]
        return ["kdtui", "compare", *(entry.summary.id for entry in self._entries), *on]

    @property
    def page_command_line(self) -> str:
        """The command line that displays the selected page."""
        options = self.room.selected.options()
        split = "val" if "--pareto" in options else self._split  # costs are compared with the scores of the training
        return shlex.join([*self.words(split), *options]) if options else self.command_line

    @property
    def _on_split(self) -> list[ComparedRun]:
        """The runs with their scores on the displayed split."""
        if self._split == "val":
            return self._entries
        answers = self._answers
        return [on_split(entry, answers[entry.summary.id]) for entry in self._entries if entry.summary.id in answers]

    # Comparing.

    def _read_folders(self) -> None:
        """Read the folders of the runs in a thread, as the disk may be slow."""
        runs = [self.cockpit.run_of(run_id) for run_id in self._ids]

        def then(found: Folders) -> None:
            self._folders, self._were_read = found, True
            self.board_changed(frozenset())

        self.cockpit.do(lambda: read_folders(runs), then)

    def on_screen_resume(self) -> None:
        """Read the folders again: errors may be fixed, and runs may be measured."""
        super().on_screen_resume()
        self._read_folders()

    def measured(self) -> None:
        """Read the new measurements."""
        self._read_folders()

    @property
    def to_measure(self) -> list[str]:
        """All runs with a best checkpoint; measured together, their times can be compared."""
        return [entry.summary.id for entry in self._entries if entry.summary.best_miou is not None]

    def board_changed(self, ids: frozenset[str]) -> None:
        """Compare again if one of the runs changed in a value that matters."""
        if not self.ready or not self._were_read or (ids and not ids & set(self._ids)):
            return
        board = self.cockpit.board
        self._rows.update({run_id: board.rows[run_id] for run_id in self._ids if run_id in board.rows})
        entries = [
            ComparedRun(
                replace(board.rows[run_id], **_STILL),
                self._folders.profiles[run_id],
                self._folders.measurements.get(run_id),
                self._folders.unmeasured.get(run_id, ""),
            )
            for run_id in self._ids
            if run_id in board.rows and run_id in self._folders.profiles
        ]
        if self._baseline is not None and self._baseline not in {entry.summary.id for entry in entries}:
            self._baseline = None
            self.cockpit.say("the chosen baseline was deleted: Δ against matched baselines", error=True)
        before, self._entries = self._entries, entries
        other = entries != before or self._missing() != self._compared.missing
        if other or not ids:
            self.cockpit.watcher.follow([entry.summary.id for entry in entries])
        if other:
            self._compare()

    def _compare(self) -> None:
        """Compare in a thread: matching baselines takes time for many runs."""
        self._newest_request += 1
        request, entries, baseline, split = self._newest_request, self._on_split, self._baseline, self._split
        trained = self._entries

        def work() -> tuple[Comparison, dict[str, Pareto]]:
            comparison = compare(entries, baseline)
            notes = comparison.notes if split == "val" else (split_note(split), *comparison.notes)
            return replace(comparison, notes=notes), {str(cost): pareto(trained, cost) for cost in COSTS}

        if entries:
            self.cockpit.do(work, lambda found: self._take(request, found[0], found[1], weigh=True))
        else:
            self._take(request, None, {})

    def _weigh(self, request: int, comparison: Comparison) -> None:
        """Read what each Δ is worth in a thread, which takes up to a second for each run of one seed."""
        entries, fronts = self._on_split, self._fronts

        def wanted() -> bool:
            return request == self._newest_request and not get_current_worker().is_cancelled

        self.cockpit.do(
            lambda: with_evidence(comparison, entries, wanted=wanted), lambda found: self._take(request, found, fronts)
        )

    def _take(
        self, request: int, comparison: Comparison | None, fronts: dict[str, Pareto], *, weigh: bool = False
    ) -> None:
        if request == self._newest_request and self.ready:
            self._shown_request, self._fronts = request, fronts
            self._names = {row.id: row.name for row in self.cockpit.board.rows.values()}
            self._compared = Compared(
                comparison,
                {entry.summary.id: entry.summary for entry in self._on_split},
                {run_id: run_id for run_id in self._ids} | called(list(self._rows.values())),
                self._missing(),
                self._taught_by(),
            )
            self._show()
            if weigh and comparison is not None:
                self._weigh(request, comparison)

    def _missing(self) -> dict[str, Missing]:
        board, compared = self.cockpit.board, {entry.summary.id for entry in self._entries}
        found = {}
        for run_id in self._ids:
            if run_id not in compared:
                if run_id not in board.rows and board.whole:
                    found[run_id] = Missing("deleted", "it was deleted")
                elif run_id in self._folders.troubles:
                    found[run_id] = Missing("damaged", self._folders.troubles[run_id])
                else:
                    found[run_id] = Missing(_READING, _READING)
        return found

    # Displaying.

    def _show(self) -> None:
        compared, table = self._compared, self.table
        letters = self._letters()
        table.set_columns(compared.columns)
        table.show(compared.keys)
        table.marks = self._ids
        dark = self.app.current_theme.dark
        colours = {run_id: curve_colour(index, dark=dark) for index, run_id in enumerate(self._ids)}
        table.letters = {run_id: Cell(letters[run_id], colour) for run_id, colour in colours.items()}
        self._give_room()
        evidence = [] if compared.comparison is None else group_lines(compared.comparison, short=True, letters=letters)
        head = [] if self._split == "val" else [((split_note(self._split), "warn"),)]
        self._evidence.show([*head, *(((line, "strong"),) for line in evidence)])
        against = "matched baselines" if self._baseline is None else compared.named[self._baseline]
        self.room.show(
            ComparisonView(
                compared=compared,
                ids=self._ids,
                letters=letters,
                names=self._names,
                colours=colours,
                notes=self._notes(),
                against=against,
                fronts=self._fronts,
                troubles={entry.unmeasured for entry in self._entries},
            )
        )
        self._move_pages()
        self._draw()
        self.say(*self.cockpit.said)

    def _letters(self) -> dict[str, str]:
        """Letters of the runs; those marked in the list of runs keep theirs."""
        known = {run_id: letter for run_id, letter in self.cockpit.board.letters.items() if run_id in self._ids}
        free = (letter for letter in string.ascii_uppercase if letter not in known.values())
        return {run_id: known.get(run_id) or next(free, "·") for run_id in self._ids}

    def _notes(self) -> list[TextLine]:
        compared = self._compared
        lines: list[TextLine] = [
            ((f"{compared.named[run_id]}: {missing.reason}", "bad"),) for run_id, missing in compared.missing.items()
        ]
        evidence = [] if compared.comparison is None else group_lines(compared.comparison, letters=self._letters())
        lines += [((line, "" if line.startswith(" ") else "strong"),) for line in evidence]
        notes = () if compared.comparison is None else compared.comparison.notes
        unmeasured = {entry.unmeasured for entry in self._entries}
        lines += [((f"· {note}", "bad" if note in unmeasured else ""),) for note in notes]
        return [*lines, ((_LEGEND, "muted"),)]

    def _move_pages(self) -> None:
        """Keep the column of the run under the cursor visible."""
        ranks = {row.id: rank for rank, row in enumerate(self._compared.rows)}
        self.room.select_row(ranks.get(self.table.cursor_key or "", 0))

    def _draw(self) -> None:
        dark = self.app.current_theme.dark
        self.room.curves.draw(self.cockpit.board, self._letters(), dark=dark)

    def history_changed(self, run_id: str) -> None:
        """Draw a grown curve; the first history of a student also has the teacher's IoU per class."""
        if run_id in self._ids and self.ready:
            self._draw()
            if self._shown_request == self._newest_request and tuple(self._taught_by()) != self._compared.taught_by:
                self._take(self._newest_request, self.comparison, self._fronts)

    def _taught_by(self) -> list[ComparedTeacher]:
        return teachers(self._on_split, self._names, self.cockpit.board.histories)

    def _recolour(self) -> None:
        self._show()

    # Layout.

    def on_resize(self, event: Resize) -> None:
        """Update the height of the table."""
        self._give_room()

    def _give_room(self) -> None:
        """Set the height of the table: all rows, but at most half of the screen."""
        self.table.styles.height = min(len(self._compared.keys) + 1, max(6, self.size.height // 2 - 2))

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """Display a message; without one, still the equivalent command of the page."""
        super().say(text, command if text else self.page_command_line, error)

    def silence(self) -> Sequence[Part]:
        """The run under the cursor, or why it cannot be compared; or the setting under the cursor, in full.

        During an evaluation, its progress.
        """
        if self._evaluating:
            return [Part(f"{self._evaluating} · s cancels")]
        below = self.room.row_under_cursor()
        if below is not None:
            return [Part(below)]
        key = self.table.cursor_key
        if key is not None and key in self._compared.missing:
            return [Part(f"{key}: {self._compared.missing[key].reason}", "error")]
        row = None if key is None else self._rows.get(key)
        return [] if row is None else [Part(f"{row.id} {row.state.word.lower()} {row.detail}")]

    def on_table_moved(self, event: Table.Moved) -> None:
        """Update the visible column and the status line."""
        if event.table is self.table:
            self._move_pages()
        if self.cockpit.said[0]:
            self.cockpit.say("")
        else:
            self.say("")

    def on_descendant_focus(self) -> None:
        """Update the status line for the focused widget."""
        if not self.cockpit.said[0]:
            self.say("")

    def on_table_opened(self, event: Table.Opened) -> None:
        """Open the run that was double-clicked."""
        if event.table is self.table:
            self.action_open()

    # Keys.

    def step_metric(self, by: int) -> None:
        """Display the next or previous metric; on the page of costs, the other cost."""
        if self.room.selected.step_metric(by):
            self.room.name_page()
            self.cockpit.say("")
            return
        self.room.curves.step(by, self.cockpit.board)
        self._draw()

    def action_page(self, name: str) -> None:
        """Select a page, and move the focus from a hidden widget to the table."""
        self.room.turn(name)
        self.call_after_refresh(self._keep_focus)
        self.cockpit.say("")

    def action_pareto(self) -> None:
        """Select the page of costs; on that page, switch to the other cost."""
        if self.room.page == "pareto":
            self.step_metric(1)
        else:
            self.action_page("pareto")

    def action_toggle_log(self) -> None:
        """Switch the displayed chart between a linear and a logarithmic axis."""
        if not self.room.selected.toggle_log():
            super().action_toggle_log()

    def _keep_focus(self) -> None:
        focused = self.focused
        if focused is None or not all(node.display for node in focused.ancestors_with_self if isinstance(node, Widget)):
            self.table.focus()

    def action_back(self) -> None:
        """Go back."""
        self.leave()

    def action_baseline(self) -> None:
        """Use the run under the cursor as the baseline of Δ, or the matched baselines again."""
        key = self.run_id
        if key is None or key not in {entry.summary.id for entry in self._entries}:
            self.cockpit.say("select a run to use as the baseline", error=True)
            return
        self._baseline = None if key == self._baseline else key
        against = "their matched baselines" if self._baseline is None else self._compared.named[key]
        self.cockpit.say(f"Δ against {against}", self.command_line)
        self._compare()

    # Another split.

    def action_split(self) -> None:
        """Compare on another split, after a choice; during an evaluation: cancel it."""
        if self._evaluating:
            self._cancel.set()
            self._show_step("cancelling")
            return
        if not self._entries:
            self.cockpit.say("no run can be compared", error=True)
            return
        words = {"val": "as recorded by the trainings", "test": "evaluates runs that lack it", "train": "likewise"}
        command = shlex.join(self.words("SPLIT"))
        self.app.push_screen(SplitChoice("Compare on which split?", words, command), self._chosen_split)

    def _chosen_split(self, split: str | None) -> None:
        if split is None:
            return
        if split == "val":
            self._take_split(split, {})
            return
        runs = [self.cockpit.run_of(entry.summary.id) for entry in self._entries]
        app, cancel = self.app, threading.Event()
        self._cancel = cancel
        self._show_step(f"evaluating on {split}")
        on_step = throttled(lambda step: app.call_later(self._show_progress, step))

        def work() -> dict[str, Mapping[str, Any]]:
            worker = get_current_worker()
            answers = evaluations(
                runs, split, on_step=on_step, cancelled=lambda: cancel.is_set() or worker.is_cancelled
            )
            return {run.id: answer for run, answer in zip(runs, answers, strict=True)}

        def then(answers: dict[str, Mapping[str, Any]]) -> None:
            self._evaluating = ""
            self._take_split(split, answers)

        def failed(error: KdtuiError) -> None:
            self._evaluating = ""
            if isinstance(error, Interrupted):
                self.cockpit.say(error.what)
            else:
                self.cockpit.say_error(error)

        self.cockpit.do(work, then, failed=failed, group="evaluating")

    def _take_split(self, split: str, answers: dict[str, Mapping[str, Any]]) -> None:
        if not self.ready:
            return
        self._split, self._answers = split, answers
        self.cockpit.say(f"compared on {split}", self.command_line)
        self._compare()

    def _show_progress(self, step: EngineStep) -> None:
        if self._evaluating and not self._cancel.is_set():
            self._show_step(f"{step.words} {step.done}/{step.total}" if step.total else step.words)

    def _show_step(self, words: str) -> None:
        self._evaluating = words
        if not self.cockpit.said[0]:
            self.say("")

    def on_unmount(self) -> None:
        """Cancel an evaluation; finished ones are kept."""
        self._cancel.set()

    # Writing.

    def action_copy(self) -> None:
        """Copy the comparison as Markdown."""
        if self.comparison is None:
            self.cockpit.say("nothing to copy: no run can be compared", error=True)
        else:
            self.cockpit.copy_text(render(self.comparison, "markdown"), "comparison as Markdown")

    def action_copy_command(self) -> None:
        """Copy the command line of the selected page."""
        self.cockpit.copy_text(self.page_command_line, self.page_command_line)

    def action_export(self) -> None:
        """Write the comparison to a file, after a prompt for its path."""
        comparison, command_line = self.comparison, self.command_line
        if comparison is None:
            self.cockpit.say("nothing to write: no run can be compared", error=True)
            return

        def answered(text: str | None) -> None:
            if text is None:
                return
            path, form = target(text)
            command = f"{command_line} --format {form} --to {shlex.quote(str(path))}"
            write = partial(self._write, comparison, path, form, command)
            if path.exists():
                question = Confirm(f"Replace {path}?", "Its content is overwritten.", command)
                self.app.push_screen(question, lambda yes: write() if yes else self.cockpit.say(f"{path} is unchanged"))
            else:
                write()

        prompt = Prompt(
            "Write the comparison to",
            str(Path.cwd() / DEFAULT),
            detail="The suffix selects the format: .md, .csv or .json.",
            check=target,
            command=f"{command_line} --format FORMAT --to FILE",
        )
        self.app.push_screen(prompt, answered)

    def _write(self, comparison: Comparison, path: Path, form: str, command: str) -> None:
        text = render(comparison, form)
        self.cockpit.do(
            lambda: write_atomically(path, text.encode()),
            lambda _: self.cockpit.say(f"written to {path} as {form}", command),
        )
