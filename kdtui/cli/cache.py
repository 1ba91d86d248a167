"""``cache``: the logits of teachers that the run store keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from kdtui.cli.console import Json, RunsDir, Wide, emit, open_store, say, table
from kdtui.errors import StoreError, UsageError
from kdtui.text import counted, mebibytes


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(cache)


def cache(
    check: Annotated[bool, typer.Option("--verify", help="Read every file and check every sample.")] = False,
    remove: Annotated[bool, typer.Option("--clear", help="Remove all of them.")] = False,
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List the teacher logits that runs of a store share, verify or remove them."""
    from kdtui.store.view_logits import Verified, budget_bytes, clear, entries, verify

    if check and remove:
        raise UsageError("--verify and --clear exclude each other", hint="kdtui cache --clear")
    root = open_store(runs_dir).root
    if remove:
        freed = clear(root)
        emit({"freed_bytes": freed}) if as_json else say(f"{mebibytes(freed)} of teacher logits removed")
        return
    listed = entries(root)
    verified: list[Verified | None] = [verify(entry) if check else None for entry in listed]
    if as_json:
        emit(
            [
                {"key": entry.folder.name, **entry.about, "views": entry.views, "bytes": entry.bytes}
                | ({} if one is None else {**vars(one), "unreadable": [str(path) for path in one.unreadable]})
                for entry, one in zip(listed, verified, strict=True)
            ]
        )
    elif listed:
        header = ["teacher", "data", "views", "size", *(["whole", "absent", "damaged"] if check else [])]
        rows = [
            [str(entry.about.get("teacher", "-")), str(entry.about.get("data", "-")), str(entry.views)]
            + [mebibytes(entry.bytes)]
            + ([] if one is None else [str(one.whole), str(one.absent), str(one.damaged)])
            for entry, one in zip(listed, verified, strict=True)
        ]
        table(header, rows, right=frozenset(header[2:]), below=True, wide=wide)
        say(f"{mebibytes(sum(entry.bytes for entry in listed))} of at most {mebibytes(budget_bytes(root, None))}")
    else:
        say(f"no teacher logits in {root}; runs with data.views or data.view_seed keep them")
    unreadable = [path for one in verified if one is not None for path in one.unreadable]
    damaged = sum(one.damaged for one in verified if one is not None)
    if damaged or unreadable:
        raise StoreError(
            "some cached logits are damaged; trainings compute them again",
            where=root,
            found=", ".join([counted(damaged, "sample"), *(f"{path}, of another version" for path in unreadable)]),
            hint="`kdtui cache --clear` removes all",
        )
