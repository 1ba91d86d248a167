"""Groups of runs that belong together: profiles with several seeds, and their matched baselines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdtui.errors import StoreError, UsageError
from kdtui.launch.equal_time import EqualTime, EqualTimeBaseline, equal_time_baseline
from kdtui.launch.plan import Ask, Caution, Plan, plan
from kdtui.launch.references import after_runs, linked
from kdtui.launch.start import create
from kdtui.launch.targets import launcher_for
from kdtui.profile.find import parse_tables
from kdtui.profile.matched import IDENTITY, baseline_of, treated
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary, State

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore


@dataclass(frozen=True)
class GroupRun:
    """A run of a group.

    Attributes:
        profile: Its profile.
        group: Id of the group.
        baseline: Whether it is a baseline.
        reused: A run of the store that is used instead of a new one; None for a new run.
        sweep: The entry of its sweep in the manifest; None outside of sweeps.
    """

    profile: Profile
    group: str
    baseline: bool = False
    reused: RunSummary | None = None
    sweep: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Group:
    """Runs in the order in which they start: by seed, each distilled run before its baselines.

    Attributes:
        equal_time: Baselines with equal time, one per profile.
    """

    runs: tuple[GroupRun, ...]
    equal_time: tuple[EqualTimeBaseline, ...] = ()

    @property
    def new(self) -> tuple[GroupRun, ...]:
        """The runs to start."""
        return tuple(run for run in self.runs if run.reused is None)

    @property
    def reused(self) -> tuple[RunSummary, ...]:
        """The runs that exist."""
        return tuple(run.reused for run in self.runs if run.reused is not None)

    def notes(self) -> list[str]:
        """What the epochs of baselines with equal time follow from, and a line for each reused run."""
        return [baseline.basis for baseline in self.equal_time] + [
            f"{'baseline' if run.baseline else run.profile.name} seed {run.profile.seed}: "
            f"{run.reused.id} {run.reused.state.word.lower()}, reused"
            for run in self.runs
            if run.reused is not None
        ]


def plan_group(
    store: RunStore,
    profiles: Sequence[Profile],
    *,
    seeds: Sequence[int] = (),
    with_baseline: bool = False,
    equal_time: EqualTime | None = None,
) -> Group:
    """Plan the runs of profiles with several seeds; starts nothing.

    Args:
        store: Baselines in it that are finished, running or queued are reused; with ``equal_time``, distilled runs too.
        profiles: Complete, with absolute paths.
        seeds: Each profile is trained with each of them; empty for the seeds of the profiles.
        with_baseline: Whether each distilled run gets its matched baseline; profiles with the same one share it.
        equal_time: Whether each distilled run gets a baseline with equal time.

    Raises:
        UsageError: A baseline is wanted of a profile without distillation, the speed for ``equal_time`` was not
            measured, or a teacher's run cannot be found.
    """
    seeded = [profile.model_copy(update={"seed": seed}) for seed in seeds for profile in profiles]
    runs: list[tuple[str, GroupRun]] = []
    timed: dict[str, EqualTimeBaseline] = {}
    for profile in linked(seeded or sorted(profiles, key=lambda profile: profile.seed), store):
        group = group_id(profile)
        runs.append((_key(_table(profile)), GroupRun(profile, group)))
        baselines = []
        if (with_baseline or equal_time) and not profile.distillation.enabled:
            raise UsageError(
                f"profile '{profile.name}' has no distillation, so it has no baseline",
                where="--with-baseline" if with_baseline else "--equal-time",
                hint="`kdtui train PROFILE --teacher RUN --with-baseline` distils it",
            )
        if with_baseline:
            baselines.append(baseline_of(profile))
        if equal_time is not None:
            if group not in timed:
                timed[group] = equal_time_baseline(store, profile, equal_time)
            baselines.append(timed[group].profile.model_copy(update={"seed": profile.seed}))
        for baseline in baselines:
            if (key := _key(_table(baseline))) not in dict(runs):
                runs.append((key, GroupRun(baseline, group, baseline=True)))
    wanted = {key: run for key, run in runs if run.baseline or equal_time is not None}
    existing = dict(_existing(store, wanted)) if wanted else {}
    members = tuple(replace(run, reused=existing.get(key)) for key, run in runs)
    return Group(members, tuple(timed.values()))


def check_group(store: RunStore, group: Group, *, ask: Ask | None = None, checks: bool = True) -> Plan:
    """The plan of the new runs; the engine checks one run of each profile, whose baseline reads nothing else."""
    checked: set[str] = set()
    unchecked = []
    for place, run in enumerate(group.new):
        if run.group in checked:
            unchecked.append(place)
        checked.add(run.group)
    planned = plan([run.profile for run in group.new], store, ask=ask, checks=checks, unchecked=unchecked)
    shared = sorted({run for baseline in group.equal_time for run in baseline.shared})
    if not shared or not planned.runs:
        return planned
    caution = Caution(
        "time-shared",
        f"the time was measured while other runs used the CPU: {', '.join(shared)}",
        "train them again alone, with KDTUI_SLOTS=cpu:1",
    )
    first, *others = planned.runs
    return replace(planned, runs=(replace(first, warnings=(*first.warnings, caution)), *others))


def group_id(profile: Profile) -> str:
    """The id that runs of a profile with different seeds share: its name and a hash of its other keys."""
    table = {key: value for key, value in _table(profile).items() if key != "seed"}
    return f"{profile.name}-{hashlib.sha256(_text(table).encode()).hexdigest()[:8]}"


def start_group(
    store: RunStore,
    group: Group,
    *,
    tags: Sequence[str] = (),
    origin: str,
    on_start: Callable[[Run], None] = lambda run: None,
    cancelled: Callable[[], object] = lambda: False,
) -> list[Run]:
    """Create the folders of all new runs, then launch them in order; those that are not launched are removed.

    Args:
        store: Where the runs are created.
        group: From :func:`plan_group`.
        tags: Tags of the new runs.
        origin: What created the runs, for their manifests.
        on_start: Called with each run after its launch.
        cancelled: Called before each launch; after a true result, no further run is launched.

    Returns:
        The launched runs.

    Raises:
        KdtuiError: A run could not be created or launched.
    """
    waiting: list[tuple[Run, Profile]] = []
    started: list[Run] = []
    try:
        profiles = [member.profile for member in group.new]
        for member in group.new:
            made = {place: run for place, (run, _) in enumerate(waiting)}
            profile = after_runs(member.profile, profiles, made)
            run = create(store, profile, tags=tags, origin=origin, group=member.group, sweep=member.sweep)
            waiting.append((run, member.profile))
        while waiting and not cancelled():
            run, profile = waiting[0]
            launcher_for(profile, store).launch(run)
            waiting.pop(0)
            started.append(run)
            on_start(run)
    finally:
        for run, _ in waiting:
            store.remove(run)
    return started


def _existing(store: RunStore, wanted: Mapping[str, GroupRun]) -> Iterator[tuple[str, RunSummary]]:
    """Runs that are finished, running or queued, by key; of a key, finished and newer ones come last."""
    seeds = {run.profile.seed for run in wanted.values()}
    usable = [row for row in store.summaries() if row.seed in seeds and row.state in (State.FINISHED, *LIVE)]
    for row in sorted(usable, key=lambda row: (row.state is State.FINISHED, row.created or 0.0)):
        run = Run(row.path)
        try:
            table = run.profile_table()
            started_elsewhere = run.manifest().resume_from is not None
        except StoreError:  # a damaged folder
            continue
        horizon = table.get("training", {}).get("epochs")
        if not started_elsewhere and row.epochs == horizon and (key := _key(table)) in wanted:
            yield key, row


def _key(table: Mapping[str, Any]) -> str:
    """Equal for runs that are the same but for their names, and for matched baselines of the same run."""
    return _text({key: value for key, value in treated(table).items() if key not in IDENTITY})


def _table(profile: Profile) -> dict[str, Any]:
    """The tables of the profile as a run's file has them."""
    from kdtui.profile import absolute, dump

    return parse_tables(dump(absolute(profile)).decode())


def _text(table: Mapping[str, Any]) -> str:
    return json.dumps(table, sort_keys=True, default=str)
