"""From a digest, the clock and a look at the processes to the row that is shown."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from kdtui.store.digest import Digest
from kdtui.store.names import printable
from kdtui.store.reading import reading
from kdtui.store.run import Run
from kdtui.store.state import Alive, Facts, Liveness, QueuePlace, RunSummary, State, derive

SILENT = 120.0
"""Seconds without an event after which a running run is shown as silent."""


def summarize(run: Run, digest: Digest, alive: Alive, now: float) -> RunSummary:
    """The row of ``run``."""
    over = digest.word is not None or not digest.launched
    liveness = Liveness.UNKNOWN if over else alive(digest.host, digest.identities)
    if liveness is Liveness.DEAD and _of_another_user(run.launch_path):
        liveness = _ask_the_lock(run)
    last_event = digest.shown["last_event"]
    silent = None if last_event is None else max(0.0, now - last_event)
    heard = silent
    if liveness is Liveness.UNKNOWN and not over:
        beat = _modified(run.beat_path)
        signs = [age for age in (silent, None if beat is None else max(0.0, now - beat)) if age is not None]
        heard = min(signs, default=None)
    state = derive(
        Facts(launched=digest.launched, started=digest.started, word=digest.word, alive=liveness, silent=heard)
    )
    details = [*digest.problems, _detail(state, digest, liveness, silent, heard)]
    shown = dict(digest.shown)
    channels = shown.get("decoder_channels")
    shown["decoder_channels"] = tuple(channels) if isinstance(channels, list) else channels
    shown["tags"], shown["warnings"] = tuple(shown["tags"]), tuple(shown["warnings"])
    waits = state is State.QUEUED and not digest.spawned and liveness is not Liveness.SUSPENDED
    eta = None
    if state is State.RUNNING and digest.steps_left is not None and digest.seconds_per_step is not None:
        eta = digest.steps_left * digest.seconds_per_step
    return RunSummary(
        id=printable(run.id),
        path=run.path,
        state=state,
        detail="; ".join(detail for detail in details if detail),
        eta_seconds=eta,
        waiting_since=digest.queue_key if waits else None,
        **shown,
    )


def placed(row: RunSummary, places: Mapping[str, QueuePlace]) -> RunSummary:
    """A waiting row with its place in the queue of this machine; unchanged where that is not known."""
    place = places.get(row.path.name)
    if place is None:
        return row
    if place.number == 0:
        return replace(row, detail=place.reason, waiting_since=None)
    words = [f"{row.detail}, number {place.number} in line", place.reason]
    return replace(row, detail="; ".join(filter(None, words)), place=place.number)


def number_the_queue(rows: Iterable[RunSummary]) -> dict[str, RunSummary]:
    """The waiting ones of ``rows`` by id, each told its place: one line per host and kind of device.

    Of another host, and of supervisors of an older version, the queue is what the rows say.

    Args:
        rows: All rows of a store, as :func:`summarize` made them.
    """
    waiting = sorted((row.waiting_since, row.id, row) for row in rows if row.waiting_since is not None)
    places: dict[tuple[str | None, str | None], int] = {}
    numbered = {}
    for _, run_id, row in waiting:
        line = (row.host, row.device)
        places[line] = places.get(line, 0) + 1
        if row.place is not None:
            numbered[run_id] = row
            continue
        detail = f"{row.detail}, number {places[line]} in line"
        numbered[run_id] = replace(row, detail=detail, place=places[line])
    return numbered


def _detail(state: State, digest: Digest, liveness: Liveness, silent: float | None, heard: float | None) -> str:
    host = printable(digest.host) or "unknown"
    suspended = liveness is Liveness.SUSPENDED
    if state is State.QUEUED and suspended:
        return "suspended" if digest.spawned else "suspended, passed over"
    if state is State.QUEUED:
        return "starting" if digest.spawned else f"waits for a {printable(digest.device) or 'device'} slot"
    if state is State.RUNNING and suspended:
        return "suspended"
    if state is State.RUNNING:
        return f"silent {_span(silent)}" if silent is not None and silent >= SILENT else ""
    if state is State.LOST and liveness is Liveness.UNKNOWN:
        since = "" if heard is None else f" {_span(heard)}"
        return f"host {host} silent{since}; it may still run there"
    if state is State.LOST:
        return "the processes exited without reporting a result"
    return digest.detail


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} d"


def _of_another_user(path: Path) -> bool:
    """Whether another user launched the run: such processes may be hidden (``hidepid``) and look gone."""
    try:
        return path.stat().st_uid != os.geteuid()
    except OSError:
        return False


def _ask_the_lock(run: Run) -> Liveness:
    """Whether a process holds the run's lock, as supervisor and ranks do; unknown where it may not be opened."""
    try:
        with reading(run.beat_path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Liveness.ALIVE
    except FileNotFoundError:
        return Liveness.DEAD
    except OSError:
        return Liveness.UNKNOWN
    return Liveness.DEAD


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:  # no beat: the events alone tell
        return None
