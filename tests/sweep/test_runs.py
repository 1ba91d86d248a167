"""Which runs of a sweep exist and which are missing, from the manifests alone."""

from __future__ import annotations

from pathlib import Path

from kdtui.compare import compare
from kdtui.compare.entries import entries_of
from kdtui.launch.teachers import expand
from kdtui.store.filter import parse
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.store.store import RunStore
from kdtui.sweep.folder import BASELINE, create
from kdtui.sweep.listing import sweep_rows
from kdtui.sweep.runs import SweepReader, runs_of
from tests.sweep.conftest import make, spec_of
from tests.sweep.test_spec import ALPHA, T

GRID = (f"{T}=1,2", f"{ALPHA}=0.3,0.5,0.7")


def test_what_is_missing_is_made_once(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, *GRID, seeds=(0, 1))
    assert runs_of(store, spec, spec.id).counts() == {"missing": 12}
    assert make(store, spec, lambda *_: 0.5, most=5).counts() == {"finished": 5, "missing": 7}
    runs = make(store, spec, lambda *_: 0.5)
    assert runs.counts() == {"finished": 12} and len(store.runs()) == 12
    assert runs.eta_seconds == 0.0
    assert [member.seed for member in runs.members] == [0] * 6 + [1] * 6  # a whole grid as early as possible
    removed = runs.members[3]
    assert removed.run is not None
    store.remove(Run(removed.run.path))
    (again,) = runs_of(store, spec, spec.id).missing
    assert (again.cell, again.seed) == (removed.cell, removed.seed)


def test_the_order_of_the_request_does_not_matter(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, *GRID)
    make(store, spec, lambda *_: 0.5)
    other = spec_of(store, teacher, f"{ALPHA}=0.7,0.5,0.3", f"{T}=2,1")
    assert runs_of(store, other, other.id).counts() == {"finished": 6}


def test_cells_that_differ_only_in_the_teaching_share_a_baseline(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, f"{T}=1,2", with_baseline=True, encoders="resnet18,resnet34", seeds=(0, 1))
    runs = make(store, spec, lambda *_: 0.5)
    baselines = [member for member in runs.members if member.role == BASELINE]
    assert len(runs.members) == 8 + 4 == len(store.runs())
    assert {tuple(member.cell) for member in baselines} == {("student.encoder",)}
    names = {member.run.name for member in baselines if member.run is not None}
    assert names == {"demo-baseline-resnet18", "demo-baseline-resnet34"}


def test_a_baseline_of_the_store_is_reused_by_another_sweep(store: RunStore, teacher: Path) -> None:
    make(store, spec_of(store, teacher, *GRID, with_baseline=True), lambda *_: 0.5)
    other = spec_of(store, teacher, f"{T}=3,4", with_baseline=True)
    assert runs_of(store, other, other.id).counts() == {"finished": 1, "missing": 2}
    other = spec_of(store, teacher, f"{T}=3,4", "training.epochs=99", with_baseline=True)
    assert runs_of(store, other, other.id).counts() == {"missing": 3}


def test_a_later_run_of_a_cell_replaces_a_failed_one(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, *GRID)
    runs = make(store, spec, lambda cell, *_: float(cell[T]) / 10)
    reader = SweepReader(store, spec, spec.id)
    member = runs.members[0]
    assert member.run is not None
    twin = store.create(member.planned.profile, sweep=member.planned.sweep)
    assert store.summary(twin).state is State.NEVER_LAUNCHED
    assert reader.read().counts() == {"finished": 6}  # the finished one, not the newer one


def test_runs_are_filtered_and_expanded_by_sweep(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, *GRID)
    make(store, spec, lambda *_: 0.5)
    make(store, spec_of(store, teacher, f"{T}=5,6"), lambda *_: 0.5)
    rows = store.summaries()
    assert len([row for row in rows if parse(f"sweep={spec.id}")(row)]) == 6 < len(rows) == 8
    assert len(expand([spec.id], store)) == 6


def test_the_list_has_every_sweep_and_the_reason_why_one_cannot_be_read(store: RunStore, teacher: Path) -> None:
    assert sweep_rows(store) == []
    spec = spec_of(store, teacher, *GRID)
    make(store, spec, lambda cell, *_: float(cell[T]) / 10)
    broken = store.root / ".sweeps" / "broken-00000000"
    broken.mkdir()
    create(store.root, "other-00000000", {"kind": "another kind"})
    rows = {row.id: row for row in sweep_rows(store)}
    assert rows.keys() == {spec.id, broken.name}
    assert rows[spec.id].state is State.FINISHED and rows[spec.id].cells()[2:4] == ["6", "6"]
    assert "damaged" in rows[broken.name].problem and rows[broken.name].to_json()["problem"]
    assert rows[spec.id].to_json()["best"] == 0.2


def test_distilled_runs_of_a_seed_share_the_logits_of_their_teacher(store: RunStore, teacher: Path) -> None:
    """Also with baselines that another sweep made, and over seeds in comparisons."""
    spec = spec_of(store, teacher, f"{T}=1,2", seeds=(0, 1), with_baseline=True)
    runs = make(store, spec, lambda cell, seed, baseline: 0.5 + (not baseline) * 0.1)
    views = {(member.role, member.seed, member.planned.profile.data.view_seed) for member in runs.members}
    assert views == {("student", 0, 0), ("student", 1, 1), (BASELINE, 0, None), (BASELINE, 1, None)}
    comparison = compare(entries_of(store, [Run(member.run.path) for member in runs.members if member.run is not None]))
    assert [len(group.pairs) for group in comparison.groups] == [2, 2]
    other = spec_of(store, teacher, f"{T}=3,4", with_baseline=True)
    assert runs_of(store, other, other.id).counts() == {"finished": 1, "missing": 2}


def test_views_of_the_profile_are_kept(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, f"{T}=1,2", "data.view_seed=7", seeds=(0, 1))
    assert {member.planned.profile.data.view_seed for member in runs_of(store, spec, spec.id).members} == {7}
    spec = spec_of(store, teacher, f"{T}=1,2", "data.views=4")
    assert {member.planned.profile.data.view_seed for member in runs_of(store, spec, spec.id).members} == {None}
