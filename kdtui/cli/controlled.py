"""Following and stopping the controller of a sampled sweep or a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from kdtui.cli.console import Exit, report, say
from kdtui.cli.training import finish

if TYPE_CHECKING:
    from kdtui.errors import KdtuiError
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore
    from kdtui.sweep.folder import SweepFolder


def follow(folder: SweepFolder, results: Callable[[], None]) -> None:
    """Print what the controller reports until it ends, then the results; Ctrl-C stops it.

    Args:
        folder: The folder of the sweep or search.
        results: Prints the results.

    Raises:
        typer.Exit: It failed or was stopped.
    """
    from kdtui.cli.interrupts import interrupts
    from kdtui.events import Noted
    from kdtui.store.event_log import Tail
    from kdtui.store.state import State
    from kdtui.sweep.controlled import controller_state, files_of, stop

    tail = Tail(files_of(folder).events_path)
    tail.read()  # what was reported before this command
    asked = False
    with interrupts() as pressed:
        while True:
            state = controller_state(folder)
            for event in tail.read():
                if isinstance(event, Noted):
                    say(event.message)
            if not state.live:
                break
            if pressed and not asked:
                asked = True
                say("saving and stopping")
                stop(folder)
            elif len(pressed) > 1:
                say(f"{folder.id} continues in the background until its runs have stopped")
                break
            time.sleep(0.2)
    results()
    if state.error:
        say(f"error: {state.error}")
        if state.hint:
            say(f"  next: {state.hint}")
    elif state.state in (State.STOPPED, State.LOST):
        say(f"kdtui {folder.verb} resume {folder.id} continues it")
    finish(Exit.ENGINE if state.error or state.state is State.LOST else Exit.INTERRUPTED if asked else Exit.OK)


def stop(store: RunStore, folder: SweepFolder, *, kill: bool) -> None:
    """Stop the controller and its runs, which save their state unless they are killed.

    Raises:
        typer.Exit: A run could not be stopped.
    """
    from kdtui.sweep.controlled import stop_all

    report_stopped(folder, *stop_all(store, folder, kill=kill), kill=kill)


def report_stopped(folder: SweepFolder, stopped: Sequence[Run], errors: Sequence[KdtuiError], *, kill: bool) -> None:
    """Print which runs of a sweep or search were stopped or killed.

    Raises:
        typer.Exit: A run could not be stopped.
    """
    for run in stopped:
        say(f"{run.id}: {'killed' if kill else 'stop requested'}")
    for error in errors:
        report(error)
    say(f"{'killed' if kill else 'stopping'} {folder.id}; `kdtui {folder.verb} resume {folder.id}` continues it")
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))
