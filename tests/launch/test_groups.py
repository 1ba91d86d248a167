"""Groups of runs with real supervisors and an engine without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import LaunchError, UsageError
from kdtui.launch.groups import Group, group_id, plan_group, start_group
from kdtui.profile import Profile, load
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from tests.launch.processes import reaches


@pytest.fixture
def distilled(tmp_path: Path) -> Profile:
    teacher = tmp_path / "teacher.pth"
    teacher.write_text("weights")
    sets = ["name=mine-distilled", "training.epochs=1", "distillation.enabled=true", f'teacher.checkpoint="{teacher}"']
    return load("baseline", sets)


def names(group: Group) -> list[tuple[str, int]]:
    return [(run.profile.name, run.profile.seed) for run in group.runs]


def launched(store: RunStore, group: Group) -> list[Run]:
    runs = start_group(store, group, origin="test")
    for run in runs:
        reaches(store, run, State.FINISHED)
    return runs


def test_seeds_and_baselines_are_made_first_and_queued_in_pairs(store: RunStore, distilled: Profile) -> None:
    group = plan_group(store, [distilled], seeds=(2, 0), with_baseline=True)
    pairs = [(name, seed) for seed in (2, 0) for name in ("mine-distilled", "mine-distilled-baseline")]
    assert names(group) == pairs
    made: list[int] = []
    runs = start_group(store, group, origin="test", tags=["a"], on_start=lambda run: made.append(len(store.runs())))
    assert made == [4, 4, 4, 4]
    assert [(run.manifest().name, run.profile().seed) for run in runs] == pairs
    assert {run.manifest().group for run in runs} == {group_id(distilled)}
    assert all("a" in run.notes().tags for run in runs)
    for run in runs:
        reaches(store, run, State.FINISHED)


def test_a_matched_baseline_of_the_store_is_reused(store: RunStore, distilled: Profile) -> None:
    (first,) = launched(store, plan_group(store, [load("baseline", ["training.epochs=1", "name=other", "seed=1"])]))
    group = plan_group(store, [distilled], seeds=(0, 1), with_baseline=True)
    assert [run.profile.seed for run in group.new] == [0, 0, 1]
    assert group.notes() == [f"baseline seed 1: {first.id} finished, reused"]
    for differing in ({"training": distilled.training.model_copy(update={"epochs": 2})}, {"seed": 2}):
        other = plan_group(store, [distilled.model_copy(update=differing)], with_baseline=True)
        assert other.reused == ()


def test_a_baseline_that_waits_is_reused_and_one_that_failed_is_not(store: RunStore, distilled: Profile) -> None:
    held = start_group(store, plan_group(store, [load("baseline", ["name=held"])]), origin="test")[0]
    (waits,) = start_group(store, plan_group(store, [load("baseline", ["training.epochs=1"])]), origin="test")
    group = plan_group(store, [distilled], with_baseline=True)
    assert [run.id for run in group.reused] == [waits.id]
    waits.request_stop()
    reaches(store, waits, State.STOPPED)
    assert plan_group(store, [distilled], with_baseline=True).reused == ()
    held.request_stop()


def test_profiles_with_the_same_baseline_share_it(store: RunStore, distilled: Profile) -> None:
    hotter = distilled.distillation.model_copy(update={"temperature": 9.0})
    other = distilled.model_copy(update={"name": "hot", "distillation": hotter})
    group = plan_group(store, [distilled, other], seeds=(0, 1), with_baseline=True)
    assert [run.baseline for run in group.runs] == [False, True, False, False, True, False]
    assert group_id(distilled) != group_id(other)


def test_a_profile_without_distillation_has_no_baseline(store: RunStore) -> None:
    with pytest.raises(UsageError, match="no distillation"):
        plan_group(store, [load("baseline")], with_baseline=True)


def test_runs_that_cannot_be_launched_are_removed(store: RunStore, distilled: Profile) -> None:
    many = distilled.training.model_copy(update={"accelerator": "gpu"})
    group = plan_group(store, [distilled], seeds=(0,))
    impossible = plan_group(store, [distilled.model_copy(update={"training": many})], seeds=(0, 1))
    begun: list[Run] = []
    with pytest.raises(LaunchError):
        start_group(store, Group((*group.runs, *impossible.runs)), origin="test", on_start=begun.append)
    assert store.runs() == begun
    reaches(store, begun[0], State.FINISHED)


def test_a_cancelled_start_leaves_the_launched_runs_only(store: RunStore, distilled: Profile) -> None:
    begun: list[Run] = []
    group = plan_group(store, [distilled], seeds=(0, 1, 2))
    assert start_group(store, group, origin="test", on_start=begun.append, cancelled=lambda: begun) == begun
    assert store.runs() == begun
    assert len(begun) == 1
    reaches(store, begun[0], State.FINISHED)
