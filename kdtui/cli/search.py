"""``search``: find the best student within a budget of latency, parameters and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
from kdtui.cli.train import Detach, Seeds
from kdtui.errors import UsageError
from kdtui.export_options import option

if TYPE_CHECKING:
    from kdtui.store.store import RunStore
    from kdtui.sweep.folder import SweepFolder
    from kdtui.sweep.search.results import Entry, Results
    from kdtui.sweep.search.screening import Screened
    from kdtui.sweep.search.spec import SearchSpec

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


def search(
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            metavar="CKPT|RUN",
            help="Teacher, a checkpoint or a run; its students are searched.",
            autocompletion=complete_run,
        ),
    ],
    latency: Annotated[
        str, typer.Option("--latency", metavar="TIME", help="Most time for one image, such as 10ms or 500us.")
    ],
    parameters: Annotated[
        str | None, typer.Option("--parameters", metavar="N", help="Most parameters, such as 5M.", show_default=False)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="BYTES", help="Largest exported file, such as 8MiB.", show_default=False),
    ] = None,
    on: Annotated[
        str, typer.Option("--on", metavar="DEVICE", help="Where it is measured: cpu:THREADS or gpu.")
    ] = "cpu:1",
    runtime: Annotated[
        Literal["onnxruntime", "torch"] | None,
        typer.Option("--runtime", help="What runs it; default onnxruntime, on a GPU torch.", show_default=False),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help=f"{option('precision').says} Here fp32 or int8.")
    ] = "fp32",
    retention: Annotated[
        str | None,
        typer.Option(
            "--retention",
            metavar="SHARE",
            help="Share of the teacher's score to reach, such as 95%.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="How many networks are trained; default 12.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", min=0.0, help="Time for all trainings, instead of --trials.", show_default=False),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            help="Profile; of data and training. Default: that of the teacher's run.",
            autocompletion=complete_profile,
            show_default=False,
        ),
    ] = None,
    encoders: Annotated[
        str | None,
        typer.Option("--encoders", metavar="LIST", help="Encoders to try; default: 12 small ones.", show_default=False),
    ] = None,
    architectures: Annotated[
        str | None,
        typer.Option("--architectures", metavar="LIST", help="Default Unet,FPN.", show_default=False),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths",
            metavar="LIST",
            help="Decoder widths as shares of the usual one; default 1,0.5,0.25,0.125.",
            show_default=False,
        ),
    ] = None,
    seed_list: Seeds = None,
    sets: Sets = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; with the time that it takes.")
    ] = False,
    detach: Detach = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Find the best student within a budget: measure untrained networks, train those that fit, export the winner."""
    from kdtui.profile.seeds import read_seeds
    from kdtui.sweep.controlled import start
    from kdtui.sweep.folder import create
    from kdtui.sweep.search import budget as costs
    from kdtui.sweep.search import candidates as networks
    from kdtui.sweep.search.spec import SEEDS, TRIALS, SearchSpec, base_profile

    if trials is not None and hours is not None:
        raise UsageError("--trials and --hours exclude each other", hint="omit one of them")
    limits = costs.Budget(
        costs.read_latency(latency),
        None if parameters is None else costs.read_parameters(parameters),
        None if size is None else costs.read_size(size),
    )
    target = costs.read_target(on, runtime, precision)
    names = networks.ENCODERS if encoders is None else networks.check_encoders(_parts(encoders))
    kinds = networks.ARCHITECTURES if architectures is None else networks.check_architectures(_parts(architectures))
    shares = networks.WIDTHS if widths is None else networks.read_widths(widths)
    goal = None if retention is None else costs.read_retention(retention)
    seeds = SEEDS if seed_list is None else read_seeds(seed_list)
    store = open_store(runs_dir)
    base, normalise, chosen = base_profile(store, teacher, profile, sets or (), seeds)
    if chosen.note:
        say(chosen.note)
    count = None if hours is not None else trials or TRIALS
    spec = SearchSpec(base, normalise, limits, target, goal, names, kinds, shares, count, hours, seeds)
    _plan(store, spec, dry_run=dry_run, as_json=as_json)
    if dry_run:
        return
    folder = create(store.root, spec.id, spec.to_tables())
    if not start(folder):
        say(f"{folder.id} is running already")
    if detach:
        out(folder.id)
        return
    _follow(store, folder, as_json=as_json)


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


def search_stop(name: SearchId, runs_dir: RunsDir = None) -> None:
    """Stop a search and its runs, which save their state; `kdtui search resume` continues it."""
    from kdtui.sweep.controlled import stop
    from kdtui.sweep.folder import find

    folder = find(open_store(runs_dir).root, name, KIND, first=_FIRST)
    stop(folder)
    say(f"stopping {folder.id}; `kdtui search resume {folder.id}` continues it")


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


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _plan(store: RunStore, spec: SearchSpec, *, dry_run: bool, as_json: bool) -> None:
    """Print what the search will do; check that it can begin.

    Raises:
        UsageError: The budget excludes all candidates, or ``hours`` are too few.
    """
    from kdtui.launch.plan import plan
    from kdtui.sweep.search.candidates import profile_of
    from kdtui.sweep.search.hours import estimated, trials_within
    from kdtui.sweep.search.screening import count_parameters, screened, to_json, unknown_parameters
    from kdtui.sweep.search.work import no_candidate

    found = screened(spec, store.root)
    found = screened(spec, store.root, count_parameters(spec, unknown_parameters(spec, found)))
    left = [one for one in found if not one.over and not one.error]
    if not left:
        raise no_candidate(spec, found)
    trials = min(trials_within(spec, store, found), len(left))
    time = estimated(spec, store, found, trials)
    first = profile_of(spec.base, left[0].candidate, spec.seeds[0], normalise=spec.normalise)
    planned = plan([first], store)
    if dry_run and as_json:
        emit(
            {
                "id": spec.id,
                "candidates": [to_json(one) for one in found],
                "to_measure": sum(one.word == "to measure" for one in found),
                "trials": trials,
                "eta_seconds": None if time is None else time.seconds,
                "checks": planned.to_json()["runs"][0]["checks"],
            }
        )
    else:
        _show_plan(spec, found, trials, None if time is None else (time.seconds, time.source), to_stdout=dry_run)
    failed = [check for check in planned.runs[0].checks if not check.ok]
    for check in failed:
        say(f"FAIL {check.name}: {check.message}")
        if check.hint:
            say(f"  next: {check.hint}")
    if failed:
        raise typer.Exit(Exit.ENGINE)


def _show_plan(
    spec: SearchSpec,
    found: list[Screened],
    trials: int,
    time: tuple[float, tuple[str, ...]] | None,
    *,
    to_stdout: bool,
) -> None:
    from kdtui.text import counted, mebibytes, millions, milliseconds, span

    write = out if to_stdout else say
    if to_stdout:
        header = ["candidate", "params", "size", "latency", "state"]
        rows = [
            [
                one.candidate.key,
                millions(one.parameters),
                mebibytes(one.bytes),
                milliseconds(one.latency),
                one.error or ", ".join(one.over) or one.word,
            ]
            for one in found
        ]
        table(header, rows, right=frozenset(header[1:4]), below=True)
    needed = sum(one.word == "to measure" for one in found)
    dropped = sum(bool(one.over) for one in found)
    write(
        f"{counted(len(found), 'candidate')}, {dropped} over the budget of {spec.budget}, "
        f"{counted(needed, 'measurement')} to make ({spec.target}), up to {counted(trials, 'trial')}"
    )
    epochs = spec.base.training.epochs
    hours = "" if time is None else f", about {span(time[0])} (estimated from {', '.join(time[1])})"
    write(
        f"trials are compared at equal epochs of {epochs}; the winner is trained with "
        f"{counted(len(spec.seeds), 'seed')} and its baseline{hours}"
    )
    write(f"search {spec.id}")


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
