"""Controllers of sweeps and searches, seen from outside: start one, its state, and stopping it.

A controller is one detached process (:mod:`kdtui.sweep.controller`) with the lock, launch record, events, stop file and
log that a run has, in the folder of its sweep.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from kdtui.errors import KdtuiError, LaunchError, StoreError, UsageError
from kdtui.events import Exited, Failed, Finished, Stopped
from kdtui.launch.alive import probe
from kdtui.launch.engine_process import check_program
from kdtui.launch.local import kill_processes, start_detached, take_lock
from kdtui.launch.shared_folder import machine_folder
from kdtui.launch.start import ENDING
from kdtui.store.identity import hostname
from kdtui.store.run import Run
from kdtui.store.scan import scan
from kdtui.store.state import LIVE, Facts, Liveness, State, derive
from kdtui.store.store import RunStore
from kdtui.sweep.folder import SweepFolder
from kdtui.sweep.runs import stop as stop_runs


@dataclass(frozen=True)
class ControllerState:
    """What a controller does.

    Attributes:
        reason: Why it stopped, or how it finished; empty otherwise.
        error: Why it failed; empty otherwise.
        hint: What to do then.
    """

    state: State
    reason: str = ""
    error: str = ""
    hint: str | None = None

    @property
    def live(self) -> bool:
        """Whether it is running."""
        return self.state in LIVE


def files_of(folder: SweepFolder) -> Run:
    """The controller's lock, launch record, events, stop file and log, which are named and formed like a run's."""
    return Run(folder.path)


def controller_state(folder: SweepFolder) -> ControllerState:
    """The state of the controller, derived from its launch record, its events and its process."""
    found = scan(files_of(folder).events_path)
    try:
        record = files_of(folder).launch_record()
    except StoreError:  # damaged: the events alone tell
        record = None
    own = record is None or found.attempt is None or found.attempt >= record.attempt
    word = found.word if own else None
    exited: Exited | None = found.exited if own else None
    facts = Facts(
        launched=record is not None or found.last_event is not None,
        started=True,  # it waits for no slot
        word=word.kind if word is not None else "exited" if exited is not None else None,
        alive=Liveness.UNKNOWN if record is None else probe(record),
        silent=None if found.last_event is None else max(0.0, time.time() - found.last_event),
    )
    state = derive(facts)
    if isinstance(word, Failed):
        return ControllerState(state, error=word.message, hint=word.hint)
    if isinstance(word, Finished | Stopped):
        return ControllerState(state, reason=word.reason)
    if state is State.LOST:
        return ControllerState(state, reason="its process exited without reporting a result")
    return ControllerState(state)


def start(folder: SweepFolder, *, retry: bool = False) -> bool:
    """Start the controller; of several processes that do so at once, one starts it.

    Args:
        folder: The folder of the sweep or search.
        retry: Whether failed runs are trained again.

    Returns:
        Whether this call started it; False if it is running already.

    Raises:
        LaunchError: It could not be started.
    """
    check_program()
    machine_folder().close()  # raises here, before anything is started, if the folder cannot be used
    run = files_of(folder)
    deadline = time.monotonic() + ENDING
    while (lock := take_lock(run)) is None:
        if controller_state(folder).live or time.monotonic() > deadline:
            return False
        time.sleep(0.05)  # it has reported its result, and its process is exiting
    try:
        former = scan(run.events_path).attempt or 0
        record = _record_attempt(folder)
        run.clear_stop()
        order = {"attempt": max(former, record) + 1, "retry": retry, "created": time.time()}
        start_detached("kdtui.sweep.controller", run, order, lock, resume=f"kdtui {folder.verb} resume {folder.id}")
    finally:
        os.close(lock)
    return True


def _record_attempt(folder: SweepFolder) -> int:
    try:
        record = files_of(folder).launch_record()
    except StoreError:  # damaged: this start replaces it
        return 0
    return 0 if record is None else record.attempt


def stop(folder: SweepFolder) -> None:
    """Request that the controller stops its runs, which save their state, and ends.

    Raises:
        UsageError: It is not running.
        StoreError: The stop file could not be written.
    """
    state = controller_state(folder)
    if not state.live:
        what = f"nothing to stop: this {folder.verb} is not running"
        raise UsageError(what, where=folder.id, found=state.state.word.lower())
    files_of(folder).request_stop()


def stop_all(store: RunStore, folder: SweepFolder, *, kill: bool = False) -> tuple[list[Run], list[KdtuiError]]:
    """Stop the controller and its runs; also runs that a lost controller left running.

    Args:
        store: The run store.
        folder: The folder of the sweep or search.
        kill: Whether the runs are killed instead of saving their state; then it returns once all processes have ended.

    Returns:
        The runs that were stopped by this call, not by the controller, and the errors of others.

    Raises:
        UsageError: Neither the controller nor one of its runs is running.
        LaunchError: The controller did not end.
    """
    live = controller_state(folder).live
    if live and not kill:
        stop(folder)
        return [], []
    if live:
        _kill(folder)
    stopped: list[Run] = []
    errors: list[KdtuiError] = []
    deadline = time.monotonic() + ENDING
    while True:
        try:
            more, failures = stop_runs(store, folder, kill=kill)
        except UsageError:
            if not (live or stopped):
                raise
            more, failures = [], []
        stopped += more
        errors += [error for error in failures if not isinstance(error, UsageError)]  # that one has just ended
        if not kill or errors or time.monotonic() > deadline or not _starting(store, folder):
            return stopped, errors
        time.sleep(0.05)


def _kill(folder: SweepFolder) -> None:
    """Kill the controller of this machine with what it measures or exports; on another host, request a stop."""
    import psutil  # takes 15 ms

    run = files_of(folder)
    record = run.launch_record()
    if record is None or record.host != hostname():
        stop(folder)
        return
    try:
        children = psutil.Process(record.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    kill_processes(run)
    for child in children:  # not the runs, which init has adopted
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _starting(store: RunStore, folder: SweepFolder) -> bool:
    """Whether a run has a process that has not reported itself yet."""
    for row in store.summaries():
        if row.sweep == folder.id and row.state in (State.NEVER_LAUNCHED, State.STOPPED, State.LOST):
            lock = take_lock(Run(row.path))
            if lock is None:
                return True
            os.close(lock)
    return False


def failure(state: ControllerState) -> LaunchError | None:
    """The error of a failed controller; None if it did not fail."""
    return LaunchError(state.error, hint=state.hint) if state.error else None
