"""``search``: find the best student within a budget of latency, parameters and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kdtui.cli.console import (
    Exit,
    Json,
    RunsDir,
    Sets,
    Wide,
    complete_profile,
    complete_run,
    emit,
    open_store,
    out,
    say,
    table,
)
from kdtui.cli.train import Detach
from kdtui.errors import UsageError
from kdtui.sweep.search.options import DEFAULT_DEVICE, DEFAULT_PRECISION, OPTIONS, SearchRequest

if TYPE_CHECKING:
    from kdtui.store.store import RunStore
    from kdtui.sweep.folder import SweepFolder
    from kdtui.sweep.search.request import SearchPlan
    from kdtui.sweep.search.results import Entry, Results

KIND = "search"
_FIRST = "kdtui search --teacher RUN --latency 10ms"
_DROP = ("size", "params", "epoch", "run")
SearchId = Annotated[str, typer.Argument(metavar="ID", help="Id of the search, its beginning, its name, or 'latest'.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(search)
    app.command("search list")(search_list)
    app.command("search show")(search_show)
    app.command("search stop")(search_stop)
    app.command("search resume")(search_resume)


def _option(name: str, metavar: str | None = None, **more: Any) -> Any:
    option = OPTIONS[name]
    return typer.Option(option.flag, metavar=metavar, help=option.help, **more)


def search(
    teacher: Annotated[str, _option("teacher", "CKPT|RUN", autocompletion=complete_run)],
    latency: Annotated[str, _option("latency", "TIME")],
    parameters: Annotated[str | None, _option("parameters", "N", show_default=False)] = None,
    size: Annotated[str | None, _option("size", "BYTES", show_default=False)] = None,
    on: Annotated[str, _option("on", "DEVICE")] = DEFAULT_DEVICE,
    runtime: Annotated[Literal["onnxruntime", "torch"] | None, _option("runtime", show_default=False)] = None,
    precision: Annotated[str, _option("precision")] = DEFAULT_PRECISION,
    retention: Annotated[str | None, _option("retention", "SHARE", show_default=False)] = None,
    trials: Annotated[int | None, _option("trials", "N", show_default=False)] = None,
    hours: Annotated[str | None, _option("hours", "H", show_default=False)] = None,
    profile: Annotated[
        str | None, _option("profile", "PROFILE", autocompletion=complete_profile, show_default=False)
    ] = None,
    encoders: Annotated[str | None, _option("encoders", "LIST", show_default=False)] = None,
    architectures: Annotated[str | None, _option("architectures", "LIST", show_default=False)] = None,
    widths: Annotated[str | None, _option("widths", "LIST", show_default=False)] = None,
    seeds: Annotated[str | None, _option("seeds", "LIST", show_default=False)] = None,
    sets: Sets = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; with the time that it takes.")
    ] = False,
    detach: Detach = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Find the best student within a budget: measure untrained networks, train those that fit, export the winner."""
    from kdtui.sweep.search.request import launch, planned, read

    values = {name: value for name, value in locals().items() if name in OPTIONS}
    store = open_store(runs_dir)
    asked = read(request_of(values, sets), store)
    if asked.teacher is not None and asked.teacher.note:
        say(asked.teacher.note)
    for error in asked.mistakes.values():
        raise error
    assert asked.spec is not None
    plan = planned(asked.spec, store)
    _show_plan(plan, dry_run=dry_run, as_json=as_json)
    if dry_run:
        return
    folder, started = launch(asked.spec, store)
    if not started:
        say(f"{folder.id} is running already")
    if detach:
        out(folder.id)
        return
    _follow(store, folder, as_json=as_json)


def request_of(values: Mapping[str, object], sets: Sequence[str] | None) -> SearchRequest:
    """The request of the options as given; None for one that was not.

    Raises:
        UsageError: One is empty.
    """
    texts = {name: str(value) for name, value in values.items() if value is not None}
    for name, text in texts.items():
        if not text.strip():
            raise UsageError("this option is empty", where=OPTIONS[name].flag, found="''", allowed=OPTIONS[name].help)
    return SearchRequest(texts, tuple(sets or ()))


def search_list(as_json: Json = False, wide: Wide = False, runs_dir: RunsDir = None) -> None:
    """List the searches of a run store."""
    from kdtui.sweep.search.listing import searches

    rows = searches(open_store(runs_dir))
    if as_json:
        emit([row.to_json() for row in rows])
    elif rows:
        header = ["", "search", "budget", "candidates", "best", "stage"]
        table(header, [row.cells() for row in rows], right=frozenset({"candidates", "best"}), below=True, wide=wide)
    else:
        say(f"there are no searches yet: `{_FIRST}` starts one")


def search_show(name: SearchId, as_json: Json = False, wide: Wide = False, runs_dir: RunsDir = None) -> None:
    """Show a search: its networks, the front of score against latency, and what the budget costs."""
    from kdtui.sweep.folder import find
    from kdtui.sweep.search.results import ResultReader, to_json

    store = open_store(runs_dir)
    results = ResultReader(store, find(store.root, name, KIND, first=_FIRST)).read()
    if as_json:
        emit(to_json(results))
    else:
        print_results(results, wide=wide)


def search_stop(
    name: SearchId,
    kill: Annotated[bool, typer.Option("--kill", help="Kill the processes at once; nothing is saved.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Stop a search and its runs, which save their state; `kdtui search resume` continues it."""
    from kdtui.cli.controlled import stop
    from kdtui.sweep.folder import find

    store = open_store(runs_dir)
    stop(store, find(store.root, name, KIND, first=_FIRST), kill=kill)


def search_resume(
    name: SearchId,
    retry: Annotated[bool, typer.Option("--retry", help="Launch failed runs again.")] = False,
    detach: Detach = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Continue a search that was stopped or whose process was killed; nothing is trained twice."""
    from kdtui.sweep.controlled import start
    from kdtui.sweep.folder import find
    from kdtui.sweep.search.spec import from_tables

    store = open_store(runs_dir)
    folder = find(store.root, name, KIND, first=_FIRST)
    from_tables(folder)  # a sweep, or a damaged specification, is refused here
    if not start(folder, retry=retry):
        say(f"{folder.id} is running already")
    if detach:
        out(folder.id)
        return
    _follow(store, folder, as_json=as_json)


def _show_plan(plan: SearchPlan, *, dry_run: bool, as_json: bool) -> None:
    """Print what the search will do.

    Raises:
        Exit: A check failed.
    """
    if dry_run and as_json:
        emit(plan.to_json())
    else:
        if dry_run:
            header = ["candidate", "params", "size", "latency", "state"]
            table(header, [one.cells() for one in plan.candidates], right=frozenset(header[1:4]), below=True)
        for line in plan.lines():
            (out if dry_run else say)(line)
    for check in plan.failed:
        say(f"FAIL {check.name}: {check.message}")
        if check.hint:
            say(f"  next: {check.hint}")
    if plan.failed:
        raise typer.Exit(Exit.ENGINE)


def _follow(store: RunStore, folder: SweepFolder, *, as_json: bool) -> None:
    """Follow the search until it ends, then print its results."""
    from kdtui.cli.controlled import follow
    from kdtui.sweep.search.results import ResultReader, to_json

    def results() -> None:
        found = ResultReader(store, folder).read()
        if as_json:
            emit(to_json(found))
        else:
            print_results(found)

    follow(folder, results)


def print_results(results: Results, *, wide: bool = False) -> None:
    """Print a search as text."""
    from kdtui.sweep.search.picture import picture

    out(f"{results.state.glyph} {results.id}: {results.stage or results.state.word.lower()}")
    out(f"budget {results.spec.budget} ({results.spec.target}); {results.measured} of {results.total} measured")
    out()
    header = ["", "network", "params", "size", "latency", "score", "of teacher", "epoch", "state", "run"]
    teacher = results.teacher_score
    rows = [_row(entry, teacher) for entry in results.entries if entry.role != "candidate"]
    others = results.of("candidate")
    rows += [_row(entry, teacher) for entry in sorted(others, key=lambda entry: entry.latency or 9e9)]
    dim = frozenset(place for place, row in enumerate(rows) if row[8] in ("over budget", "pruned"))
    right = frozenset({"params", "size", "latency", "score", "of teacher", "epoch"})
    table(header, rows, right=right, dim=dim, drop=_DROP, wrap=("state",), wide=wide)
    lines = picture(results)
    if lines:
        out()
        for line in lines:
            out(line)
    if results.delta is not None:
        out(f"student minus baseline: {results.delta.text}", prose=True)
    for note in results.notes:
        out(note, prose=True)


def _row(entry: Entry, teacher: float | None) -> list[str]:
    from kdtui.text import mebibytes, millions, milliseconds, number, percent

    spread = "" if entry.spread is None else f" ±{entry.spread:.4f}"
    share = entry.score / teacher if entry.score is not None and teacher else None
    role = {"teacher": "teacher", "student": "★", "baseline": "baseline"}.get(entry.role, "")
    return [
        role,
        entry.key,
        millions(entry.parameters),
        mebibytes(entry.bytes),
        milliseconds(entry.latency),
        f"{number(entry.score)}{spread}",
        percent(share),
        str(entry.epoch or "-"),
        entry.state,
        entry.run or "",
    ]
