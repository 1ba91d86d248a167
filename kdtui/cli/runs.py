"""``runs``, ``show``, ``watch``, ``logs``, ``stop``, ``remove`` and ``note``: the runs of a store."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdtui.cli.console import (
    ChosenRuns,
    Exit,
    Filter,
    Json,
    RunName,
    RunNames,
    RunsDir,
    Wide,
    emit,
    fields,
    next_step,
    open_store,
    out,
    say,
    table,
)
from kdtui.errors import Interrupted, KdtuiError, StoreError, UsageError
from kdtui.profile.schedules import distillation_text, training_text
from kdtui.text import clean, counted, is_utf8, mebibytes, number, one_line, percent, score_title, span

if TYPE_CHECKING:
    from kdtui.cli.log_text import LogText
    from kdtui.store.run import Run
    from kdtui.store.state import RunSummary


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("runs")(list_runs)
    app.command()(show)
    app.command()(watch)
    app.command()(logs)
    app.command()(stop)
    app.command()(remove)
    app.command()(note)


def list_runs(
    expression: Filter = "",
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="ID", help="Only the runs of this sweep.", show_default=False)
    ] = None,
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List the runs, oldest first."""
    from kdtui.store.filter import parse

    wanted = parse(expression)
    store = open_store(runs_dir)
    listed = store.summaries()
    if sweep is not None:
        from kdtui.sweep.folder import find

        # The runs have the id, also those of a search, or of a sweep whose folder was removed.
        sweep_id = sweep if any(run.sweep == sweep for run in listed) else find(store.root, sweep).id
        listed = [run for run in listed if run.sweep == sweep_id]
    found = [run for run in listed if wanted(run)]
    if as_json:
        emit([run_json(run) for run in found])
    elif found:
        header, rows = [*RUN_HEADER], [run_row(run) for run in found]
        scores = dict.fromkeys(run.score for run in found if run.score != "miou")
        for place, score in enumerate(scores, RUN_HEADER.index("mIoU")):
            header.insert(place, score_title(score))
            for run, row in zip(found, rows, strict=True):
                row.insert(place, number(run.best(score)))
        right = RUN_RIGHT.union(map(score_title, scores))
        table(header, rows, right=right, drop=RUN_DROP, below=True, wide=wide)
    else:
        say(f"no runs in {store.root}" + (" match" if expression or sweep else "; kdtui train PROFILE starts one"))


def show(run: RunName, as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """Show a run: state, scores, student and teacher; with --json also its resolved profile."""
    from kdtui.store.checkpoint_files import checkpoint_sizes, disk_usage
    from kdtui.store.lineage import lineage

    store = open_store(runs_dir)
    found = store.find(run)
    summary = store.summary(found)
    if as_json:
        sizes = {"checkpoint_bytes": disk_usage(found), "checkpoints": checkpoint_sizes(found)}
        ancestors = lineage(found, store).to_json()
        emit({**run_json(summary), **sizes, "lineage": ancestors, "profile": found.profile_table()})
        return
    print_run(summary)


def print_run(summary: RunSummary) -> None:
    """Print a run as text."""
    out(summary.id)
    fields(run_lines(summary), indent=2)


def watch(
    run: RunName,
    once: Annotated[bool, typer.Option("--once", help="Print the current state and return.")] = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Follow a run until it ends; Ctrl-C stops following, not the run."""
    from kdtui.cli.follow import follow

    store = open_store(runs_dir)
    found = store.find(run)
    try:
        summary = store.summary(found) if once else follow(store, [found])[0]
    except KeyboardInterrupt:
        say(f"the run continues; kdtui stop {found.id} stops it")
        raise
    if as_json:
        emit(run_json(summary))
    else:
        print_run(summary)


def logs(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run ends.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print the output of its processes instead.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Print the training log of a run.

    If there is none, or the run ended without reporting a result, the end of its processes' output follows.
    """
    from kdtui.cli.log_text import LogText
    from kdtui.store.state import LIVE, State

    store = open_store(runs_dir)
    found = store.find(run)
    log = LogText(found.worker_log if raw else found.training_log)
    summary = store.summary(found)
    _print_new(log)
    while follow and summary.state in LIVE:
        time.sleep(0.2)
        summary = store.summary(found)  # before the log: a run whose state is final has written all of it
        _print_new(log)
    unexplained = summary.state in (State.FAILED, State.LOST) and summary.error is None
    if not raw and (log.position == 0 or unexplained):
        worker = LogText(found.worker_log)
        worker.skip_to_end()
        if worker.has_more:
            missing = "no training log yet; " if log.position == 0 else ""
            say(f"{missing}end of the output of its processes (kdtui logs --raw {found.id} prints all):")
            _print_new(worker)
            return
    if log.position == 0:
        say(f"{found.id} has written nothing yet")


def _print_new(log: LogText) -> None:
    for text in log.pieces():
        print(text, end="", flush=True)


_NUMBERS = ("T", "α", "seed", "epoch", "loss", "mIoU", "last", "of teacher", "eta")
RUN_HEADER = ("", "run", "state", "student", *_NUMBERS, "")
RUN_RIGHT = frozenset(_NUMBERS)

RUN_DROP = ("last", "loss", "α", "T", "student", "eta", "of teacher", "seed", "epoch", "state")
"""Columns that are left out in a narrow terminal, in this order."""


def run_json(run: RunSummary) -> dict[str, Any]:
    """The JSON object of ``runs --json``; its keys are stable.

    ``miou``, ``retention`` and ``agreement`` are of the last validation, ``best`` is of the best one.
    """
    from kdtui.store.run import Run
    from kdtui.store.space import usage

    teacher = None
    if run.teacher_checkpoint is not None or run.teacher_miou is not None:
        teacher = {
            "checkpoint": run.teacher_checkpoint,
            "miou": run.teacher_miou,
            "parameters": run.teacher_parameters,
        }
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state.word,
        "detail": run.detail,
        "epoch": run.epoch,
        "epochs": run.epochs,
        "step": run.step,
        "loss": run.loss,
        "miou": run.miou,
        "best": {"miou": run.best_miou, "iou": dict(run.best_iou), **dict(run.best_metrics)},
        "metrics": dict(run.metrics),
        "retention": run.retention,
        "agreement": run.agreement,
        "student": {
            "encoder": run.encoder,
            "architecture": run.architecture,
            "decoder_channels": run.decoder_channels,
            "parameters": run.parameters,
            "parameters_used": run.parameters_used,
        },
        "teacher": teacher,
        "distilled": run.distilled,
        "temperature": run.temperature,
        "alpha": run.alpha,
        "seed": run.seed,
        "group": run.group,
        "sweep": run.sweep,
        "tags": list(run.tags),
        "notes": run.notes,
        "created": run.created,
        "started": run.started,
        "last_event": run.last_event,
        "images_per_second": run.images_per_second,
        "data_wait": run.data_wait,
        "workers": run.workers,
        "eta_seconds": run.eta_seconds,
        "error": run.error,
        "hint": run.hint,
        "warnings": [dict(warning) for warning in run.warnings],
        "path": str(run.path),
        "disk_bytes": usage(Run(run.path)).total,
    }


def run_row(run: RunSummary) -> list[str]:
    """The cells for :data:`RUN_HEADER`: best mIoU and its share of the teacher's, and the last mIoU."""
    epoch = "-" if run.epoch is None else f"{run.epoch}/{run.epochs if run.epochs is not None else '?'}"
    eta = span(run.eta_seconds) if run.eta_seconds is not None else "-"
    return [
        run.state.glyph,
        run.id,
        run.state.word,
        run.encoder or "-",
        number(run.temperature, 1),
        number(run.alpha, 2),
        "-" if run.seed is None else str(run.seed),
        epoch,
        number(run.loss, 3),
        number(run.best_miou),
        number(run.miou),
        percent(run.best_retention),
        eta,
        run.detail,
    ]


def warning_text(warning: Mapping[str, str | None]) -> str:
    """Format a warning and its hint as one line."""
    return f"{warning['message']}" + (f"; {next_step(warning['hint'])}" if warning["hint"] else "")


def _table(run: Run, key: str) -> Mapping[str, Any]:
    """A table of a run's profile, which may have been edited; empty if there is none."""
    try:
        table = run.profile_table().get(key)
    except StoreError:
        return {}
    return table if isinstance(table, Mapping) else {}


def distillation_terms(table: Mapping[str, Any]) -> str | None:
    """The distillation terms that a profile lists, with their weights; None if it lists none."""
    terms = table.get("terms")
    if terms is None:
        return None
    listed = [term for term in terms if isinstance(term, dict)] if isinstance(terms, list) else []
    return one_line(" + ".join(f"{term.get('weight')} {term.get('kind')} on {term.get('on')}" for term in listed))


def run_lines(run: RunSummary) -> list[tuple[str, str]]:
    """Labels and texts of ``show``; unknown values are left out."""
    from kdtui.store.checkpoint_files import checkpoint_sizes, disk_usage
    from kdtui.store.lineage import lineage
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore

    table, training = (_table(Run(run.path), key) for key in ("distillation", "training"))
    epoch = None if run.epoch is None else f"{run.epoch} of {run.epochs if run.epochs is not None else '?'}"
    size = "" if run.parameters is None else f", {run.parameters:,} parameters"
    used = "" if run.parameters_used in (None, run.parameters) else f" ({run.parameters_used:,} used)"
    student = None if run.encoder is None else f"{run.architecture or ''} {run.encoder}{size}{used}".strip()
    teacher = None
    if run.teacher_checkpoint is not None:
        teacher = run.teacher_checkpoint
        if run.teacher_miou is not None:
            teacher += f", mIoU {run.teacher_miou:.4f}"
        if run.teacher_parameters is not None:
            teacher += f", {run.teacher_parameters:,} parameters"
    listed = [f"{one_line(name)} {mebibytes(size)}" for name, size in checkpoint_sizes(Run(run.path)).items()]
    lines = [
        ("state", f"{run.state.glyph} {run.state.word}" + (f": {run.detail}" if run.detail else "")),
        ("next", run.hint and next_step(run.hint)),
        *(("warning", warning_text(warning)) for warning in run.warnings),
        ("epoch", epoch),
        ("student", student),
        ("teacher", teacher),
        *(("lineage", line) for line in lineage(Run(run.path), RunStore(run.path.parent)).lines()),
        ("distillation", one_line(distillation_text(table)) if run.distilled else None),
        ("terms", distillation_terms(table) if run.distilled else None),
        ("training", one_line(training_text(training)) or None),
        ("loss", None if run.loss is None else number(run.loss)),
        ("best mIoU", None if run.best_miou is None else number(run.best_miou)),
        *((f"  IoU {name}", number(value)) for name, value in run.best_iou.items()),
        ("retention", _retention(run)),
        ("last mIoU", None if run.miou is None else number(run.miou)),
        ("agreement", None if run.agreement is None else percent(run.agreement)),
        *((score_title(name), number(value)) for name, value in run.metrics.items()),
        ("speed", None if run.images_per_second is None else f"{run.images_per_second:.1f} images/s"),
        ("data wait", None if run.data_wait is None else f"{percent(run.data_wait)} of the time of a step"),
        ("loaded by", counted(run.workers, "loading process") if run.workers else None),
        ("eta", None if run.eta_seconds is None else span(run.eta_seconds)),
        ("seed", None if run.seed is None else str(run.seed)),
        ("group", run.group),
        ("sweep", run.sweep),
        ("tags", ", ".join(run.tags) or None),
        ("notes", run.notes or None),
        ("checkpoints", f"{mebibytes(disk_usage(Run(run.path)))} on disk: {', '.join(listed)}" if listed else None),
        ("folder", str(run.path)),
    ]
    return [(label, text) for label, text in lines if text is not None]


def _retention(run: RunSummary) -> str | None:
    """The best score as a share of the teacher's; above 100 % it says nothing good about the teacher."""
    if run.best_retention is None:
        return None
    weak = " (the teacher is weaker than its student on these data)" if run.best_retention > 1 else ""
    return f"{percent(run.best_retention)} at the best {score_title(run.score)}{weak}"


def stop(
    runs: ChosenRuns = None,
    expression: Filter = "",
    kill: Annotated[bool, typer.Option("--kill", help="Kill the processes at once; nothing is saved.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Request that runs save their state and stop."""
    from kdtui.cli.console import report
    from kdtui.launch.targets import launcher_of
    from kdtui.launch.teachers import expand
    from kdtui.store.state import LIVE

    store = open_store(runs_dir)
    # All names are resolved first: with one misspelt name, no run is stopped.
    chosen = expand(runs or [], store, expression)
    found = store.find_all(chosen)
    if expression or len(chosen) > len(runs or []):  # of a name or filter: only those that can be stopped
        found = [run for run, row in zip(found, store.summaries(found), strict=True) if row.state in LIVE] or found
    code = Exit.OK
    for run in found:
        try:
            launcher_of(run, store).stop(run, kill=kill)
        except KdtuiError as error:  # continue with the other runs
            report(error)
            code = max(code, Exit(error.exit_code))
        else:
            say(f"{run.id}: {'killed' if kill else 'stop requested'}")
    if code is not Exit.OK:
        raise typer.Exit(code)


def remove(
    runs: RunNames,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Delete runs with their checkpoints; not while they are queued or running."""
    from kdtui.cli.console import report
    from kdtui.launch.start import once_over
    from kdtui.store.state import LIVE

    store = open_store(runs_dir)
    found = store.find_all(runs)
    active = [row.path.name for row in store.summaries(found) if row.state in LIVE]
    if active:
        raise UsageError(
            "queued or running runs cannot be removed", found=", ".join(active), hint=f"kdtui stop {active[0]}"
        )
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "cannot ask for confirmation: stdin is not a terminal", hint="--yes removes without asking"
            )
        say("\n".join(f"  {run.id}" for run in found))
        if not typer.confirm(f"remove {counted(len(found), 'run')} with all checkpoints?", err=True):
            raise Interrupted("nothing was removed")
    code = Exit.OK
    for run in found:
        try:
            once_over(store, run, partial(store.remove, run))
        except KdtuiError as error:  # continue with the other runs
            report(error)
            code = max(code, Exit(error.exit_code))
        else:
            say(f"removed {run.id}")
    if code is not Exit.OK:
        raise typer.Exit(code)


def note(
    run: RunName,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Replaces the note; '' clears it.")],
    runs_dir: RunsDir = None,
) -> None:
    """Set the note of a run."""
    found = open_store(runs_dir).find(run)
    if not is_utf8(text):
        raise UsageError("the note is not UTF-8 text", found=clean(text)[:80], hint="use a UTF-8 terminal")
    found.write_notes(dataclasses.replace(found.notes(), text=text))
