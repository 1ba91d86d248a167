"""``sweep``: train a profile with many values of its keys, list and show sweeps, stop and resume them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kdtui.cli.console import (
    Exit,
    Json,
    RunsDir,
    Wide,
    columns,
    complete_encoder,
    complete_method,
    complete_profile,
    emit,
    one_form,
    open_store,
    out,
    say,
    table,
)
from kdtui.cli.setting_options import option_help, setting_options
from kdtui.cli.train import DryRun, Tags, Teachers, WithBaseline
from kdtui.errors import Interrupted, KdtuiError, StoreError, UsageError
from kdtui.profile.settings import LISTED, SETTINGS
from kdtui.text import counted, span

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore
    from kdtui.sweep.file import Request
    from kdtui.sweep.folder import SweepFolder
    from kdtui.sweep.runs import Launched, SweepRuns
    from kdtui.sweep.spec import Spec


class SweepFormat(StrEnum):
    """Formats of ``sweep show``."""

    text = "text"
    csv = "csv"
    json = "json"
    markdown = "markdown"


def complete_sweep(incomplete: str) -> list[str]:
    """Complete ids of sweeps, newest first."""
    from kdtui.store.store import RunStore
    from kdtui.sweep.folder import listing

    try:
        ids = [folder.id for folder in listing(RunStore().root)]
    except StoreError:  # completion cannot report it; the command will
        return []
    return [word for word in ("latest", *reversed(ids)) if word.startswith(incomplete)]


SweepName = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Id of a sweep, 'latest', its name, or a unique prefix.", autocompletion=complete_sweep
    ),
]
_ENCODER, _TRIALS, _PRUNE = (SETTINGS[name] for name in ("encoder", "trials", "prune"))
ListSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Profile key; any, with several values as in training.learning_rate=1e-4,1e-3, or with --sampler a range "
        "as in training.learning_rate=1e-4..1e-2:log.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("sweep")(setting_options(without=[_ENCODER.name, "seeds"], lists=LISTED)(start))
    app.command("sweep list")(list_sweeps)
    app.command("sweep show")(show)
    app.command("sweep stop")(stop)
    app.command("sweep resume")(resume)


def start(
    profile: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE", help="Profile, or a TOML file with [sweep].", autocompletion=complete_profile
        ),
    ],
    teacher: Teachers = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            *_ENCODER.flags,
            "--student-encoder",
            metavar="LIST",
            help=option_help(_ENCODER),
            autocompletion=complete_encoder,
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="LIST",
            help="Distil with the terms of this method; `kdtui methods` lists them.",
            autocompletion=complete_method,
            show_default=False,
        ),
    ] = None,
    settings: Sequence[str] = (),
    sets: ListSets = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="LIST", help="Seeds, as in 0,1,2 or 0-4: a run for each.", show_default=False),
    ] = None,
    with_baseline: WithBaseline = False,
    sampler: Annotated[
        Literal["tpe"] | None,
        typer.Option(
            "--sampler",
            help="Draw values from lists and ranges instead of training all; tpe prefers those near good ones.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(*_TRIALS.flags, metavar="N", min=1, help=option_help(_TRIALS), show_default=False),
    ] = None,
    prune: Annotated[bool, typer.Option(*_PRUNE.flags, help=option_help(_PRUNE))] = False,
    tag: Tags = None,
    retry: Annotated[bool, typer.Option("--retry", help="Launch failed runs again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: DryRun = False,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", help="Print the id of each run and return at once; the run continues in the background."
        ),
    ] = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Train every combination of values of a profile's keys, or sampled ones; repeated, train only what is missing."""
    from kdtui.launch.teachers import check_tags
    from kdtui.sweep.file import Request

    check_tags(tag or ())
    store = open_store(runs_dir)
    request = _request(
        Request(
            profile=profile,
            teachers=tuple(teacher or ()),
            encoders=encoder,
            methods=method,
            seeds=seeds,
            with_baseline=with_baseline,
            assignments=(*settings, *(sets or ())),
            sampler=sampler,
            trials=trials,
            prune=prune,
        )
    )
    options = _options(store, request)
    words = {"retry": retry, "dry_run": dry_run, "detach": detach, "as_json": as_json}
    if request.sampler is None:
        from kdtui.sweep.spec import make_spec

        spec = make_spec(store, request.profile, request.assignments, **options)
        _carry_out(store, spec, tag or (), yes=yes, **words)
    else:
        from kdtui.cli.sampled import carry_out
        from kdtui.sweep.sampled.spec import make_sampled_spec

        options |= {"sampler": request.sampler, "prune": request.prune}
        sampled = make_sampled_spec(store, request.profile, request.assignments, **options)
        carry_out(store, sampled, request.trials, tag or (), **words)


def _request(options: Request) -> Request:
    """What is requested: of a file with ``[sweep]``, options replace its entries.

    Raises:
        UsageError: An entry of the file is not valid, or trials are wanted without a sampler.
    """
    from dataclasses import replace

    from kdtui.sweep.file import is_sweep_file, read_file

    request = options
    if is_sweep_file(options.profile):
        file = read_file(options.profile)
        given = {text.partition("=")[0].strip() for text in options.assignments}
        kept = [text for text in file.assignments if text.partition("=")[0] not in given]
        request = replace(
            file,
            teachers=options.teachers or file.teachers,
            encoders=options.encoders or file.encoders,
            methods=options.methods or file.methods,
            seeds=options.seeds or file.seeds,
            with_baseline=options.with_baseline or file.with_baseline,
            assignments=(*kept, *options.assignments),
            sampler=options.sampler or file.sampler,
            trials=options.trials or file.trials,
            prune=options.prune or file.prune,
        )
    if request.sampler is None and (request.trials is not None or request.prune):
        what = "--trials" if request.trials is not None else "--prune"
        raise UsageError(f"{what} needs a sampler", where=what, allowed="with --sampler tpe; a grid trains all values")
    return request


def _options(store: RunStore, request: Request) -> dict[str, Any]:
    """The arguments that grids and sampled sweeps share."""
    from kdtui.launch.teachers import find_teachers
    from kdtui.profile.seeds import read_seeds

    chosen = find_teachers(list(request.teachers), store) if request.teachers else None
    if chosen is not None and chosen.note:
        say(chosen.note)
    return {
        "teacher": chosen,
        "methods": request.methods,
        "encoders": request.encoders,
        "seeds": () if request.seeds is None else read_seeds(request.seeds),
        "with_baseline": request.with_baseline,
    }


def _carry_out(
    store: RunStore,
    spec: Spec,
    tags: Sequence[str],
    *,
    retry: bool,
    yes: bool,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> None:
    from kdtui.cli.training import check_plan
    from kdtui.launch.groups import check_group
    from kdtui.store.state import State
    from kdtui.sweep.runs import RESTARTED, runs_of

    runs = runs_of(store, spec, spec.id)
    planned = check_group(store, runs.to_check)
    if dry_run and as_json:
        emit(planned.to_json() | {"sweep": spec.id, "states": runs.counts()})
    else:
        _show_plan(runs, planned, retry=retry, to_stdout=dry_run)
    check_plan(planned, strict=False)
    if dry_run:
        return
    _confirm(len(runs.missing), yes=yes)
    _launch(store, spec, (*RESTARTED, *((State.FAILED,) if retry else ())), tags=tags, detach=detach, as_json=as_json)


def _show_plan(runs: SweepRuns, planned: Plan, *, retry: bool, to_stdout: bool) -> None:
    from dataclasses import replace

    from kdtui.cli.training import show_plan
    from kdtui.store.state import State

    show_plan(replace(planned, runs=tuple(run for run in planned.runs if run.checks)), to_stdout=to_stdout)
    write = out if to_stdout else say
    for axis in runs.spec.axes:
        write(f"{axis.label}: {', '.join(axis.texts)}")
    seeds = ", ".join(map(str, runs.spec.seeds))
    size = f"{counted(runs.spec.size, 'cell')}, seed {seeds}"
    write(f"{size}{', with matched baselines' if runs.spec.with_baseline else ''}")
    states = ", ".join(f"{count} {word}" for word, count in runs.counts().items())
    time = _time(runs, planned)
    write(f"{counted(len(runs.members), 'run')}: {states}; {runs.at_once} at once{time}")
    failed = len(runs.in_state(State.FAILED))
    if failed and not retry:
        write(f"{counted(failed, 'failed run')} kept as {'it is' if failed == 1 else 'they are'}; --retry trains again")
    write(f"sweep {runs.id}")


def _time(runs: SweepRuns, planned: Plan) -> str:
    """The estimated time in total; empty if it is not known."""
    seconds = runs.eta_seconds
    if seconds is None and planned.eta_seconds is not None:
        seconds = planned.eta_seconds / runs.at_once
    return f", about {span(seconds)} in total" if seconds else ""


def _confirm(new: int, *, yes: bool) -> None:
    """Ask before many runs are started.

    Raises:
        UsageError: stdin is not a terminal.
        Interrupted: It was declined.
    """
    from kdtui.sweep.runs import MANY

    if yes or new <= MANY:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{new} runs need a confirmation: stdin is not a terminal",
            found=f"{new} new runs",
            allowed=f"up to {MANY} without",
            hint="--yes starts them without asking",
        )
    if not typer.confirm(f"start {new} runs?", err=True):
        raise Interrupted("nothing was started")


def _launch(
    store: RunStore, spec: Spec, states: Sequence[Any], *, tags: Sequence[str], detach: bool, as_json: bool
) -> None:
    """Make and launch runs, follow them unless ``detach``, and print the result."""
    from kdtui.cli.interrupts import interrupts
    from kdtui.cli.training import finish, follow_runs
    from kdtui.store.run import Run
    from kdtui.store.state import LIVE
    from kdtui.sweep.runs import launch, runs_of

    started: list[Run] = []

    def launched(run: Run) -> None:
        started.append(run)
        if not as_json:
            out(run.id)

    code, interrupted = Exit.OK, False
    with interrupts() as pressed:
        try:
            done = launch(
                store,
                spec,
                relaunch=states,
                tags=tags,
                on_start=launched,
                cancelled=lambda: pressed,
                waiting=lambda: say("another process makes runs of this sweep; waiting for it"),
            )
        except KdtuiError:
            if started:
                say(f"{counted(len(started), 'run')} started before the error and continue")
            raise
        _report(done)
        if not detach:
            others = [Run(row.path) for row in done.runs.in_state(*LIVE)]
            code, interrupted = follow_runs(store, started, others=others, pressed=pressed)
        elif pressed:
            code = Exit.INTERRUPTED
    if detach:
        say(f"kdtui sweep show {spec.id} shows its results")
    if as_json or not (detach or interrupted):
        _print(runs_of(store, spec, spec.id), SweepFormat.json if as_json else SweepFormat.text)
    finish(code)


def _report(done: Launched) -> None:
    """Print what the request did."""
    from kdtui.store.state import State

    parts = [counted(len(done.new), "new run")] if done.new else []
    parts += [f"{len(done.again)} launched again"] if done.again else []
    say(f"sweep {done.folder.id}: {', '.join(parts) or 'nothing is missing'}")
    stopped = [row for row in done.runs.in_state(State.STOPPED) if row.id not in {run.id for run in done.again}]
    if stopped:
        say(f"{counted(len(stopped), 'run')} stopped; kdtui sweep resume {done.folder.id} continues")


def _print(runs: SweepRuns, form: SweepFormat, **choice: Any) -> None:
    from kdtui.sweep import render
    from kdtui.sweep.heatmap import heat_map

    grid = heat_map(runs, **choice)
    if form is SweepFormat.json:
        emit(render.to_json(grid))
    elif form is SweepFormat.csv:
        out(render.to_csv(grid))
    elif form is SweepFormat.markdown:
        out(render.to_markdown(grid))
    else:
        for line in render.to_text(grid, columns(sys.stdout) or shutil.get_terminal_size().columns):
            out(line)


def list_sweeps(wide: Wide = False, as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the sweeps, oldest first."""
    from kdtui.sweep.listing import sweep_rows

    store = open_store(runs_dir)
    rows = sweep_rows(store)
    if as_json:
        emit([row.to_json() for row in rows])
    elif rows:
        header = ["", "sweep", "runs", "finished", "eta", "best", "keys"]
        cells = [row.cells() for row in rows]
        table(header, cells, right=frozenset(header[2:6]), drop=("eta",), below=True, wide=wide)
    else:
        say(f"no sweeps in {store.root}; kdtui sweep PROFILE --temperature 1,2,4 makes one")


def show(
    sweep: SweepName,
    rows: Annotated[
        str | None,
        typer.Option("--rows", metavar="KEY", help="Key of the rows; default: the first.", show_default=False),
    ] = None,
    columns_key: Annotated[
        str | None,
        typer.Option("--columns", metavar="KEY", help="Key of the columns; default: the next.", show_default=False),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="KEY=VALUE", help="Fix a key, instead of the mean over it; repeatable."),
    ] = None,
    form: Annotated[
        SweepFormat | None, typer.Option("--format", help="Output format; default text.", show_default=False)
    ] = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show the results of a sweep: a grid over two of its keys with the best cell, or the trials of a sampled one."""
    from kdtui.sweep.folder import SAMPLED
    from kdtui.sweep.runs import runs_of
    from kdtui.sweep.spec import from_tables

    chosen = one_form(form, SweepFormat.json if as_json else None, SweepFormat.text)
    store = open_store(runs_dir)
    folder = _find(store, sweep)
    if folder.kind == SAMPLED:
        from kdtui.cli.sampled import print_results

        if rows or columns_key or at:
            raise UsageError(
                "a sampled sweep has trials, not a grid",
                where="--rows, --columns, --at",
                hint=f"`kdtui sweep show {folder.id}` lists the trials",
            )
        print_results(store, folder, chosen)
        return
    spec = from_tables(folder)
    fixed: dict[str, Any] = {}
    for text in at or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError("not a key with its value", where="--at", found=text, allowed="KEY=VALUE")
        fixed[key.strip()] = value.strip()
    _print(runs_of(store, spec, folder.id), chosen, rows=rows, columns=columns_key, at=fixed)


def stop(
    sweep: SweepName,
    kill: Annotated[bool, typer.Option("--kill", help="Kill the processes at once; nothing is saved.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Request that all runs of a sweep save their state and stop; queued ones do not start."""
    from kdtui.cli import controlled
    from kdtui.sweep.folder import SAMPLED
    from kdtui.sweep.runs import stop as stop_sweep

    store = open_store(runs_dir)
    folder = _find(store, sweep)
    if folder.kind == SAMPLED:
        controlled.stop(store, folder, kill=kill)
        return
    stopped, errors = stop_sweep(
        store, folder, kill=kill, waiting=lambda: say("another process makes runs of this sweep; waiting for it")
    )
    controlled.report_stopped(folder, stopped, errors, kill=kill)


def resume(
    sweep: SweepName,
    retry: Annotated[bool, typer.Option("--retry", help="Launch failed runs again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", help="Print the id of each run and return at once; the run continues in the background."
        ),
    ] = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Continue a sweep: launch stopped and lost runs again, and make missing ones."""
    from kdtui.store.state import State
    from kdtui.sweep.folder import SAMPLED
    from kdtui.sweep.runs import RESTARTED, runs_of
    from kdtui.sweep.spec import from_tables

    store = open_store(runs_dir)
    folder = _find(store, sweep)
    if folder.kind == SAMPLED:
        from kdtui.cli.sampled import resume as resume_sampled

        resume_sampled(store, folder, retry=retry, detach=detach, as_json=as_json)
        return
    spec = from_tables(folder)
    _confirm(len(runs_of(store, spec, folder.id).missing), yes=yes)
    states = (*RESTARTED, State.STOPPED, *((State.FAILED,) if retry else ()))
    _launch(store, spec, states, tags=(), detach=detach, as_json=as_json)


def _find(store: RunStore, text: str) -> SweepFolder:
    from kdtui.sweep.folder import find

    return find(store.root, text)
