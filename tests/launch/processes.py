"""Making scripted runs, looking at their processes, and ending them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kdtui.events import Event
from kdtui.launch.alive import is_running
from kdtui.launch.slots import slot_folder
from kdtui.profile import Profile, Training
from kdtui.store.event_log import Tail
from kdtui.store.identity import hostname
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.state import RunSummary, State
from kdtui.store.store import RunStore
from tests.waiting import eventually as eventually

Script = Mapping[str, list[dict[str, Any]]]
SHORT: Script = {"*": [{"steps": 3}]}
FOREVER: Script = {"*": [{"steps": 3000, "seconds": 0.02}]}


def make(store: RunStore, script: Script = SHORT, *, name: str = "r", devices: int = 1, **training: Any) -> Run:
    table = Training(devices=devices, batch_size=devices, accelerator="cpu", **training)
    run = store.create(Profile(name=name, training=table))
    (run.path / "script.json").write_text(json.dumps(script))
    return run


def with_gpus(monkeypatch: pytest.MonkeyPatch, folder: Path, count: int, mig: str = "") -> None:
    """Let this machine have GPUs with the UUIDs GPU-a0000, GPU-a0001…, the last with a part of this UUID."""
    program = folder / "driver" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    lines = [f"echo 'GPU {n}: NVIDIA H200 (UUID: GPU-a{n:04d})'" for n in range(count)]
    lines += [f"echo '  MIG 1g.18gb     Device  0: (UUID: {mig})'"] if mig else []
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def reaches(store: RunStore, run: Run, *states: State) -> RunSummary:
    def row() -> RunSummary | None:
        found = store.summary(run)
        return found if found.state in states else None

    reached = eventually(row, lambda: f"{states}; it is {store.summary(run)} after {events(run)}")
    assert isinstance(reached, RunSummary)
    return reached


def trains(store: RunStore, run: Run, step: int = 1) -> LaunchRecord:
    """Wait until the run measured ``step``; its record, with all ranks."""
    eventually(lambda: (store.summary(run).step or 0) >= step, f"{run.id} at step {step}")
    return record_of(run)


def record_of(run: Run) -> LaunchRecord:
    record = run.launch_record()
    assert record is not None
    return record


def everyone(record: LaunchRecord) -> dict[str, Mapping[str, Any]]:
    return {"supervisor": record.identity, **{f"rank {n}": who for n, who in enumerate(record.ranks)}}


def kill(who: Mapping[str, Any]) -> None:
    """SIGKILL this very process and wait until it is gone."""
    if is_running(who):
        os.kill(who["pid"], signal.SIGKILL)
    eventually(lambda: not is_running(who), f"{who} dead")


def heeds_sigterm(who: Mapping[str, Any]) -> bool:
    """Whether the process has its handler yet; scripted ranks do not wait for each other, as real ones do to join."""
    status = Path(f"/proc/{who['pid']}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def wait_until_exited(record: LaunchRecord) -> None:
    eventually(lambda: not any(map(is_running, everyone(record).values())), f"{record} gone")


def events(run: Run) -> list[Event]:
    return Tail(run.events_path).read()


def kinds(run: Run) -> list[str]:
    return [event.kind for event in events(run)]


def slot_is_held(store: RunStore, name: str = "cpu-0") -> bool:
    return is_locked(slot_folder(store.root, hostname()) / name)


def is_locked(path: Path) -> bool:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def end_everything(store: RunStore) -> None:
    """What a test leaves behind."""
    for run in store.runs():
        record = run.launch_record()
        for who in everyone(record).values() if record else ():
            if is_running(who):
                try:
                    os.killpg(who["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    continue
