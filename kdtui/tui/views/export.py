"""Exports as text: the options, existing files, and jobs with their outcome."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError, UsageError
from kdtui.export_options import OPTIONS, PRECISIONS, ExportOptions, Option, check_classes, checked, lines_of, option
from kdtui.launch.engine_process import Step
from kdtui.launch.export import ExternalCheckpoint
from kdtui.profile.find import expanded
from kdtui.text import mebibytes, number, width
from kdtui.tui.form.fields import plain
from kdtui.tui.widgets.panel import Span

TASKS = ("hierarchical", "semantic")
FILE, FOLDER = "file", "folder"
FOREIGN: Mapping[str, str] = {
    "classes": "names of its classes in their order, with commas",
    "profile": "whose data verify and calibrate it: a profile's name, or its file",
    "task": "hierarchical or semantic, where the file leaves it open",
    "architecture": "Unet, FPN, …, where the file leaves it open",
    "encoder": "as smp calls it, where the file leaves it open",
}
"""What is asked of a checkpoint that is no run's: field and what it is for."""
YES, NO = "yes", "no"
NOTHING_SAID = ExternalCheckpoint()
Lines = list[list[Span]]


def default(name: str) -> str:
    """What stands in a field that nobody touched."""
    known = {line.name: line for line in OPTIONS}
    return written(known[name].default) if name in known else ""


def written(value: Any) -> str:
    """A value of an option as it stands in its field."""
    return (YES if value else NO) if isinstance(value, bool) else plain(value)


def words_of(line: Option) -> tuple[str, ...]:
    """The few words that may be chosen; none where something is typed."""
    return (NO, YES) if isinstance(line.default, bool) else line.choices


@dataclass(frozen=True)
class Draft:
    """What is typed.

    Attributes:
        runs: Ids of the runs whose students are exported, unless a file is named.
        texts: Of the fields that somebody touched, by name: options, ``file``, ``folder`` and :data:`FOREIGN`.
    """

    runs: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """What stands in a field."""
        return self.texts.get(name, default(name))

    @property
    def foreign(self) -> bool:
        """Whether a file is named instead of the runs."""
        return bool(self.text(FILE).strip())


@dataclass(frozen=True)
class Read:
    """What a draft comes to.

    Attributes:
        sources: Runs' ids, or the file.
        precisions: From exact to small.
        options: Everything but the precision; None while there are mistakes.
        foreign: What is said of the file.
        folder: Where the files go; None for beside their checkpoints.
        mistakes: By field.
        idle: Fields that change nothing as the others stand.
        command: The command line that does the same; empty while there are mistakes.
    """

    sources: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    options: ExportOptions | None = None
    foreign: ExternalCheckpoint = NOTHING_SAID
    folder: Path | None = None
    mistakes: Mapping[str, str] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    command: str = ""


def read(draft: Draft) -> Read:
    """Find out what a draft comes to; the disk is not looked at."""
    mistakes: dict[str, str] = {}
    values: dict[str, Any] = {}
    chosen = [word for word in draft.text("precision").split(",") if word]
    for line in OPTIONS:
        texts = chosen if line.name == "precision" else [draft.text(line.name)]
        for text in texts:
            try:
                values[line.name] = line.read(text)
            except UsageError as error:
                mistakes[line.name] = _fault(error)
    precisions = tuple(word for word in PRECISIONS if word in chosen)
    if not chosen:
        mistakes["precision"] = "choose one at least"
    file = draft.text(FILE).strip()
    if file.startswith("-"):  # a command line would take it for a flag
        file = f"./{file}"
    sources = (file,) if file else draft.runs
    if not sources:
        mistakes[FILE] = "choose a checkpoint: no run was chosen"
    foreign = _foreign(draft) if draft.foreign else NOTHING_SAID
    if foreign.task is not None and foreign.task not in TASKS:
        mistakes["task"] = f"found {foreign.task}; allowed: {', '.join(TASKS)}"
    try:
        check_classes(foreign.classes)
    except UsageError as error:
        mistakes["classes"] = f"{error.what}: {error.found}"
    typed = draft.text(FOLDER).strip()
    folder = expanded(typed) if typed else None
    options: ExportOptions | None = None
    if not mistakes:
        try:
            options = checked(ExportOptions(**values | {"precision": precisions[0]}))
        except UsageError as error:
            place = next((line.name for line in OPTIONS if line.flag in (error.where or "")), "width")
            mistakes[place] = f"{error.what}: {error.allowed}"
    command = ""
    if options is not None:
        more = [*(["--to", str(folder)] if folder else []), *foreign.flags()]
        command = options.command(sources, precisions, more)
    return Read(
        sources=sources,
        precisions=precisions,
        options=options,
        foreign=foreign,
        folder=folder,
        mistakes=mistakes,
        idle=_idle(draft, precisions),
        command=command,
    )


def _fault(error: UsageError) -> str:
    return f"found {error.found or 'nothing'}; allowed: {error.allowed}"


def _foreign(draft: Draft) -> ExternalCheckpoint:
    given = {name: draft.text(name).strip() or None for name in FOREIGN if name != "classes"}
    typed = draft.text("classes").strip()
    classes = tuple(name.strip() for name in typed.split(",")) if typed else ()
    return ExternalCheckpoint(classes=classes, **given)


def _idle(draft: Draft, precisions: Sequence[str]) -> frozenset[str]:
    """An unmatched ``only``; images per call that the caller chooses; which weights of a file that is none of ours."""
    idle = {line.name for line in OPTIONS if line.only and not set(line.only) & set(precisions)}
    if draft.text("dynamic") in ("all", "batch"):
        idle.add("batch")
    if draft.foreign:
        idle.add("checkpoint")
    return frozenset(idle)


def about(name: str, *, idle: bool = False) -> list[Span]:
    """What a field is for, and what it takes."""
    if name in FOREIGN or name in (FILE, FOLDER):
        texts = {
            **FOREIGN,
            FILE: "a checkpoint instead of the runs: one of smp, of timm's encoders, or of kdtui",
            FOLDER: "where the files go; empty: beside their checkpoints",
        }
        return [(f"{name}: ", "strong"), (texts[name], "")]
    line = option(name)
    spans: list[Span] = [(f"{label(name)}: ", "strong"), (line.says, ""), (f" Allowed: {line.allowed}.", "muted")]
    if idle:
        others = {"batch": "a static number of images", "checkpoint": "runs"}
        spans.append((f" Changes nothing now: for {' and '.join(line.only) or others[name]} only.", "warn"))
    return spans


def label(name: str) -> str:
    """How a field is called on the form."""
    return name.replace("_", " ")


# what lies there


@dataclass(frozen=True)
class ExportFile:
    """An ONNX file that is there, or will be.

    Attributes:
        fate: ``stays``, ``replaced`` or ``new``.
        bytes: None for a file that is not there yet.
        miou: On the validation images, as its report says.
        made: Seconds since the epoch.
    """

    name: str
    precision: str
    fate: str
    bytes: int | None = None
    miou: float | None = None
    made: float | None = None


@dataclass(frozen=True)
class ExportSource:
    """What is known of a source.

    Attributes:
        name: What a person calls it.
        checkpoints: Those that the run has.
        files: Those that are there, then those that will be.
        trouble: Why nothing can be exported of it.
    """

    name: str
    checkpoints: tuple[str, ...] = ()
    files: tuple[ExportFile, ...] = ()
    trouble: str = ""


_FATES = {"replaced": "warn", "new": "good", "stays": "muted"}


def there(seen: Sequence[ExportSource]) -> Lines:
    """What lies there, source by source."""
    wide = max((width(file.name) for source in seen for file in source.files), default=0)
    lines: Lines = []
    for source in seen:
        has = f"  has {', '.join(source.checkpoints)}" if source.checkpoints else ""
        lines.append([(source.name, "strong"), (has, "muted")])
        if source.trouble:
            lines.append([("✗ ", "bad"), (source.trouble, "bad")])
        lines += [_line(file, wide) for file in source.files]
    return lines


def _line(file: ExportFile, wide: int) -> list[Span]:
    name = file.name + " " * (wide - width(file.name))
    spans: list[Span] = [(f"{file.fate:<8} ", _FATES[file.fate]), (f"{name} {file.precision}", "")]
    if file.fate == "new":
        return spans
    return [*spans, (f" {mebibytes(file.bytes):>9}  mIoU {number(file.miou):<6}  {day(file.made)}", "")]


def day(made: float | None) -> str:
    """A moment, to the minute, by this machine's clock."""
    if made is None:
        return "-" * 16
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(made))
    except (ValueError, OverflowError, OSError):  # a number that is no moment
        return "-" * 16


def outlook(read: Read, seen: Sequence[ExportSource]) -> list[Span]:
    """What would happen, in a line."""
    if read.mistakes:
        names = ", ".join(label(name) for name in read.mistakes)
        return [("✗ ", "bad"), (f"fix first: {names}", "bad")]
    files = [file for source in seen for file in source.files]
    replaced = sum(file.fate == "replaced" for file in files)
    wanted = replaced + sum(file.fate == "new" for file in files)
    trouble = next((source.trouble for source in seen if source.trouble), "")
    if not wanted:
        return [("✗ ", "bad"), (trouble, "bad")] if trouble else [("nothing to export", "muted")]
    spans: list[Span] = [(f"{wanted} file{'s' if wanted > 1 else ''}", "strong")]
    if replaced:
        spans.append((f", {replaced} in the place of former ones, once verified", "warn"))
    return spans


WAITS, RUNS, DONE, FAILED, CANCELLED = "waits", "runs", "done", "failed", "cancelled"


@dataclass(frozen=True)
class Job:
    """One file that is made.

    Attributes:
        source: A run's id, or a checkpoint.
        name: What a person calls it.
        options: With the job's precision.
        state: ``waits``, ``runs``, ``done``, ``failed`` or ``cancelled``.
        step: Where it is.
        target: The file, as soon as it is known.
        report: Once it was made.
        error: Why it was not.
    """

    source: str
    name: str
    options: ExportOptions
    foreign: ExternalCheckpoint = NOTHING_SAID
    folder: Path | None = None
    state: str = WAITS
    step: Step | None = None
    target: Path | None = None
    report: Mapping[str, Any] | None = None
    error: KdtuiError | None = None

    @property
    def title(self) -> str:
        """What is made of what."""
        return f"{self.name} {self.options.precision}"

    @property
    def over(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.state in (DONE, FAILED, CANCELLED)


def outcome(job: Job) -> Lines:
    """What became of a job; the report in full."""
    if job.state == DONE and job.report is not None and job.target is not None:
        first, *rest = lines_of(job.report, job.target)
        return [[("✓ ", "good"), (job.title, "strong")], [(f"  {first}", "muted")], *([(line, "")] for line in rest)]
    if job.state == FAILED and job.error is not None:
        first, *rest = job.error.message.splitlines()
        lines: Lines = [[("✗ ", "bad"), (job.title, "strong"), (f": {first}", "bad")]]
        lines += [[(f"  {line.strip()}", "bad")] for line in rest]
        return [*lines, [("  next: ", "muted"), (job.error.hint, "")]] if job.error.hint else lines
    if job.state == CANCELLED:
        return [[("- ", "warn"), (job.title, "strong"), (": cancelled; a former file is unchanged", "")]]
    sign = "▶ " if job.state == RUNS else "… "
    return [[(sign, ""), (job.title, "strong"), ("" if job.state == RUNS else ": waits", "muted")]]


def progress(jobs: Sequence[Job], *, cancelling: bool = False) -> list[Span]:
    """Where the jobs are, in a line."""
    at = next((number for number, job in enumerate(jobs, start=1) if job.state == RUNS), None)
    if cancelling:
        return [("cancelling…", "warn"), (" the former files stay", "")]
    if at is None:
        return [("starting", "strong")]
    job = jobs[at - 1]
    count = f"{at} of {len(jobs)}  " if len(jobs) > 1 else ""
    words = "starting" if job.step is None else job.step.words
    done = f" {job.step.done}/{job.step.total}" if job.step is not None and job.step.total else ""
    return [(f"{count}{job.title}: ", ""), (f"{words}{done}", "strong")]


def summary(jobs: Sequence[Job]) -> str:
    """How it ended, in a sentence."""
    counts = {state: sum(job.state == state for job in jobs) for state in (DONE, FAILED, CANCELLED)}
    words = {DONE: "exported and verified", FAILED: "failed", CANCELLED: "cancelled"}
    said = [f"{count} {words[state]}" for state, count in counts.items() if count]
    return ", ".join(said) + ("; former files stay" if counts[FAILED] or counts[CANCELLED] else "")
