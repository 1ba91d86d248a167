"""``runs``, ``show``, ``watch`` and ``logs``: looking, without changing anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from kdtui.cli.console import emit, fields, out, say, table
from kdtui.cli.options import Json, RunName, RunsDir, Wide, open_store

if TYPE_CHECKING:
    from kdtui.cli.log_text import LogText
    from kdtui.store.run import Run
    from kdtui.store.state import RunSummary
    from kdtui.store.store import RunStore


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("runs")(list_runs)
    app.command()(show)
    app.command()(watch)
    app.command()(logs)


def list_runs(
    expression: Annotated[
        str,
        typer.Option(
            "--filter", metavar="EXPR", help="As in 'student:b0 T>=4 miou>.65 state:failed'.", show_default=False
        ),
    ] = "",
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List the runs, oldest first."""
    from kdtui.cli.rows import RUN_DROP, RUN_HEADER, RUN_RIGHT, run_json, run_row
    from kdtui.store.filter import parse

    wanted = parse(expression)
    store = open_store(runs_dir)
    found = [run for run in store.summaries() if wanted(run)]
    if as_json:
        emit([run_json(run) for run in found])
    elif found:
        rows = [run_row(run) for run in found]
        table(RUN_HEADER, rows, right=RUN_RIGHT, drop=RUN_DROP, below=True, wide=wide)
    else:
        say(f"no runs in {store.root}" + (" match" if expression else "; kdtui train PROFILE makes one"))


def show(run: RunName, as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """Show one run: its state, scores, student, teacher, and with --json its resolved profile."""
    from kdtui.cli.rows import run_json
    from kdtui.store.checkpoint_files import checkpoint_sizes, disk_usage

    store = open_store(runs_dir)
    found = store.find(run)
    summary = store.summary(found)
    if as_json:
        sizes = {"checkpoint_bytes": disk_usage(found), "checkpoints": checkpoint_sizes(found)}
        emit({**run_json(summary), **sizes, "profile": found.profile_table()})
        return
    print_run(summary)


def print_run(summary: RunSummary) -> None:
    """A run for a reader."""
    from kdtui.cli.rows import run_lines

    out(summary.id)
    fields(run_lines(summary), indent=2)


def watch(
    run: RunName,
    once: Annotated[bool, typer.Option("--once", help="Print how the run stands and return.")] = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Follow a run until it ends; Ctrl-C ends the watching, not the run."""
    from kdtui.cli.follow import follow
    from kdtui.cli.rows import run_json

    store = open_store(runs_dir)
    found = store.find(run)
    try:
        summary = store.summary(found) if once else follow(store, [found])[0]
    except KeyboardInterrupt:
        say(f"the run goes on; kdtui stop {found.id} ends it")
        raise
    if as_json:
        emit(run_json(summary))
    else:
        print_run(summary)


def logs(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print what its processes wrote instead.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Print the training log of a run.

    Where it has none, or ended without reporting a result, the end of what its processes printed follows.
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
        summary = store.summary(found)  # before the log: a run seen to be over has written all of it
        _print_new(log)
    unexplained = summary.state in (State.FAILED, State.LOST) and summary.error is None
    if not raw and (log.position == 0 or unexplained):
        worker = LogText(found.worker_log)
        worker.skip_to_end()
        if worker.has_more:
            missing = "it has no training log yet; " if log.position == 0 else ""
            say(f"{missing}the end of what its processes printed (all of it: kdtui logs --raw {found.id}):")
            _print_new(worker)
            return
    if log.position == 0:
        say(f"{found.id} has written nothing yet")


def _print_new(log: LogText) -> None:
    for text in log.pieces():
        print(text, end="", flush=True)


def newest_named(store: RunStore, name: str) -> Run | None:
    """The newest run of that name."""
    from kdtui.store.run import Run

    found = [summary for summary in store.summaries() if summary.name == name]
    return Run(found[-1].path) if found else None
