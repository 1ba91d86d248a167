"""Runs of a tiny network, made and trained inside the test's own process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdtui.compare.bootstrap import read_counts
from kdtui.engine import checkpoint
from kdtui.engine.fit import train
from kdtui.events import Event, Measured
from kdtui.profile import Profile
from kdtui.store.event_log import Tail
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.store import RunStore

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"height": 32, "width": 32, "train_samples": 24, "val_samples": 10, "test_samples": 6},
    "student": {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [8, 8, 8]},
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "threads": 1,
        "log_every": 2,
        "visualize_every": -1,  # pictures are a sixth of an epoch's work
        "accelerator": "cpu",  # for all that reads the profile alone; a launch record says it for the training
    },
}


def tiny_profile(**changes: Any) -> Profile:
    """The tiny profile with ``table__key=value`` changes."""
    table = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    table["data"]["kind"] = "synthetic"
    for path, value in changes.items():
        place, *keys = path.split("__")
        if keys:
            table.setdefault(place, {})[keys[0]] = value
        else:
            table[place] = value
    return Profile.model_validate(table)


def record(run: Run, *, attempt: int = 1, total_epochs: int | None = None) -> LaunchRecord:
    """A launch of this process by itself."""
    return LaunchRecord(
        attempt=attempt,
        host="here",
        pid=os.getpid(),
        start_ticks=0,
        boot_id="",
        job_id=None,
        argv=(),
        device="cpu",
        devices=1,
        total_epochs=total_epochs,
        created=time.time(),
    )


def make_run(root: Path, *, resume_from: Path | None = None, **changes: Any) -> Run:
    """A new run folder of the tiny profile."""
    return RunStore(root).create(tiny_profile(**changes), resume_from=None if resume_from is None else str(resume_from))


def fit(run: Run, *, attempt: int = 1, total_epochs: int | None = None) -> str:
    """Train in this process; the last word."""
    run.clear_stop()
    return train(run, record(run, attempt=attempt, total_epochs=total_epochs), rank=0, world_size=1)


class StoppedAt(Run):
    """A run that is requested to stop once ``when`` returns True; checked before each step and evaluation batch."""

    def __init__(self, path: Path, when: Callable[[list[Event]], bool]) -> None:
        super().__init__(path)
        self._when = when

    def stop_requested(self) -> bool:
        return self._when(events_of(self))


def events_of(run: Run) -> list[Event]:
    """Every event so far."""
    return Tail(run.events_path).read()


def curve(run: Run, split: str, *names: str) -> list[tuple[Any, ...]]:
    """The last value per step of the named scalars, as a reader that drops repeated points sees them."""
    points: dict[int, tuple[Any, ...]] = {}
    for event in events_of(run):
        if isinstance(event, Measured) and event.split == split:
            points[event.step] = tuple(event.scalars.get(name) for name in names)
    return [(step, *values) for step, values in sorted(points.items())]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints have equal weights."""
    ours, theirs = checkpoint.load(one)["student"], checkpoint.load(other)["student"]
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def same_counts(one: Run, other: Run) -> bool:
    """Whether two runs have the same pixel counts of the same images of the validation split."""
    ours, theirs = (read_counts(run) for run in (one, other))
    return len(ours.samples) > 0 and all(
        np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ("samples", "units", "pixels")
    )
