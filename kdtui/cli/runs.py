"""``runs``, ``show``, ``watch`` and ``logs``: looking, without changing anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from kdtui.cli.console import emit, fields, out, say, table
from kdtui.cli.options import Json, RunName, RunsDir, Wide, open_store
from kdtui.errors import StoreError

if TYPE_CHECKING:
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
    from kdtui.store.checkpoint_files import disk_usage

    store = open_store(runs_dir)
    found = store.find(run)
    summary = store.summary(found)
    if as_json:
        emit({**run_json(summary), "checkpoint_bytes": disk_usage(found), "profile": found.profile_table()})
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
    runs_dir: RunsDir = None,
) -> None:
    """Print what the processes of a run wrote."""
    from kdtui.store.state import LIVE

    store = open_store(runs_dir)
    found = store.find(run)
    position = _print_from(found, 0)
    while follow and store.summary(found).state in LIVE:
        time.sleep(0.2)
        position = _print_from(found, position)
    if follow:
        position = _print_from(found, position)
    if position == 0:
        say(f"{found.id} has written nothing yet")


def _print_from(run: Run, position: int) -> int:
    from kdtui.store.reading import reading

    try:
        with reading(run.worker_log) as file:
            file.seek(position)
            written = file.read()
    except FileNotFoundError:
        return position
    except OSError as error:
        raise StoreError("The log cannot be read", where=run.worker_log, found=error.strerror) from error
    if written:
        print(_lines(written), end="", flush=True)
    return position + len(written)


def _lines(written: bytes) -> str:
    from kdtui.wording import clean

    # A progress bar rewrites its line with carriage returns; here every state of it is a line.
    return clean(written.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n"))


def newest_named(store: RunStore, name: str) -> Run | None:
    """The newest run of that name."""
    from kdtui.store.run import Run

    found = [summary for summary in store.summaries() if summary.name == name]
    return Run(found[-1].path) if found else None
