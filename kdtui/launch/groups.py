"""Groups of runs that belong together: profiles with several seeds, and their matched baselines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdtui.errors import StoreError, UsageError
from kdtui.launch.plan import Ask, Plan, plan
from kdtui.launch.references import after_runs, linked
from kdtui.launch.start import create
from kdtui.launch.targets import launcher_for
from kdtui.profile.find import parse_tables
from kdtui.profile.matched import IDENTITY, baseline_of, untreated
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
        baseline: Whether it is a matched baseline.
        reused: A baseline of the store that is used instead of a new one; None for a new run.
    """

    profile: Profile
    group: str
    baseline: bool = False
    reused: RunSummary | None = None


@dataclass(frozen=True)
class Group:
    """Runs in the order in which they start: by seed, each distilled run before its baseline."""

    runs: tuple[GroupRun, ...]

    @property
    def new(self) -> tuple[GroupRun, ...]:
        """The runs to start."""
        return tuple(run for run in self.runs if run.reused is None)

    @property
    def reused(self) -> tuple[RunSummary, ...]:
        """The baselines that exist."""
        return tuple(run.reused for run in self.runs if run.reused is not None)

    def notes(self) -> list[str]:
        """One line per reused baseline."""
        return [f"baseline seed {run.seed}: {run.id} {run.state.word.lower()}, reused" for run in self.reused]


def plan_group(
    store: RunStore, profiles: Sequence[Profile], *, seeds: Sequence[int] = (), with_baseline: bool = False
) -> Group:
    """Plan the runs of profiles with several seeds; starts nothing.

    Args:
        store: Matched baselines in it that are finished, running or queued are reused.
        profiles: Complete, with absolute paths.
        seeds: Each profile is trained with each of them; empty for the seeds of the profiles.
        with_baseline: Whether each distilled run gets its matched baseline; profiles with the same one share it.

    Raises:
        UsageError: ``with_baseline``, and a profile has no distillation; or a teacher's run cannot be found.
    """
    seeded = [profile.model_copy(update={"seed": seed}) for seed in seeds for profile in profiles]
    runs: list[GroupRun] = []
    made: dict[str, Profile] = {}
    for profile in linked(seeded or sorted(profiles, key=lambda profile: profile.seed), store):
        runs.append(GroupRun(profile, group_id(profile)))
        if with_baseline:
            if not profile.distillation.enabled:
                raise UsageError(
                    f"profile '{profile.name}' has no distillation, so it has no baseline",
                    where="--with-baseline",
                    hint="`kdtui train PROFILE --teacher RUN --with-baseline` distils it",
                )
            baseline = baseline_of(profile)
            if made.setdefault(_match_key(_table(baseline)), baseline) is baseline:
                runs.append(GroupRun(baseline, group_id(profile), baseline=True))
    existing = dict(_baselines(store, made)) if made else {}
    return Group(
        tuple(
            replace(run, reused=existing.get(_match_key(_table(run.profile)))) if run.baseline else run for run in runs
        )
    )


def check_group(store: RunStore, group: Group, *, ask: Ask | None = None) -> Plan:
    """The plan of the new runs; the engine checks one run of each profile, whose baseline reads nothing else."""
    checked: set[str] = set()
    unchecked = []
    for place, run in enumerate(group.new):
        if run.baseline or run.group in checked:
            unchecked.append(place)
        checked.add(run.group)
    return plan([run.profile for run in group.new], store, ask=ask, unchecked=unchecked)


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
            run = create(store, profile, tags=tags, origin=origin, group=member.group)
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


def _baselines(store: RunStore, wanted: Mapping[str, Profile]) -> Iterator[tuple[str, RunSummary]]:
    """Matched baselines that are finished, running or queued, by key; of a key, finished and newer ones come last."""
    seeds = {profile.seed for profile in wanted.values()}
    rows = [row for row in store.summaries() if not row.distilled and row.seed in seeds]
    usable = [row for row in rows if row.state in (State.FINISHED, *LIVE)]
    for row in sorted(usable, key=lambda row: (row.state is State.FINISHED, row.created or 0.0)):
        run = Run(row.path)
        try:
            table = run.profile_table()
            started_elsewhere = run.manifest().resume_from is not None
        except StoreError:  # a damaged folder
            continue
        horizon = table.get("training", {}).get("epochs")
        if not started_elsewhere and row.epochs == horizon and (key := _match_key(table)) in wanted:
            yield key, row


def _match_key(table: Mapping[str, Any]) -> str:
    """Equal for the profiles of matched baselines of the same run."""
    return _text({key: value for key, value in untreated(table).items() if key not in IDENTITY})


def _table(profile: Profile) -> dict[str, Any]:
    """The tables of the profile as a run's file has them."""
    from kdtui.profile import absolute, dump

    return parse_tables(dump(absolute(profile)).decode())


def _text(table: Mapping[str, Any]) -> str:
    return json.dumps(table, sort_keys=True, default=str)
