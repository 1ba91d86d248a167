"""Exports that are made, as text: where each is, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError
from kdtui.export_options import ExportOptions, lines_of
from kdtui.launch.engine_process import Step
from kdtui.launch.export import Foreign
from kdtui.tui.exported import NOTHING_SAID, Lines
from kdtui.tui.widgets.panel import Span

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
    foreign: Foreign = NOTHING_SAID
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
