"""A launcher that starts the engine of one rank as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from kdtui.events import Queued
from kdtui.launch.alive import probe
from kdtui.launch.engine_process import engine_command, rank_environment
from kdtui.launch.launcher import Check
from kdtui.profile import Profile
from kdtui.store.identity import hostname, identity_of
from kdtui.store.run import EventLog, LaunchRecord, Run
from kdtui.store.state import Liveness
from kdtui.store.store import RunStore


class DetachedLauncher:
    """Needs no slot, and has no supervisor."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def launch(self, run: Run, *, total_epochs: int | None = None) -> LaunchRecord:
        """Start the engine, which waits for its launch record on stdin's end."""
        former = run.launch_record()
        attempt = 1 if former is None else former.attempt + 1
        run.clear_stop()
        run.logs.mkdir(exist_ok=True)
        argv = ["sh", "-c", 'read begin && exec "$@"', "sh", *engine_command("train", str(run.path))]
        environment = {**os.environ, **rank_environment(0, 1, port=0, threads=1)}
        with run.worker_log.open("ab") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        record = LaunchRecord(
            attempt=attempt,
            host=hostname(),
            **identity_of(process.pid),
            job_id=str(process.pid),
            argv=tuple(argv),
            device="cpu",
            devices=1,
            total_epochs=total_epochs,
            created=time.time(),
            target="detached",
        )
        run.write_launch_record(record)
        with EventLog(run.events_path) as events:
            events.append(Queued(attempt, "cpu"))
        assert process.stdin is not None
        with process.stdin as begin:
            begin.write(b"begin\n")
        return record

    def stop(self, run: Run, *, kill: bool = False) -> None:
        """Ask the engine, or end it."""
        record = run.launch_record()
        if kill and record is not None:
            os.killpg(record.pid, signal.SIGKILL)
        else:
            run.request_stop()

    def liveness(self, record: LaunchRecord) -> Liveness:
        """That of its process."""
        return probe(record)

    def check(self, profile: Profile, *, torch_gpus: int | None = None) -> tuple[Check, ...]:
        """It trains on one rank."""
        devices = profile.training.devices
        return (Check("detached", devices == 1, f"{devices} of 1 rank", "--set training.devices=1"),)
