"""Options that several commands share, and what the shell offers for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kdtui.store.store import RunStore

RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", envvar="KDTUI_RUNS", help="Folder of the runs; default ./runs.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON with stable keys.")]


def open_store(runs_dir: Path | None) -> RunStore:
    """The run store, looking at real processes."""
    from kdtui.launch.alive import probe
    from kdtui.store.store import RunStore

    return RunStore(runs_dir, alive=probe)


def complete_run(incomplete: str) -> list[str]:
    """Run ids that begin like this, ``latest`` and names; the folders alone are read."""
    from kdtui.errors import StoreError
    from kdtui.store.names import printable
    from kdtui.store.store import RunStore

    try:
        ids = [printable(run.id) for run in RunStore(os.environ.get("KDTUI_RUNS")).runs()]
    except StoreError:  # Tab has no place to tell it; the command itself will
        ids = []
    return [word for word in ["latest", *reversed(ids)] if word.startswith(incomplete)]


def complete_profile(incomplete: str) -> list[str]:
    """Profile names that begin like this."""
    from kdtui.profile.find import names

    return [name for name in names() if name.startswith(incomplete)]


def complete_encoder(incomplete: str) -> list[str]:
    """Encoders of the catalog that begin like this."""
    from kdtui.catalog import encoders

    return [encoder.name for encoder in encoders() if encoder.name.startswith(incomplete)]


RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Exact id, 'latest', exact name, or a unique id prefix.", autocompletion=complete_run
    ),
]
RunNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN", help="Exact ids, 'latest', exact names, or unique id prefixes.", autocompletion=complete_run
    ),
]
