"""What commands that train share: printing and checking a plan, following launched runs, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import typer

from kdtui.cli.console import Exit, next_step, out, say
from kdtui.cli.layout import hanging
from kdtui.errors import EngineError
from kdtui.profile.find import OF_RUN
from kdtui.text import counted, giga, span

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan
    from kdtui.store.run import Run
    from kdtui.store.state import RunSummary
    from kdtui.store.store import RunStore


@dataclass(frozen=True)
class TrainOptions:
    """What ``train`` and ``distill`` do with prepared profiles; see their options.

    Attributes:
        then: Called with the runs that finished.
    """

    tags: Sequence[str] = ()
    dry_run: bool = False
    strict: bool = False
    detach: bool = False
    keep_going: bool = False
    as_json: bool = False
    then: Callable[[Sequence[Run]], None] | None = None


def check_plan(planned: Plan, *, strict: bool) -> None:
    """Exit if a check failed.

    Raises:
        EngineError: The plan has warnings and ``strict`` is set.
    """
    if not planned.ok:
        raise typer.Exit(Exit.ENGINE)
    doubtful = sum(len(run.warnings) for run in planned.runs)
    if strict and doubtful:
        raise EngineError(
            "the plan has warnings, so --strict starts nothing",
            found=counted(doubtful, "warning"),
            hint="change what they name, or omit --strict",
        )


def attend(store: RunStore, runs: Sequence[Run]) -> Exit:
    """Follow launched runs in the foreground; Ctrl-C requests a stop, a second one kills them.

    Returns:
        ``OK`` if every run finished, ``ENGINE`` if one failed or is lost, ``INTERRUPTED`` if one was stopped.
    """
    return follow_runs(store, runs)[0]


def follow_runs(
    store: RunStore,
    runs: Sequence[Run],
    *,
    others: Sequence[Run] = (),
    on_end: Callable[[RunSummary], None] = lambda summary: None,
    pressed: list[int] | None = None,
) -> tuple[Exit, bool]:
    """The exit code of :func:`attend`, and whether Ctrl-C was pressed.

    Args:
        store: The store of the runs.
        runs: Launched runs.
        others: Runs that are followed too, but neither stopped by Ctrl-C nor part of the exit code.
        on_end: See :func:`kdtui.cli.follow.follow`.
        pressed: See there.
    """
    from kdtui.cli.follow import follow
    from kdtui.launch.targets import launcher_of
    from kdtui.store.state import LIVE, State

    asked = 0

    def interrupt(count: int) -> None:
        nonlocal asked
        asked = count
        say("saving and stopping (press Ctrl-C again to kill)" if count == 1 else "killing")
        for run in runs:
            if store.summary(run).state in LIVE:
                launcher_of(run, store).stop(run, kill=count > 1)

    summaries = follow(store, runs, others=others, on_interrupt=interrupt, on_end=on_end, pressed=pressed)
    if asked:
        for summary in summaries:
            say(f"kdtui resume {summary.id} continues it")
        return Exit.INTERRUPTED, True
    for summary in summaries:
        if summary.state in (State.FAILED, State.LOST):
            if summary.hint:
                say(f"  next: {next_step(summary.hint)}")
            say(f"kdtui logs {summary.id} shows its log")
        elif summary.state is State.STOPPED:
            say(f"kdtui resume {summary.id} continues it")
    states = {summary.state for summary in summaries}
    if states & {State.FAILED, State.LOST}:
        return Exit.ENGINE, False
    return (Exit.INTERRUPTED if State.STOPPED in states else Exit.OK), False


def finish(code: Exit) -> None:
    """Exit with the code unless it is 0."""
    if code is not Exit.OK:
        raise typer.Exit(code)


def show_plan(planned: Plan, *, to_stdout: bool) -> None:
    """Print the plan as text: to stdout if it is the result of the command, otherwise to stderr."""
    from kdtui.launch.plan import merged

    write = partial(out, prose=True) if to_stdout else say
    for run in planned.runs:
        size = "" if run.parameters is None else f", {run.parameters / 1e6:.2f} M parameters"
        work = "" if run.macs is None else f", {giga(run.macs)} MACs"
        smaller = "" if run.compression is None else f" ({run.compression:.1f}x smaller than the teacher)"
        count = counted(run.epochs, "epoch") + (f" after {run.epochs_done} completed" if run.epochs_done else "")
        time = f", about {span(run.eta_seconds)} (estimated from {run.eta_from})" if run.eta_seconds is not None else ""
        write(f"{run.name}: {run.encoder}{size}{work}{smaller}, seed {run.seed}, {count}{time}")
        if run.teacher:
            first = ", which has to finish first" if run.teacher.startswith(OF_RUN) else ""
            write(f"  teacher {run.teacher}{first}")
        for check in merged(run.checks):
            if to_stdout or not check.ok:
                write(f"  {'ok  ' if check.ok else 'FAIL'} {check.name}: {hanging(check.message, 7)}")
                if check.hint and not check.ok:
                    write(f"       next: {next_step(check.hint)}")
        for warning in run.warnings:
            write(f"  WARN {warning.message}")
            if warning.hint:
                write(f"       next: {next_step(warning.hint)}")
