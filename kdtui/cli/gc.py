"""``gc``: what runs take on the disk, and the removal of training states that nothing needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdtui.cli.console import ChosenRuns, Exit, Filter, Json, RunsDir, Wide, emit, open_store, report, say, table
from kdtui.errors import Interrupted, KdtuiError, UsageError
from kdtui.text import counted, mebibytes, one_line

if TYPE_CHECKING:
    from kdtui.store.run import Run
    from kdtui.store.space import Collectable, Usage
    from kdtui.store.store import RunStore

_HEADER = ["run", "state", "checkpoints", "exports", "pictures", "other", "removable", "needed by"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gc)


def gc(
    runs: ChosenRuns = None,
    expression: Filter = "",
    keep: Annotated[
        str, typer.Option(metavar="best|last", help="Also keep last.pth, from which a run can be resumed: last.")
    ] = "best",
    older: Annotated[str, typer.Option(metavar="AGE", help="Only runs that ended so long ago: 30d, 12h, 2w.")] = "0d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show the disk usage of runs and remove the training states of ended ones.

    The best checkpoint and the exports stay, and checkpoints that other runs were started or distilled from. Without
    its training state a finished run cannot be resumed for more epochs.
    """
    from kdtui.launch.teachers import expand
    from kdtui.store.space import KEEPS, collectable, seconds, usage
    from kdtui.store.view_logits import used_bytes

    kept = next((one for one in KEEPS if one == keep), None)
    if kept is None:
        raise UsageError("cannot keep that", where="--keep", found=one_line(keep), allowed=" or ".join(KEEPS))
    age = seconds(older)
    store = open_store(runs_dir)
    chosen = store.find_all(expand(runs or [], store, expression)) if runs or expression else store.runs()
    removable = collectable(store, chosen, keep=kept, older=age)
    used = {run: usage(run) for run in chosen}
    logits = used_bytes(store.root)
    if not as_json:
        _show(store, used, removable, logits, wide=wide)
    freed: dict[Run, int] = {}
    code = Exit.OK
    if removable and not dry_run:
        freed, code = _remove(store, removable, yes=yes)
    if as_json:
        emit(_json(used, removable, freed, logits))
    elif dry_run:
        say("nothing was removed")
    elif freed:
        say(f"{mebibytes(sum(freed.values()))} removed")
    if code is not Exit.OK:
        raise typer.Exit(code)


def _show(store: RunStore, used: dict[Run, Usage], removable: list[Collectable], logits: int, *, wide: bool) -> None:
    by_run = {one.run: one for one in removable}
    rows = []
    for run, summary in zip(used, store.summaries(used), strict=True):
        one = by_run.get(run)
        sizes = used[run]
        needed = sorted(set(one.needed.values())) if one is not None else []
        rows.append(
            [run.id, summary.state.word]
            + [mebibytes(size or None) for size in (sizes.checkpoints, sizes.exports, sizes.pictures, sizes.other)]
            + ["-" if one is None else mebibytes(one.bytes), ", ".join(needed) or "-"]
        )
    if rows:
        columns = len(_HEADER) - all(row[-1] == "-" for row in rows)
        header, shown = _HEADER[:columns], [row[:columns] for row in rows]
        table(header, shown, right=frozenset(_HEADER[2:7]), drop=("pictures", "other"), below=True, wide=wide)
    else:
        say(f"no runs in {store.root}")
    total = mebibytes(sum(sizes.total for sizes in used.values()))
    say(f"{total} in {counted(len(used), 'run')}, {mebibytes(sum(one.bytes for one in removable))} removable")
    if logits:
        say(f"{mebibytes(logits)} of teacher logits; `kdtui cache --clear` removes them")


def _remove(store: RunStore, removable: list[Collectable], *, yes: bool) -> tuple[dict[Run, int], Exit]:
    from kdtui.store.space import collect

    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "cannot ask for confirmation: stdin is not a terminal",
                hint="`kdtui gc --yes` removes without asking",
            )
        if not typer.confirm(f"remove the training states of {counted(len(removable), 'run')}?", err=True):
            raise Interrupted("nothing was removed")
    freed: dict[Run, int] = {}
    code = Exit.OK
    for one in removable:
        try:
            freed[one.run] = collect(store, one)
        except KdtuiError as error:  # continue with the other runs
            report(error)
            code = max(code, Exit(error.exit_code))
    return freed, code


def _json(used: dict[Run, Usage], removable: list[Collectable], freed: dict[Run, int], logits: int) -> dict[str, Any]:
    by_run = {one.run: one for one in removable}
    return {
        "runs": [
            {
                "id": run.id,
                **{f"{kind}_bytes": size for kind, size in vars(sizes).items()},
                "removable": [path.name for path in by_run[run].files] if run in by_run else [],
                "removable_bytes": by_run[run].bytes if run in by_run else 0,
                "needed": dict(by_run[run].needed) if run in by_run else {},
                "freed_bytes": freed.get(run, 0),
            }
            for run, sizes in used.items()
        ],
        "teacher_logits_bytes": logits,
    }
