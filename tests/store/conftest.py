from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from kdtui.events import Event, Measured, Queued, Started
from kdtui.profile import Profile
from kdtui.store.run import EventLog, LaunchRecord, Run
from kdtui.store.state import Liveness
from kdtui.store.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def run(store: RunStore) -> Run:
    return store.create(Profile(name="abc"))


def write(run: Run, events: Iterable[Event]) -> None:
    with EventLog(run.events_path) as log:
        for event in events:
            log.append(event)


def record(attempt: int = 1, **changes: Any) -> LaunchRecord:
    fields: dict[str, Any] = {
        "attempt": attempt,
        "host": "here",
        "pid": 4711,
        "start_ticks": 5,
        "boot_id": "b",
        "job_id": None,
        "argv": ("x",),
        "device": "cpu",
        "devices": 1,
        "total_epochs": None,
        "created": 1000.0,
    }
    return LaunchRecord(**{**fields, **changes})


def queued(attempt: int = 1, time: float = 100.0) -> Queued:
    return Queued(attempt, "cpu", time=time)


def started(attempt: int = 1, resumed: int = 0, time: float = 101.0, **changes: Any) -> Started:
    fields: dict[str, Any] = {
        "attempt": attempt,
        "ranks": ({"pid": 4712, "start_ticks": 6, "boot_id": "b"},),
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "world_size": 1,
        "epochs": 20,
        "steps_per_epoch": 10,
        "resumed_step": resumed,
        "student": {"parameters": 100, "parameters_used": 90},
        "teacher": {"parameters": 300, "miou": 0.8},
    }
    return Started(**{**fields, **changes}, time=time)


def trained(step: int, loss: float | None = None, time: float | None = None) -> Measured:
    scalars = {"loss": 1 / step if loss is None else loss, "images_per_second": 50.0}
    return Measured("train", step, 1 + (step - 1) // 10, step * 4, scalars, time=100.0 + step if time is None else time)


def validated(step: int, miou: float, best: float, target: float) -> Measured:
    scalars = {"miou": miou, "best_miou": best, "iou.target": target, "retention": miou / 0.8}
    return Measured("val", step, step // 10, step * 4, scalars, 20, time=100.5 + step)


def training(steps: int, *, best_at: int = 10**9) -> list[Event]:
    events: list[Event] = [queued(), started()]
    best, target = 0.0, 0.0
    for step in range(1, steps + 1):
        events.append(trained(step))
        if step % 10 == 0:
            miou = 0.9 if step == best_at else 0.1 + step / 1e5
            best, target = max((best, target), (miou, miou / 2))
            events.append(validated(step, miou, best, miou / 2))
    return events


class Processes:
    """Answers for processes, and counts how often it was asked."""

    def __init__(self, answer: Liveness = Liveness.DEAD) -> None:
        self.answer = answer
        self.asked: list[tuple[str, list[Any]]] = []

    def __call__(self, record: LaunchRecord) -> Liveness:
        self.asked.append((record.host, [who.get("pid") for who in (record.identity, *record.ranks)]))
        return self.answer
