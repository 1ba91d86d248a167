"""The Export screen: options, existing files, the equivalent command, running exports and their reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.events import DescendantFocus
from textual.widget import Widget
from textual.worker import get_current_worker

from kdtui.errors import KdtuiError, UsageError
from kdtui.launch.evaluations import evaluate_run
from kdtui.launch.measure import chosen_to_measure, measure_files
from kdtui.measure_options import MeasureOptions
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.text import mebibytes, milliseconds, number
from kdtui.tui.debounce import Debounced
from kdtui.tui.keys import bindings_over_fields
from kdtui.tui.screens.dialogs import Confirm, SplitChoice
from kdtui.tui.screens.export.form import Menu, field_of
from kdtui.tui.screens.export.jobs import JobChanged, JobsEnded, make
from kdtui.tui.screens.export.sources import list_sources
from kdtui.tui.screens.form import FormField, FormScreen
from kdtui.tui.values import Span
from kdtui.tui.views.export import (
    CANCELLED,
    FAILED,
    ExportDraft,
    ExportSource,
    Job,
    ParsedDraft,
    about,
    existing_files,
    outcome,
    outlook,
    progress,
    read,
    summary,
)
from kdtui.tui.widgets.choices import Heading
from kdtui.tui.widgets.panel import Panel

WIDTHS = [(0, "-narrow"), (112, "-wide")]

CSS = """
ExportScreen #form { height: 1fr; width: 100%; }
ExportScreen .column { width: 1fr; height: auto; }
ExportScreen #about { background: $surface; min-height: 2; max-height: 3; }
ExportScreen #twin { background: $surface; max-height: 4; }
ExportScreen #standing { background: $surface; }

ExportScreen.-narrow #form { layout: vertical; overflow-y: auto; scrollbar-size-vertical: 1; }
ExportScreen.-narrow .pair { layout: horizontal; }

ExportScreen.-wide #form { layout: horizontal; overflow: hidden; }
ExportScreen.-wide .column { height: 100%; overflow-y: auto; scrollbar-size-vertical: 1; }
ExportScreen.-wide #left { width: 46; margin: 0 1 0 0; }
ExportScreen.-wide .pair { layout: vertical; }
"""


_BUSY = "these files are being evaluated or measured"
_EVALUATE = "kdtui evaluate FILE --split SPLIT"
REST = 0.15
"""Seconds without a key after which the disk is read."""


class ExportScreen(FormScreen):
    """Exports runs, or a checkpoint file, as ONNX.

    Args:
        ids: Ids of the runs; empty to export a checkpoint file.
    """

    SCOPES = ("export",)
    BINDINGS: ClassVar[list[BindingType]] = bindings_over_fields("export")
    HORIZONTAL_BREAKPOINTS = WIDTHS
    DEFAULT_CSS = CSS

    def __init__(self, ids: Collection[str]) -> None:
        super().__init__()
        self.draft = ExportDraft(tuple(dict.fromkeys(ids)))
        self.read: ParsedDraft = read(self.draft)
        self.sources: Sequence[ExportSource] = ()
        self.jobs: list[Job] = []
        self._first = 0  # number of the first job of the last start
        self._cancel = threading.Event()
        self._busy = self._leaving = False
        self._examining = ""  # what is displayed while existing files are evaluated or measured
        self._edits = 0
        self._menu = Menu()
        self._files, self._reports = Panel(id="there"), Panel(wraps=True, id="reports")
        self._there_title, self._reports_title = Heading(), Heading(id="reports-title")
        self._about, self._command = Panel(wraps=True, id="about"), Panel(wraps=True, id="twin")
        self._standing = Panel(id="standing")

    def body(self) -> Iterable[Widget]:
        """Compose fields, existing files and reports; below them the lines that are always visible."""
        self._listing = Debounced(self._do)
        with Container(id="form"):
            with Vertical(classes="column", id="left"):
                yield self._menu
            with Vertical(classes="column", id="right"):
                yield self._there_title
                yield self._files
                yield self._reports_title
                yield self._reports
        yield self._about
        yield self._command
        yield self._standing

    def on_mount(self) -> None:
        """Fill the fields and read the disk."""
        self._menu.fill(self.draft)
        self._reports_title.display = False
        self._there_title.entitle("EXISTING FILES")
        self._show_read()
        self._menu.field("precision" if self.draft.runs else "file").enter()

    def on_unmount(self) -> None:
        """Cancel running exports."""
        self._cancel.set()

    def _do(self, work: Any, then: Any, *, failed: Any = None) -> None:
        """Do work in a thread; the result is dropped if the screen was removed."""
        self.cockpit.do(work, lambda result: then(result) if self.is_attached else None, failed=failed, group="export")

    @property
    def busy(self) -> bool:
        """Whether an export is running."""
        return self._busy

    # The fields.

    def on_form_field_edited(self, event: FormField.Edited) -> None:
        """Update the draft."""
        event.stop()
        self._edit({event.name: event.text})

    def _edit(self, texts: dict[str, str]) -> None:
        draft = replace(self.draft, texts={**self.draft.texts, **texts})
        if all(draft.text(name) == self.draft.text(name) for name in draft.texts):
            return
        self.draft, self.read = draft, read(draft)
        self._show_read()

    def _show_read(self) -> None:
        self._menu.show(self.read, external=self.draft.external)
        names = [self.cockpit.name_of(run_id) for run_id in self.draft.runs]
        what = self.read.sources[0] if self.draft.external and self.read.sources else ", ".join(names)
        count = f"{len(names)} runs" if len(names) > 1 and not self.draft.external else ""
        self._menu.heading.entitle("EXPORT", what or "choose a checkpoint", count)
        self._command.show([[("$ ", "muted"), (self.read.command or "…", "strong" if self.read.command else "muted")]])
        self._show_about()
        self._show_standing()
        self._edits += 1
        mine = self._edits
        self.set_timer(REST, lambda: self._list_sources() if mine == self._edits else None)

    def _list_sources(self) -> None:
        """Read which files exist."""
        draft, store = self.read, self.cockpit.store.for_thread()

        def then(sources: list[ExportSource]) -> None:
            if draft is self.read:
                self.sources = sources
                self._files.show(existing_files(sources))
                self._show_standing()

        def failed(error: KdtuiError) -> None:
            then([])  # the old result belongs to another draft
            self.cockpit.say_error(error)

        self._listing.ask(lambda: list_sources(draft, store), then, failed)

    def board_changed(self, ids: frozenset[str]) -> None:
        """Read the disk again: runs may have new checkpoints or exports of other processes."""
        if self.ready and (not ids or ids & set(self.draft.runs)):
            self._list_sources()

    def _show_standing(self) -> None:
        spans: list[Span]
        if self._busy:
            spans = progress(self.jobs[self._first :], cancelling=self._cancel.is_set())
        elif self._examining:
            spans = [(self._examining, "")]
        else:
            spans = outlook(self.read, self.sources)
        self._standing.show([spans])

    def _show_about(self) -> None:
        field = field_of(self.focused)
        self._about.show([] if field is None else [about(field.field, idle=field.field in self.read.idle)])

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Display the description of the focused field."""
        self._show_about()

    # Keys.

    def action_copy_command(self) -> None:
        """Copy the equivalent command line."""
        self._edit(self._menu.texts())
        if self.read.command:
            self.cockpit.copy_text(self.read.command, "command")
        else:
            self.cockpit.say("no command yet: fix the marked fields first", error=True)

    def action_scroll(self, pages: int) -> None:
        """Scroll by a number of pages."""
        view = self.query_one("#right" if self.has_class("-wide") else "#form")
        view.scroll_relative(y=pages * max(1, view.size.height - 2), animate=False)

    def action_start(self) -> None:
        """Start the export."""
        self._edit(self._menu.texts())
        if self._busy:
            self.cockpit.say("one export at a time: ^x cancels the running one", error=True)
            return
        draft = self.read
        if draft.options is None:
            self._menu.field(next(iter(draft.mistakes))).enter()
            self.cockpit.say("fix this first", error=True)
            return
        self._first = len(self.jobs)
        fresh = [
            Job(
                source,
                self.cockpit.name_of(source),
                replace(draft.options, precision=precision),
                draft.external,
                draft.folder,
            )
            for source in draft.sources
            for precision in draft.precisions
        ]
        self.jobs += fresh
        self._busy, self._leaving, self._cancel = True, False, threading.Event()
        self._show_jobs()
        self._show_standing()
        self.call_after_refresh(self._to_reports)
        work = partial(self._make, tuple(fresh), self._first, self._cancel)
        self.run_worker(work, thread=True, group="exporting")

    def _make(self, jobs: Sequence[Job], first: int, cancel: threading.Event) -> None:
        worker, store = get_current_worker(), self.cockpit.store.for_thread()
        make(
            jobs,
            first,
            store,
            tell=self.post_message,
            # quitting the app cancels its workers
            cancelled=lambda: cancel.is_set() or worker.is_cancelled,
        )

    def _to_reports(self) -> None:
        self._reports_title.scroll_visible(top=True, animate=False, immediate=True)

    def action_cancel(self) -> None:
        """Cancel the running export."""
        if not self._busy:
            self.cockpit.say("no export is running")
            return
        self._cancel.set()
        self._show_standing()

    def action_evaluate(self) -> None:
        """Evaluate the existing files of the runs on a split, as ``kdtui evaluate FILE`` does."""
        if self._examining:
            self.cockpit.say(_BUSY, error=True)
        elif self.draft.external:
            self.cockpit.say("files of runs only: `kdtui evaluate FILE --profile NAME` takes others", error=True)
        else:
            words = {"val": "the images of the reports", "test": "images held out", "train": "the images trained on"}
            choice = SplitChoice("Evaluate the existing files on which split?", words, _EVALUATE)
            self.app.push_screen(choice, lambda split: self._evaluate(split) if split else None)

    def _evaluate(self, split: str) -> None:
        store, runs = self.cockpit.store.for_thread(), self.draft.runs

        def work() -> str:
            worker = get_current_worker()
            found = []
            for run, file in _exports(store, runs):
                self.app.call_from_thread(self._show_examined, f"evaluating {file.name} of {run.id} …")
                scores = evaluate_run(run, split, file, cancelled=lambda: worker.is_cancelled or not self.is_attached)
                found.append(f"{file.name} {number(scores['miou'])}")
            return f"mIoU on the {split} split: {', '.join(found)}"

        self._examine("evaluating …", work, _EVALUATE.replace("SPLIT", split))

    def action_measure(self) -> None:
        """Measure the latency of the existing files of the runs, or of an ONNX file, as ``kdtui measure FILE`` does."""
        store, draft = self.cockpit.store.for_thread(), self.read
        if self._examining:
            self.cockpit.say(_BUSY, error=True)
            return

        def work() -> str:
            worker = get_current_worker()
            if self.draft.external:
                texts = draft.sources
            else:
                texts = tuple(str(file) for _, file in _exports(store, draft.sources))
            _, files = chosen_to_measure(texts, store)
            answers = measure_files(
                store.root,
                files,
                MeasureOptions(),
                on_step=lambda step: self.app.call_from_thread(self._show_examined, f"measuring: {step.words} …"),
                cancelled=lambda: worker.is_cancelled or not self.is_attached,
            )
            return "; ".join(_measured(Path(file).name, answer["student"]) for file, answer in answers.items())

        self._examine("measuring …", work, "kdtui measure FILE")

    def _examine(self, text: str, work: Callable[[], str], command: str) -> None:
        """Examine existing files in a thread, and display the result with the equivalent command."""

        def then(result: str) -> None:
            self._show_examined("")
            self.cockpit.say(result, command)

        def failed(error: KdtuiError) -> None:
            self._show_examined("")
            self.cockpit.say_error(error)

        self._show_examined(text)
        self._do(work, then, failed=failed)

    def _show_examined(self, text: str) -> None:
        self._examining = text
        if self.is_attached:
            self._show_standing()

    def action_leave(self) -> None:
        """Go back; confirm first while an export is running."""
        if not self._busy:
            self.leave()
            return
        question = Confirm(
            "Cancel the export and leave?",
            "Finished exports are kept; the running one is cancelled, and an existing file is unchanged.",
        )
        self.app.push_screen(question, self._leave_if)

    def _leave_if(self, yes: bool | None) -> None:
        if not yes:
            return
        if not self._busy:  # the export has ended during the question
            self.leave()
            return
        self._leaving = True
        self.action_cancel()

    # The jobs.

    def on_job_changed(self, message: JobChanged) -> None:
        """Update a job."""
        before, self.jobs[message.number] = self.jobs[message.number], message.job
        if before.state != message.job.state:
            self._show_jobs()
            if message.job.over:
                self._list_sources()
        self._show_standing()

    def on_jobs_ended(self, message: JobsEnded) -> None:
        """Display the summary of the jobs."""
        done = self.jobs[self._first :]
        self._busy = False
        self._show_standing()
        bad = any(job.state in (FAILED, CANCELLED) for job in done)
        if self._leaving:
            self.leave()
        self.cockpit.say(summary(done), self.read.command, error=bad)

    def _show_jobs(self) -> None:
        """Display the jobs of the last start above the earlier ones."""
        self._reports_title.display = bool(self.jobs)
        self._reports_title.entitle("REPORTS", summary(self.jobs[self._first :]))
        jobs = [*self.jobs[self._first :], *self.jobs[: self._first]]
        self._reports.show([line for job in jobs for line in outcome(job)])


def _exports(store: RunStore, runs: Sequence[str]) -> list[tuple[Run, Path]]:
    """The exported files of runs.

    Raises:
        UsageError: There are none.
    """
    files = [(run, file) for run in store.find_all(runs) for file in run.exports()]
    if not files:
        raise UsageError("these runs have no exported files", hint="^r exports them")
    return files


def _measured(name: str, side: Mapping[str, Any]) -> str:
    """Size and latency of a file."""
    file = next(iter(side["onnx"].values()))
    times = next(iter(side["latency"].values()))["1"]
    return f"{name} {mebibytes(file['bytes'])}, {milliseconds(times['median'])} an image"
