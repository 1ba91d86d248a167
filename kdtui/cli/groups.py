"""``--seeds``, ``--with-baseline`` and ``--equal-time``: start runs together, follow them and compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdtui.cli.compare import comparison_of, print_comparison
from kdtui.cli.console import Exit, emit, out, say
from kdtui.cli.interrupts import interrupts
from kdtui.cli.training import TrainOptions, check_plan, finish, follow_runs, show_plan
from kdtui.errors import KdtuiError, UsageError
from kdtui.launch.groups import Group, check_group, plan_group, start_group
from kdtui.launch.slots import place
from kdtui.profile.seeds import read_seeds
from kdtui.store.run import Run
from kdtui.store.state import LIVE, State
from kdtui.text import counted, span

if TYPE_CHECKING:
    from kdtui.launch.equal_time import EqualTime
    from kdtui.launch.plan import Plan
    from kdtui.profile import Profile
    from kdtui.store.state import RunSummary
    from kdtui.store.store import RunStore


def check_options(
    seeds: str | None, assignments: Sequence[str], others: Mapping[str, Any], *, with_baseline: bool
) -> None:
    """Check the options that are given together with ``--seeds``, ``--with-baseline`` or ``--equal-time``.

    Args:
        seeds: Value of ``--seeds``.
        assignments: ``KEY=VALUE`` texts of ``--set`` and of options that set keys.
        others: Options that exclude these, and their values.
        with_baseline: Value of ``--with-baseline``.

    Raises:
        UsageError: Two of them exclude each other.
    """
    ours = "--seeds" if seeds is not None else "--with-baseline" if with_baseline else "--equal-time"
    if seeds is not None and any(text.partition("=")[0].strip() == "seed" for text in assignments):
        others = {**others, "--seed": True}
    for flag, value in others.items():
        if value:
            raise UsageError(f"{ours} and {flag} exclude each other", hint=f"omit {flag}")


def train_group(
    store: RunStore,
    profiles: Sequence[Profile],
    options: TrainOptions,
    seeds: str | None,
    *,
    with_baseline: bool,
    equal_time: EqualTime | None,
) -> None:
    """Start all runs of a group, follow them and compare them."""
    from kdtui.cli.runs import run_json
    from kdtui.launch.teachers import check_tags

    check_tags(options.tags)
    each = () if seeds is None else read_seeds(seeds)
    group = plan_group(store, profiles, seeds=each, with_baseline=with_baseline, equal_time=equal_time)
    planned = check_group(store, group)
    if options.dry_run and options.as_json:
        ids = {
            "groups": list(dict.fromkeys(run.group for run in group.runs)),
            "reused": [row.id for row in group.reused],
        }
        emit(planned.to_json() | ids)
    else:
        _show(group, planned, to_stdout=options.dry_run)
    check_plan(planned, strict=options.strict)
    if options.dry_run:
        return
    reused = [Run(row.path) for row in group.reused]
    code, interrupted = Exit.OK, False
    with interrupts() as pressed:
        runs = _start(store, group, options, pressed)
        if not options.detach:
            code, interrupted = _follow(store, runs, reused, pressed, keep_going=options.keep_going)
        elif pressed:
            code = Exit.INTERRUPTED
    summaries = store.summaries([*runs, *reused])
    if options.as_json:
        emit([run_json(summary) for summary in summaries])
    elif options.detach:
        say(f"kdtui compare {' '.join(dict.fromkeys(run.group for run in group.runs))} compares them")
    elif not interrupted:
        print_comparison(comparison_of(store, [*runs, *reused]))
    if options.then is not None:
        options.then([run for run, row in zip(runs, summaries, strict=False) if row.state is State.FINISHED])
    finish(code)


def _show(group: Group, planned: Plan, *, to_stdout: bool) -> None:
    """Print the checks of each profile, then the runs in a few lines."""
    show_plan(replace(planned, runs=tuple(run for run in planned.runs if run.checks)), to_stdout=to_stdout)
    write = out if to_stdout else say
    seeds: dict[str, list[str]] = {}
    for run in group.new:
        seeds.setdefault(run.profile.name, []).append(str(run.profile.seed))
    for name, each in seeds.items():
        write(f"{counted(len(each), 'run')} of {name}: seed {', '.join(each)}")
    for note in group.notes():
        write(note)
    if planned.runs:
        training = group.new[0].profile.training
        slots = place(training.accelerator, training.devices)
        at_once = max(1, min(len(planned.runs), len(slots.names) // slots.needed))
        total = planned.eta_seconds
        time = "" if total is None else f", about {span(total / at_once)} in total"
        write(f"{counted(len(planned.runs), 'new run')}, {at_once} at once on the {slots.device.upper()}{time}")
    write(f"group {', '.join(dict.fromkeys(run.group for run in group.runs))}")


def _start(store: RunStore, group: Group, options: TrainOptions, pressed: Sequence[int]) -> list[Run]:
    """Launch the new runs until Ctrl-C is pressed; print the id of each."""
    started: list[Run] = []

    def launched(run: Run) -> None:
        started.append(run)
        if not options.as_json:
            out(run.id)

    try:
        return start_group(
            store, group, tags=options.tags, origin="kdtui train", on_start=launched, cancelled=lambda: pressed
        )
    except KdtuiError:
        if started:
            say(f"{counted(len(started), 'run')} started before the error and continue")
        raise


def _follow(
    store: RunStore, runs: Sequence[Run], reused: Sequence[Run], pressed: list[int], *, keep_going: bool
) -> tuple[Exit, bool]:
    """Follow the new runs and reused ones that are not finished; without ``keep_going`` a failure cancels the queue."""

    def ended(summary: RunSummary) -> None:
        if keep_going or summary.state is State.FINISHED:
            return
        queued = [run for run, row in zip(runs, store.summaries(runs), strict=True) if row.state is State.QUEUED]
        for run in queued:
            run.request_stop()
        if queued:
            say(f"stopping {counted(len(queued), 'queued run')}; --keep-going trains them all the same")

    waiting = [run for run, row in zip(reused, store.summaries(reused), strict=True) if row.state in LIVE]
    return follow_runs(store, runs, others=waiting, on_end=ended, pressed=pressed)
