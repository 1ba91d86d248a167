"""``stop``, ``remove`` and ``note``: what changes a run that is there."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from typing import Annotated

import typer

from kdtui.cli.console import Exit, say
from kdtui.cli.options import ChosenRuns, Filter, RunName, RunNames, RunsDir, open_store
from kdtui.errors import Interrupted, KdtuiError, UsageError
from kdtui.text import clean, is_utf8


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(stop)
    app.command()(remove)
    app.command()(note)


def stop(
    runs: ChosenRuns = None,
    expression: Filter = "",
    kill: Annotated[bool, typer.Option("--kill", help="End all its processes at once; nothing is saved.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Ask runs to save their state and end."""
    from kdtui.cli.console import report
    from kdtui.launch.launcher import launcher_for
    from kdtui.launch.teachers import expand
    from kdtui.store.state import LIVE

    store = open_store(runs_dir)
    # Every name is looked up first: a typo in the third stops none of them.
    chosen = expand(runs or [], store, expression)
    found = store.find_all(chosen)
    if expression or len(chosen) > len(runs or []):  # of the runs of a name or a filter those that can be stopped
        found = [run for run, row in zip(found, store.summaries(found), strict=True) if row.state in LIVE] or found
    code = Exit.OK
    for run in found:
        try:
            launcher_for("local", store).stop(run, kill=kill)
        except KdtuiError as error:  # the others are still to be stopped
            report(error)
            code = max(code, Exit(error.exit_code))
        else:
            say(f"{run.id}: {'killed' if kill else 'asked to stop'}")
    if code is not Exit.OK:
        raise typer.Exit(code)


def remove(
    runs: RunNames,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Delete runs with their checkpoints; runs that live are refused."""
    from kdtui.cli.console import report
    from kdtui.launch.start import once_over
    from kdtui.store.state import LIVE

    store = open_store(runs_dir)
    found = store.find_all(runs)
    living = [row.path.name for row in store.summaries(found) if row.state in LIVE]
    if living:
        raise UsageError("a run that lives cannot be removed", found=", ".join(living), hint=f"kdtui stop {living[0]}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is here to be asked", hint="--yes removes without asking")
        say("\n".join(f"  {run.id}" for run in found))
        if not typer.confirm(f"remove {len(found)} run{'s' if len(found) > 1 else ''} with all checkpoints?", err=True):
            raise Interrupted("nothing was removed")
    code = Exit.OK
    for run in found:
        try:
            once_over(store, run, partial(store.remove, run))
        except KdtuiError as error:  # the others are still to be removed
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
    """Write a note on a run."""
    found = open_store(runs_dir).find(run)
    if not is_utf8(text):
        raise UsageError("the note is not UTF-8 text", found=clean(text)[:80], hint="write it in a UTF-8 terminal")
    found.write_notes(dataclasses.replace(found.notes(), text=text))
