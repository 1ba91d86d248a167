"""``cockpit`` and ``keys``: the terminal app and its key bindings."""

from __future__ import annotations

import sys

import typer

from kdtui.cli.console import Json, RunsDir, Wide, emit, table
from kdtui.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(cockpit)
    app.command()(keys)


def cockpit(runs_dir: RunsDir = None) -> None:
    """Open the cockpit, as `kdtui` alone does."""
    from kdtui.cli.opening import open_cockpit

    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UsageError("the cockpit needs a terminal", hint="`kdtui runs` lists the runs without one")
    code = open_cockpit(runs_dir)
    if code:
        raise typer.Exit(code)


def keys(wide: Wide = False, as_json: Json = False) -> None:
    """List the keys of the cockpit."""
    from kdtui.tui.keys import as_json as rows

    listed = rows()
    if as_json:
        emit(listed)
        return
    cells = [[row["screen"], row["key"], row["help"], row["command"]] for row in listed]
    table(
        ["screen", "key", "what it does", "command"],
        cells,
        wrap=("what it does", "command"),
        drop=("command",),
        wide=wide,
    )
