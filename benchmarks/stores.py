"""Run stores to measure on: many finished runs, a few that live."""

from __future__ import annotations

import json
import time
from pathlib import Path

from kdtui.events import Event, Exited, Finished, Measured, Queued, Started, encode
from kdtui.profile import Distillation, Model, Profile, dump
from kdtui.store.identity import hostname, own_identity
from kdtui.store.run import LaunchRecord, Run

STEPS = 20
"""Optimizer steps per epoch."""


def many(root: Path, count: int, *, events: int = 40) -> list[Run]:
    """``count`` finished runs, the newest last; written without the store, which would take long."""
    root.mkdir(parents=True, exist_ok=True)
    body = dump(_profile("run"))
    lines = b"".join(encode(event) for event in _training(events, first=1, start=1.7e9))
    ended = lines + encode(Finished(events, events // STEPS)) + encode(Exited(1, 0))
    runs = []
    for number in range(count):
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(1.7e9 + 60 * number))
        run = Run(root / f"{stamp}-n{number:05}")
        run.path.mkdir()
        run.profile_path.write_bytes(body)
        created = (1_700_000_000 + 60 * number) * 10**9
        manifest = {"id": run.id, "name": f"n{number:05}", "created_ns": created}
        run.manifest_path.write_text(json.dumps(manifest))
        run.write_launch_record(_record())
        run.events_path.write_bytes(ended)
        runs.append(run)
    return runs


def live(root: Path, count: int, *, events: int = 200) -> list[Run]:
    """``count`` runs whose rank is this very process, so that they live for as long as it does."""
    root.mkdir(parents=True, exist_ok=True)
    runs = []
    for number in range(count):
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime())
        run = Run(root / f"{stamp}-live{number}")
        run.path.mkdir()
        run.profile_path.write_bytes(dump(_profile(f"live{number}")))
        manifest = {"id": run.id, "name": f"live{number}", "created_ns": time.time_ns()}
        run.manifest_path.write_text(json.dumps(manifest))
        run.write_launch_record(_record())
        start = time.time() - events
        run.events_path.write_bytes(b"".join(encode(event) for event in _training(events, first=1, start=start)))
        runs.append(run)
    return runs


def train_a_step(run: Run, step: int) -> None:
    """What a step of a live run appends."""
    with run.events_path.open("ab") as file:
        file.write(encode(_measured(step, time.time())))


def _profile(name: str) -> Profile:
    return Profile(
        name=name,
        student=Model(encoder="resnet18"),
        distillation=Distillation(enabled=True, temperature=4.0, alpha=0.7),
    )


def _record() -> LaunchRecord:
    own = own_identity()
    return LaunchRecord(
        attempt=1,
        host=hostname(),
        pid=own["pid"],
        start_ticks=own["start_ticks"],
        boot_id=own["boot_id"],
        job_id=None,
        argv=("benchmark",),
        device="cpu",
        devices=1,
        total_epochs=None,
        created=time.time(),
        ranks=(own,),
    )


def _measured(step: int, when: float) -> Measured:
    loss = 0.3 + 2.0 / (1 + step / 50) + 0.02 * ((step * 7919) % 13) / 13
    scalars = {
        "loss": loss,
        "loss.base": 0.6 * loss,
        "loss.distill": 1.2 * loss,
        "lr": 1e-3,
        "temperature": 4.0,
        "alpha": 0.7,
        "images_per_second": 80.0 + step % 7,
    }
    return Measured("train", step, 1 + (step - 1) // STEPS, step * 16, scalars, time=when)


def _training(steps: int, *, first: int, start: float) -> list[Event]:
    found: list[Event] = [
        Queued(1, "cpu", time=start),
        Started(
            attempt=1,
            ranks=(own_identity(),),
            device="cpu",
            precision="fp32",
            threads=1,
            world_size=1,
            epochs=1000,
            steps_per_epoch=STEPS,
            resumed_step=0,
            student={"parameters": 11_780_000, "parameters_used": 11_780_000},
            teacher={"parameters": 24_440_000, "miou": 0.754},
            time=start + 1,
        ),
    ]
    for step in range(first, first + steps):
        found.append(_measured(step, start + 1 + step))
        if step % STEPS == 0:
            miou = 0.7 * step / (step + 60)
            scalars = {"miou": miou, "best_miou": miou, "iou.target": miou, "retention": miou / 0.754}
            found.append(Measured("val", step, step // STEPS, step * 16, scalars, 1000, time=start + 1.5 + step))
    return found
