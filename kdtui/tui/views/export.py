"""Exports as text: options, existing files, and jobs with their results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError, UsageError
from kdtui.export_options import OPTIONS, PRECISIONS, ExportOptions, Option, check_classes, checked, lines_of, option
from kdtui.launch.engine_process import EngineStep
from kdtui.launch.export import ExternalCheckpoint
from kdtui.profile.find import expanded
from kdtui.profile.settings import plain
from kdtui.text import mebibytes, number, width
from kdtui.tui.values import Span, TextLines

TASKS = ("hierarchical", "semantic")
FILE, FOLDER = "file", "folder"
EXTERNAL_FIELDS: Mapping[str, str] = {
    "classes": "class names in order, separated by commas",
    "profile": "the data for verification and calibration: a profile's name or file",
    "task": "hierarchical or semantic, if the file does not specify it",
    "architecture": "Unet, FPN, …, if the file does not specify it",
    "encoder": "its name in smp, if the file does not specify it",
}
"""Fields for a checkpoint that does not belong to a run, and their descriptions."""
YES, NO = "yes", "no"
NO_DETAILS = ExternalCheckpoint()


def default(name: str) -> str:
    """Initial text of a field."""
    known = {line.name: line for line in OPTIONS}
    return written(known[name].default) if name in known else ""


def written(value: Any) -> str:
    """The value of an option as the text of its field."""
    return (YES if value else NO) if isinstance(value, bool) else plain(value)


def choices_of(line: Option) -> tuple[str, ...]:
    """The choices of an option; empty if its value is typed."""
    return (NO, YES) if isinstance(line.default, bool) else line.choices


@dataclass(frozen=True)
class ExportDraft:
    """The texts of the form.

    Attributes:
        runs: Ids of the runs whose students are exported, unless a file is given.
        texts: Texts of the edited fields by name: options, ``file``, ``folder`` and :data:`EXTERNAL_FIELDS`.
    """

    runs: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Text of a field."""
        return self.texts.get(name, default(name))

    @property
    def external(self) -> bool:
        """Whether a file is exported instead of the runs."""
        return bool(self.text(FILE).strip())


@dataclass(frozen=True)
class ParsedDraft:
    """The parsed draft.

    Attributes:
        sources: Ids of the runs, or the file.
        precisions: From the most to the least exact.
        options: All options but the precision; None while there are mistakes.
        external: The description of the file.
        folder: Target folder; None for the folders of the checkpoints.
        mistakes: Messages by field.
        idle: Fields without effect, given the values of the others.
        command: The equivalent command line; empty while there are mistakes.
    """

    sources: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    options: ExportOptions | None = None
    external: ExternalCheckpoint = NO_DETAILS
    folder: Path | None = None
    mistakes: Mapping[str, str] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    command: str = ""


def read(draft: ExportDraft) -> ParsedDraft:
    """Parse a draft, without accessing the disk."""
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
        mistakes["precision"] = "choose at least one"
    file = draft.text(FILE).strip()
    if file.startswith("-"):  # would be parsed as a flag on a command line
        file = f"./{file}"
    sources = (file,) if file else draft.runs
    if not sources:
        mistakes[FILE] = "choose a checkpoint: no run was chosen"
    external = _external(draft) if draft.external else NO_DETAILS
    if external.task is not None and external.task not in TASKS:
        mistakes["task"] = f"found {external.task}; allowed: {', '.join(TASKS)}"
    try:
        check_classes(external.classes)
    except UsageError as error:
        mistakes["classes"] = error.brief
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
        more = [*(["--to", str(folder)] if folder else []), *external.flags()]
        command = options.command(sources, precisions, more)
    return ParsedDraft(
        sources=sources,
        precisions=precisions,
        options=options,
        external=external,
        folder=folder,
        mistakes=mistakes,
        idle=_idle(draft, precisions),
        command=command,
    )


def _fault(error: UsageError) -> str:
    return f"found {error.found or 'nothing'}; allowed: {error.allowed}"


def _external(draft: ExportDraft) -> ExternalCheckpoint:
    details = {name: draft.text(name).strip() or None for name in EXTERNAL_FIELDS if name != "classes"}
    typed = draft.text("classes").strip()
    classes = tuple(name.strip() for name in typed.split(",")) if typed else ()
    return ExternalCheckpoint(classes=classes, **details)


def _idle(draft: ExportDraft, precisions: Sequence[str]) -> frozenset[str]:
    """Options whose ``only`` does not match, ``batch`` if it is dynamic, and ``checkpoint`` if a file is exported."""
    idle = {line.name for line in OPTIONS if line.only and not set(line.only) & set(precisions)}
    if draft.text("dynamic") in ("all", "batch"):
        idle.add("batch")
    if draft.external:
        idle.add("checkpoint")
    return frozenset(idle)


def about(name: str, *, idle: bool = False) -> list[Span]:
    """Description of a field and its allowed values."""
    if name in EXTERNAL_FIELDS or name in (FILE, FOLDER):
        texts = {
            **EXTERNAL_FIELDS,
            FILE: "a checkpoint to export instead of the runs: from smp, timm or kdtui",
            FOLDER: "target folder; empty: next to each checkpoint",
        }
        return [(f"{name}: ", "strong"), (texts[name], "")]
    line = option(name)
    spans: list[Span] = [(f"{label(name)}: ", "strong"), (line.says, ""), (f" Allowed: {line.allowed}.", "muted")]
    if idle:
        others = {"batch": "a static number of images", "checkpoint": "runs"}
        spans.append((f" No effect now: only for {' and '.join(line.only) or others[name]}.", "warn"))
    return spans


def label(name: str) -> str:
    """Label of a field."""
    return name.replace("_", " ")


# Existing files.


@dataclass(frozen=True)
class ExportFile:
    """An ONNX file that exists or will be written.

    Attributes:
        fate: ``stays``, ``replaced`` or ``new``.
        bytes: None for a file that does not exist yet.
        miou: On the validation images, from the report of the export.
        made: Time of the export, in seconds since the epoch.
    """

    name: str
    precision: str
    fate: str
    bytes: int | None = None
    miou: float | None = None
    made: float | None = None


@dataclass(frozen=True)
class ExportSource:
    """A run or checkpoint to export, with its files.

    Attributes:
        name: Displayed name.
        checkpoints: Names of the checkpoints of the run.
        files: Existing files, then those that will be written.
        trouble: Why it cannot be exported; empty if it can.
    """

    name: str
    checkpoints: tuple[str, ...] = ()
    files: tuple[ExportFile, ...] = ()
    trouble: str = ""


_FATES = {"replaced": "warn", "new": "good", "stays": "muted"}


def existing_files(sources: Sequence[ExportSource]) -> TextLines:
    """List the existing and the future files of each source."""
    wide = max((width(file.name) for source in sources for file in source.files), default=0)
    lines: TextLines = []
    for source in sources:
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
    """A time in local time, to the minute."""
    if made is None:
        return "-" * 16
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(made))
    except (ValueError, OverflowError, OSError):  # not a valid time
        return "-" * 16


def outlook(read: ParsedDraft, sources: Sequence[ExportSource]) -> list[Span]:
    """Summary of what will be exported, in one line."""
    if read.mistakes:
        names = ", ".join(label(name) for name in read.mistakes)
        return [("✗ ", "bad"), (f"fix first: {names}", "bad")]
    files = [file for source in sources for file in source.files]
    replaced = sum(file.fate == "replaced" for file in files)
    wanted = replaced + sum(file.fate == "new" for file in files)
    trouble = next((source.trouble for source in sources if source.trouble), "")
    if not wanted:
        return [("✗ ", "bad"), (trouble, "bad")] if trouble else [("nothing to export", "muted")]
    spans: list[Span] = [(f"{wanted} file{'s' if wanted > 1 else ''}", "strong")]
    if replaced:
        spans.append((f", {replaced} replacing existing files once verified", "warn"))
    return spans


WAITS, RUNS, DONE, FAILED, CANCELLED = "waits", "runs", "done", "failed", "cancelled"


@dataclass(frozen=True)
class Job:
    """The export of one file.

    Attributes:
        source: Id of a run, or a checkpoint.
        name: Displayed name of the source.
        options: Options with the precision of this job.
        state: ``waits``, ``runs``, ``done``, ``failed`` or ``cancelled``.
        step: The current step.
        target: The file, as soon as it is known.
        report: Report of the finished export.
        error: Error of the failed export.
    """

    source: str
    name: str
    options: ExportOptions
    external: ExternalCheckpoint = NO_DETAILS
    folder: Path | None = None
    state: str = WAITS
    step: EngineStep | None = None
    target: Path | None = None
    report: Mapping[str, Any] | None = None
    error: KdtuiError | None = None

    @property
    def title(self) -> str:
        """Source and precision."""
        return f"{self.name} {self.options.precision}"

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in (DONE, FAILED, CANCELLED)


def outcome(job: Job) -> TextLines:
    """Result of a job, with the full report."""
    if job.state == DONE and job.report is not None and job.target is not None:
        first, *rest = lines_of(job.report, job.target)
        return [[("✓ ", "good"), (job.title, "strong")], [(f"  {first}", "muted")], *([(line, "")] for line in rest)]
    if job.state == FAILED and job.error is not None:
        first, *rest = job.error.message.splitlines()
        lines: TextLines = [[("✗ ", "bad"), (job.title, "strong"), (f": {first}", "bad")]]
        lines += [[(f"  {line.strip()}", "bad")] for line in rest]
        return [*lines, [("  next: ", "muted"), (job.error.hint, "")]] if job.error.hint else lines
    if job.state == CANCELLED:
        return [[("- ", "warn"), (job.title, "strong"), (": cancelled; an existing file is unchanged", "")]]
    sign = "▶ " if job.state == RUNS else "… "
    return [[(sign, ""), (job.title, "strong"), ("" if job.state == RUNS else ": queued", "muted")]]


def progress(jobs: Sequence[Job], *, cancelling: bool = False) -> list[Span]:
    """Current step of the jobs, in one line."""
    at = next((number for number, job in enumerate(jobs, start=1) if job.state == RUNS), None)
    if cancelling:
        return [("cancelling…", "warn"), (" existing files are kept", "")]
    if at is None:
        return [("starting", "strong")]
    job = jobs[at - 1]
    count = f"{at} of {len(jobs)}  " if len(jobs) > 1 else ""
    words = "starting" if job.step is None else job.step.words
    done = f" {job.step.done}/{job.step.total}" if job.step is not None and job.step.total else ""
    return [(f"{count}{job.title}: ", ""), (f"{words}{done}", "strong")]


def summary(jobs: Sequence[Job]) -> str:
    """Results of the jobs, in one sentence."""
    counts = {state: sum(job.state == state for job in jobs) for state in (DONE, FAILED, CANCELLED)}
    words = {DONE: "exported and verified", FAILED: "failed", CANCELLED: "cancelled"}
    said = [f"{count} {words[state]}" for state, count in counts.items() if count]
    return ", ".join(said) + ("; existing files are kept" if counts[FAILED] or counts[CANCELLED] else "")
