"""A run store with a teacher, and sweeps whose runs no process trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdtui.events import Finished, Measured
from kdtui.launch.start import create as create_run
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.sweep.folder import create
from kdtui.sweep.runs import SweepRuns, runs_of
from kdtui.sweep.spec import Spec, make_spec
from tests.compare.counted import scored, written
from tests.store.conftest import record, started, write

Scores = Callable[[dict[str, Any], int, bool], float]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:2")
    return RunStore(tmp_path / "runs")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.pth"
    path.write_bytes(b"")
    return path


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of the fake engine wait after each epoch until ``open`` is in this folder."""
    gate = tmp_path / "gate"
    gate.mkdir()
    monkeypatch.setenv("KDTUI_TEST_GATE", str(gate))
    return gate


def spec_of(store: RunStore, teacher: Path, *assignments: str, profile: str = "demo-distilled", **options: Any) -> Spec:
    return make_spec(store, profile, [f"teacher.checkpoint={teacher}", *assignments], **options)


def make(store: RunStore, spec: Spec, score: Scores, *, most: int | None = None) -> SweepRuns:
    """Make finished runs of a sweep; the score follows from the cell, the seed and whether it is a baseline."""
    create(store.root, spec.id, spec.to_tables())
    for member in runs_of(store, spec, spec.id).missing[:most]:
        planned = member.planned
        run = create_run(store, planned.profile, origin="test", group=planned.group, sweep=planned.sweep)
        finish(run, score(dict(member.cell), member.seed, planned.baseline), member.seed)
    return runs_of(store, spec, spec.id)


def finish(run: Run, miou: float, seed: int = 0) -> None:
    run.write_launch_record(record())
    scores = {"miou": miou, "best_miou": miou}
    epochs = run.profile().training.epochs
    measured = Measured("val", 10, 1, 40, scores, epochs, time=103.0)
    write(run, [started(epochs=epochs), measured, Finished(200, epochs, time=111.0)])
    written(scored(miou, seed), run)
