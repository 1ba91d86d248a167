"""The runs of a sweep: which exist, which are missing, and making and launching them under the sweep's lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdtui.errors import KdtuiError, StoreError, UsageError
from kdtui.launch.groups import Group, GroupRun, plan_group, start_group
from kdtui.launch.slots import place
from kdtui.launch.targets import launcher_of
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.sweep.folder import BASELINE, STUDENT, SweepFolder, create, manifest_entry
from kdtui.sweep.spec import Cell, Spec, affects_baseline, run_name

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore

RESTARTED = (State.NEVER_LAUNCHED, State.LOST)
"""States of runs that are launched again with every request: no user stopped them."""


MANY = 64
"""Most new runs that are started without a confirmation: each waits in the queue as a process of its own."""
_ALIKE = ("distillation.temperature", "distillation.alpha")
"""Keys of which one value is checked: the checks of all others have the same result."""


@dataclass(frozen=True)
class Member:
    """A run that belongs to a sweep, made or missing.

    Attributes:
        planned: Its profile and group, with the entry of the sweep in the manifest.
        run: The run, or one of the store that serves as this baseline; None for a missing one.
    """

    planned: GroupRun
    run: RunSummary | None

    @property
    def role(self) -> str:
        """``student`` for a run of a cell, or ``baseline``."""
        return BASELINE if self.planned.baseline else STUDENT

    @property
    def cell(self) -> Mapping[str, Any]:
        """Value by key; of a baseline, only of keys that it depends on."""
        values: Mapping[str, Any] = (self.planned.sweep or {})["cell"]
        return values

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.planned.profile.seed


@dataclass(frozen=True)
class SweepRuns:
    """All runs of a sweep, by seed, in the order of the cells."""

    id: str
    spec: Spec
    members: tuple[Member, ...]

    @property
    def missing(self) -> tuple[Member, ...]:
        """The runs that do not exist."""
        return tuple(member for member in self.members if member.run is None)

    @property
    def to_check(self) -> Group:
        """The missing runs, grouped so that the engine checks one run of each student, method and other key."""
        groups: dict[tuple[object, ...], str] = {}
        members = []
        for member in self.missing:
            key = tuple((name, str(value)) for name, value in member.cell.items() if name not in _ALIKE)
            group = groups.setdefault(key, member.planned.group)
            members.append(replace(member.planned, group=group, reused=None))
        return Group(tuple(members))

    def in_state(self, *states: State) -> list[RunSummary]:
        """The runs in one of some states."""
        return [member.run for member in self.members if member.run is not None and member.run.state in states]

    def counts(self) -> dict[str, int]:
        """Number of runs by state, with ``missing``; in the order of the states."""
        counts = {state.word.lower(): len(self.in_state(state)) for state in State}
        return {word: count for word, count in {**counts, "missing": len(self.missing)}.items() if count}

    @property
    def at_once(self) -> int:
        """How many of them this machine trains at once."""
        training = self.spec.base.training
        slots = place(training.accelerator, training.devices)
        return max(1, min(len(self.members), len(slots.names) // slots.needed))

    @property
    def eta_seconds(self) -> float | None:
        """Time until all queued, running and missing runs are finished; None without a run to estimate it from."""
        rows = [member.run for member in self.members if member.run is not None]
        return time_left(rows, len(self.missing), self.at_once)


def time_left(rows: Sequence[RunSummary], missing: int, at_once: int) -> float | None:
    """Time until runs have ended; None without a run to estimate it from.

    Args:
        rows: The runs that exist.
        missing: How many more there will be.
        at_once: How many are trained at once.
    """
    training = [row for row in rows if row.state is State.RUNNING]
    running = [row.eta_seconds for row in training if row.eta_seconds is not None]
    waiting = missing + sum(row.state in (State.QUEUED, *RESTARTED) for row in rows)
    done = [
        row.last_event - row.started
        for row in rows
        if (row.state is State.FINISHED or row.pruned)
        and row.last_event is not None
        and row.started is not None
        and row.attempt == 1
    ]
    known = done or [seconds for row in training if (seconds := _whole(row)) is not None]
    if not waiting:
        return max(running, default=None if training else 0.0)
    if not known:
        return None
    return (sum(running) + waiting * sum(known) / len(known)) / at_once


def _whole(row: RunSummary) -> float | None:
    """Estimated duration of a running run."""
    if row.eta_seconds is None or row.started is None or row.last_event is None:
        return None
    return row.last_event - row.started + row.eta_seconds


class SweepReader:
    """Reads the runs of one sweep as often as needed; its cells are resolved once.

    Args:
        store: The store of the runs.
        spec: The sweep.
        sweep_id: Its id.

    Raises:
        UsageError: A cell is not valid, or a baseline is wanted of a profile without distillation.
    """

    def __init__(self, store: RunStore, spec: Spec, sweep_id: str) -> None:
        self._store, self._spec, self._id = store, spec, sweep_id
        self._planned = _planned(store, spec, sweep_id)
        self._entries: dict[str, str | None] = {}

    def read(self, rows: Sequence[RunSummary] | None = None) -> SweepRuns:
        """The runs as they are now.

        Args:
            rows: Summaries of all runs of the store; None reads them.
        """
        rows = self._store.summaries() if rows is None else rows
        own = self._own(rows)
        by_id = {row.id: row for row in rows}
        members = []
        for planned in self._planned:
            mine = own.get(_identity(planned.sweep or {}))
            reused = None if planned.reused is None else by_id.get(planned.reused.id)
            usable = mine is not None and mine.state in (State.FINISHED, *LIVE)
            members.append(Member(planned, mine if usable else reused or mine))
        return SweepRuns(self._id, self._spec, tuple(members))

    def _own(self, rows: Sequence[RunSummary]) -> dict[str, RunSummary]:
        """The runs of the sweep by their identity; of two with the same one, a finished one, then the newer one."""
        own = [row for row in rows if row.sweep == self._id]
        found = {}
        for row in sorted(own, key=lambda row: (row.state is State.FINISHED, row.created or 0.0)):
            if row.id not in self._entries:
                try:
                    entry = Run(row.path).manifest().sweep
                except StoreError:  # damaged since it was listed
                    entry = None
                self._entries[row.id] = None if entry is None else _identity(entry)
            if (identity := self._entries[row.id]) is not None:
                found[identity] = row
        return found


def runs_of(store: RunStore, spec: Spec, sweep_id: str) -> SweepRuns:
    """The runs of a sweep as they are in the store now; see :class:`SweepReader`."""
    return SweepReader(store, spec, sweep_id).read()


def _planned(store: RunStore, spec: Spec, sweep_id: str) -> list[GroupRun]:
    """All runs of a sweep with their entries in the manifest; ``reused`` is a run of the store that is the baseline."""
    cells = spec.cells()
    if len({cell.profile.name for cell in cells}) != len(cells):  # names that were cut at their greatest length
        cells = [_numbered(cell, number) for number, cell in enumerate(cells)]
    by_name = {cell.profile.name: cell for cell in cells}
    profiles = [cell.profile for cell in cells]
    group = plan_group(store, profiles, seeds=sorted(spec.seeds), with_baseline=spec.with_baseline)
    planned, last = [], cells[0]
    for run in group.runs:
        last = last if run.baseline else by_name[run.profile.name]
        values = {key: value for key, value in last.values.items() if not run.baseline or affects_baseline(key)}
        role = BASELINE if run.baseline else STUDENT
        entry = manifest_entry(sweep_id, values, run.profile.seed, role)
        name = _baseline_name(spec, last) if run.baseline else run.profile.name
        profile = run.profile.model_copy(update={"name": name})
        planned.append(replace(run, profile=with_view_seed(profile), sweep=entry))
    return planned


def with_view_seed(profile: Profile) -> Profile:
    """The profile with its own seed as ``data.view_seed``: the same views, which other runs of the seed see too.

    So the teacher's logits for them are computed once. They are rounded to fp16, also where they are computed.
    """
    data = profile.data
    if not profile.distillation.enabled or data.views or data.view_seed is not None:
        return profile
    return profile.model_copy(update={"data": data.model_copy(update={"view_seed": profile.seed})})


def _numbered(cell: Cell, number: int) -> Cell:
    name = f"{cell.profile.name[:72].rstrip('-.')}-{number + 1}"
    return replace(cell, profile=cell.profile.model_copy(update={"name": name}))


def _baseline_name(spec: Spec, cell: Cell) -> str:
    """The name of a baseline: of several, with the value of each key that it depends on."""
    axes = [axis for axis in spec.axes if affects_baseline(axis.key)]
    places = {axis.key: axis.values.index(cell.values[axis.key]) for axis in axes}
    stem = spec.base.name.removesuffix("-distilled")[:60]
    return run_name(f"{stem}-baseline", {axis.key: (axis.texts[places[axis.key]], places[axis.key]) for axis in axes})


def _identity(entry: Mapping[str, Any]) -> str:
    return json.dumps([entry.get(key) for key in ("cell", "seed", "role")], sort_keys=True, default=str)


@dataclass(frozen=True)
class Launched:
    """What a request for a sweep did.

    Attributes:
        folder: The sweep's folder.
        new: Runs that were made.
        again: Runs that existed and were launched again.
        runs: All runs as they were before.
    """

    folder: SweepFolder
    new: tuple[Run, ...]
    again: tuple[Run, ...]
    runs: SweepRuns


def launch(
    store: RunStore,
    spec: Spec,
    *,
    relaunch: Iterable[State] = RESTARTED,
    tags: Sequence[str] = (),
    on_start: Callable[[Run], None] = lambda run: None,
    cancelled: Callable[[], object] = lambda: False,
    waiting: Callable[[], None] = lambda: None,
) -> Launched:
    """Make and launch what a sweep lacks; two processes that do so at once make one set of runs.

    Args:
        store: Where the runs are created.
        spec: The sweep.
        relaunch: States of existing runs that are launched again.
        tags: Tags of new runs.
        on_start: Called with each run after its launch.
        cancelled: Called before each launch; after a true result, no further run is launched.
        waiting: Called once if another process makes runs of the sweep.

    Raises:
        KdtuiError: A run could not be created or launched; those launched before continue.
    """
    sweep_id = spec.id
    folder = create(store.root, sweep_id, spec.to_tables())
    with folder.locked(waiting):
        runs = runs_of(store, spec, sweep_id)
        again = []
        states = frozenset(relaunch)
        for row in runs.in_state(*states):
            if cancelled():
                break
            if row.sweep != sweep_id:
                continue
            run = Run(row.path)
            launcher_of(run, store).launch(run)
            again.append(run)
            on_start(run)
        group = Group(tuple(replace(member.planned, reused=None) for member in runs.missing))
        new = start_group(store, group, tags=tags, origin="kdtui sweep", on_start=on_start, cancelled=cancelled)
    return Launched(folder, tuple(new), tuple(again), runs)


def stop(
    store: RunStore, folder: SweepFolder, *, kill: bool = False, waiting: Callable[[], None] = lambda: None
) -> tuple[list[Run], list[KdtuiError]]:
    """Stop all queued and running runs of a sweep, the last first, so that none of them starts.

    Returns:
        The runs that were asked to stop, and the errors of others.

    Raises:
        UsageError: None of its runs is queued or running.
    """
    stopped: list[Run] = []
    errors: list[KdtuiError] = []
    with folder.locked(waiting):
        live = [row for row in store.summaries() if row.sweep == folder.id and row.state in LIVE]
        if not live:
            raise UsageError(
                f"nothing to stop: no run of this {folder.verb} is queued or running",
                where=folder.id,
                hint=f"kdtui {folder.verb} show {folder.id}",
            )
        for row in sorted(live, key=lambda row: (row.state is State.RUNNING, -(row.created or 0.0))):
            run = Run(row.path)
            try:
                launcher_of(run, store).stop(run, kill=kill)
            except KdtuiError as error:  # continue with the others
                errors.append(error)
            else:
                stopped.append(run)
    return stopped, errors
