"""Sampled sweeps and trials that no process trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtui.store.run import Run
from kdtui.store.state import PRUNED, RunSummary, State
from kdtui.store.store import RunStore
from kdtui.sweep.members import Member
from kdtui.sweep.sampled.spec import SampledSpec, make_sampled_spec
from kdtui.sweep.sampled.trials import Trial

T, ALPHA, RATE = "distillation.temperature", "distillation.alpha", "training.learning_rate"
RANGES = (f"{T}=1..8", f"{RATE}=1e-4..1e-2:log")


def spec_of(store: RunStore, teacher: Path, *assignments: str, **options: Any) -> SampledSpec:
    words = [f"teacher.checkpoint={teacher}", *(assignments or RANGES)]
    return make_sampled_spec(store, "demo-distilled", words, **options)


def member(state: State, scores: Mapping[int, float], *, pruned: bool = False, number: int = 0) -> Member:
    """A run in some state with scores by epoch."""
    path = Path(f"/nowhere/{number}")
    best = max(scores.values(), default=None)
    detail = PRUNED if pruned else ""
    summary = RunSummary(path.name, path.name, path, state, detail, miou=best, best_miou=best, created=float(number))
    return Member(Run(path), summary, scores)


def trial(
    number: int, cell: Mapping[str, Any], state: State = State.FINISHED, scores: Sequence[float] = (), **facts: Any
) -> Trial:
    """A trial of one seed."""
    by_epoch = dict(enumerate(scores, start=1))
    return Trial(number, cell, {0: member(state, by_epoch, number=number, **facts)})


def in_state(one: Trial, state: State, scores: Sequence[float], **facts: Any) -> Trial:
    """A trial later."""
    return dataclasses.replace(trial(one.number, one.cell, state, scores, **facts))
