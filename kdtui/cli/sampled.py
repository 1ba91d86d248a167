"""Sampled sweeps on the command line: their plan, start and results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdtui.cli.console import emit, out, say, table
from kdtui.text import counted, span

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan
    from kdtui.store.store import RunStore
    from kdtui.sweep.folder import SweepFolder
    from kdtui.sweep.sampled.results import SampledRuns
    from kdtui.sweep.sampled.spec import SampledSpec


def carry_out(
    store: RunStore,
    spec: SampledSpec,
    trials: int | None,
    tags: Sequence[str],
    *,
    retry: bool,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Check a sampled sweep, start its controller and follow it."""
    from kdtui.cli.training import check_plan
    from kdtui.sweep.sampled import control
    from kdtui.sweep.sampled.optional import check_installed
    from kdtui.sweep.sampled.spec import check_trials, trials_of_sweep

    wanted = check_trials(trials or trials_of_sweep(store.root, spec), spec)
    check_installed()
    planned = check(store, spec)
    if dry_run and as_json:
        emit(planned.to_json() | {"sweep": spec.id, "trials": wanted})
    else:
        _show_plan(spec, wanted, planned, to_stdout=dry_run)
    check_plan(planned, strict=False)
    if dry_run:
        return
    folder, started = control.begin(store, spec, wanted, tags=tags, retry=retry)
    _attend(store, folder, started=started, detach=detach, as_json=as_json)


def check(store: RunStore, spec: SampledSpec) -> Plan:
    """The plan of some trials, which the engine checks: each value of a list, and the middle of each range."""
    from kdtui.launch.groups import check_group, plan_group

    return check_group(store, plan_group(store, [cell.profile for cell in spec.examples()], seeds=spec.seeds[:1]))


def _show_plan(spec: SampledSpec, trials: int, planned: Plan, *, to_stdout: bool) -> None:
    from kdtui.cli.training import show_plan
    from kdtui.launch.slots import place
    from kdtui.sweep.spec import label_of

    show_plan(planned, to_stdout=to_stdout)
    write = out if to_stdout else say
    for axis in spec.axes:
        write(f"{label_of(axis.key)}: {axis.text}")
    training = spec.base.training
    slots = place(training.accelerator, training.devices)
    at_once = max(1, min(trials, len(slots.names) // slots.needed))
    runs = trials * len(spec.seeds)
    seconds = [run.eta_seconds for run in planned.runs if run.eta_seconds is not None]
    time = f", about {span(sum(seconds) / len(seconds) * runs / at_once)} in total" if seconds else ""
    seeds = f"seed {', '.join(map(str, spec.seeds))}"
    pruned = ", worse ones pruned" if spec.prune else ""
    baseline = ", with the matched baseline of the best" if spec.with_baseline else ""
    write(f"{counted(trials, 'trial')} by {spec.sampler}{pruned}, {seeds}{baseline}; {at_once} at once{time}")
    write(f"sweep {spec.id}")


def resume(store: RunStore, folder: SweepFolder, *, retry: bool, detach: bool, as_json: bool) -> None:
    """Continue a sampled sweep."""
    from kdtui.sweep.sampled.control import start

    _attend(store, folder, started=start(folder, retry=retry), detach=detach, as_json=as_json)


def _attend(store: RunStore, folder: SweepFolder, *, started: bool, detach: bool, as_json: bool) -> None:
    """Follow the controller unless ``detach``."""
    from kdtui.cli.controlled import follow

    if not started:
        say(f"{folder.id} is running already")
    if detach:
        out(folder.id)
        say(f"kdtui sweep show {folder.id} shows its results")
        return
    follow(folder, lambda: print_results(store, folder, "json" if as_json else "text"))


def print_results(store: RunStore, folder: SweepFolder, form: str) -> None:
    """Print a sampled sweep in a format of ``kdtui sweep show``."""
    from kdtui.sweep.sampled import render
    from kdtui.sweep.sampled.results import SampledReader

    runs = SampledReader(store, folder).read()
    if form == "json":
        emit(render.to_json(runs))
    elif form == "csv":
        out(render.to_csv(runs))
    elif form == "markdown":
        out(render.to_markdown(runs))
    else:
        _print_text(runs)


def _print_text(runs: SampledRuns) -> None:
    from kdtui.sweep.sampled import render

    for line in (runs.id, render.title(runs), render.progress(runs)):
        out(line, prose=True)
    out()
    if runs.trials:
        header = render.header(runs)
        pruned = frozenset(place for place, trial in enumerate(runs.trials) if trial.outcome == "pruned")
        rows = [render.row(runs, trial) for trial in runs.trials]
        table(header, rows, right=frozenset(header[1:-2]), dim=pruned, drop=("epoch", "run"))
        out()
    for line in (*render.best_lines(runs), render.importance_line(runs), *render.state_lines(runs)):
        out(line, prose=True)
