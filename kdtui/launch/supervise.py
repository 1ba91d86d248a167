"""The supervisor of one attempt: waits for other runs and a slot, starts the ranks, writes the final event.

``python -m kdtui.launch.supervise RUN ORDER`` is started by a launcher, from which it inherits the run's lock and the
write end of a pipe. It forks into the background, writes the launch record and the event ``queued``, and does not
depend on any terminal. If it is killed, the ranks continue: they hold the slots and the lock too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from kdtui.errors import KdtuiError, LaunchError, StoreError
from kdtui.events import Event, Exited, Failed, Queued, Stopped
from kdtui.launch.awaited import has_finished
from kdtui.launch.engine_process import engine_command, engine_environment, free_port, rank_environment
from kdtui.launch.slots import Slots, Ticket
from kdtui.launch.targets import open_store
from kdtui.store.files import sha256_of
from kdtui.store.identity import hostname, identity_of, own_identity
from kdtui.store.run import EventLog, LaunchRecord, Run

BEAT = 15.0
POLL = 0.1
"""Seconds between two polls for a slot or a stop file."""
GRACE = "KDTUI_GRACE"
"""Environment variable: seconds that ranks have to exit by themselves after one has failed; default 2."""
MOST_GRACE = 3600


class Supervisor:
    """One attempt of one run."""

    def __init__(self, run: Run, order: Mapping[str, Any]) -> None:
        self.run = run
        self.attempt: int = order["attempt"]
        self.lock: int = order["lock"]
        self.slot_names: tuple[str, ...] = tuple(order["slots"])
        self.record = LaunchRecord(
            attempt=self.attempt,
            host=hostname(),
            **own_identity(),
            job_id=None,
            argv=tuple(engine_command("train", str(run.path))),
            device=order["device"],
            devices=order["devices"],
            total_epochs=order["total_epochs"],
            created=order["created"],
        )
        self.grace = _grace()
        self._beaten = float("-inf")
        self._stop_signalled = False
        self._wake, self._waker = socket.socketpair()

    def announce(self) -> None:
        """Write the launch record and the event ``queued``; until then no other process can find this one."""
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only a handled signal wakes the descriptor
        # Created before the record, so that an unusable queue fails the launch instead of a run that seems started.
        # While it waits for another run, a run has no ticket, which would hold up the runs behind it.
        awaited = self.run.manifest().awaited
        self._ticket = None if awaited else self._new_ticket()
        self._record_waiting(next(iter(awaited), None))
        self._beat()
        self._say(Queued(self.attempt, self.record.device))

    def _new_ticket(self) -> Ticket:
        root, record = self.run.path.parent, self.record
        return Ticket(root, record.device, self.slot_names, record.created, self.run.id)

    def _record_waiting(self, run_id: str | None) -> None:
        self.record = dataclasses.replace(self.record, waits_for=run_id)
        self.run.write_launch_record(self.record)

    def work(self) -> None:
        """Wait for other runs and slots, start the ranks, wait for them and write the final events."""
        try:
            self._wait_for_runs()
            slots = self._wait_for_slots()
            if slots is None:
                reason = self.run.stop_reason("stopped while waiting")
                self._say(Stopped(0, 0, reason=reason), Exited(self.attempt, 0))
                return
            ranks = self._start(slots)
            # The ranks have inherited the slots. A suspended supervisor must not keep holding them.
            slots.used_by(self.record.ranks)
            slots.release()
        except (KdtuiError, OSError) as error:
            # No rank is running, so no other process writes events, and only this one has the error.
            self._say(_failed(error), Exited(self.attempt, 3))
            raise
        self._say(self._watch(ranks))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signalled = True  # the stop file is written later: a handler that raises would end the supervisor

    @property
    def _stopped(self) -> bool:
        return self._stop_signalled or self.run.stop_requested()

    def _wait_for_runs(self) -> None:
        """Return once the runs of teachers and initial weights have finished, or if this one is stopped.

        Raises:
            LaunchError: One of them ended without finishing, or does not exist any more.
        """
        hashes = {}
        store = open_store(self.run.path.parent)
        for run_id in self.run.manifest().awaited:
            if self.record.waits_for != run_id:
                self._record_waiting(run_id)
            awaited = Run(store.root / run_id)
            while not (finished := has_finished(awaited, self.run, store)) and not self._stopped:
                self._sleep(POLL)
            if not finished:
                return
            hashes[run_id] = sha256_of(awaited.best)
        if hashes:
            self.run.record_awaited(hashes)
            self._record_waiting(None)

    def _wait_for_slots(self) -> Slots | None:
        """The slots, or None if the run was stopped while waiting."""
        count = self.record.devices if self.record.device == "gpu" else 1
        ticket = self._ticket or self._new_ticket()
        try:
            while not self._stopped:
                slots = ticket.try_take(count)
                if slots is not None:
                    return slots
                self._sleep(POLL)
            return None
        finally:
            ticket.leave()

    def _start(self, slots: Slots) -> list[subprocess.Popen[bytes]]:
        """Start every rank and record each at once; if one cannot be started, kill the others."""
        training = self.run.profile_table().get("training", {})
        port = free_port()
        gpus = slots.names if self.record.device == "gpu" else ()
        ranks: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(self.record.devices):
                own = rank_environment(
                    rank, self.record.devices, port=port, threads=int(training.get("threads", 0)), gpus=gpus
                )
                process = subprocess.Popen(
                    self.record.argv,
                    stdin=subprocess.DEVNULL,
                    env=engine_environment(own),
                    pass_fds=(self.lock, *slots.descriptors),
                    process_group=0,  # so that loader workers can be killed with their rank
                )
                ranks.append(process)
                self.record = dataclasses.replace(self.record, ranks=(*self.record.ranks, identity_of(process.pid)))
                self.run.write_launch_record(self.record)
        except (KdtuiError, OSError):
            for process in ranks:
                _end(process)
                process.wait()
            raise
        return ranks

    def _watch(self, ranks: list[subprocess.Popen[bytes]]) -> Exited:
        """Wait until all ranks have exited; if one fails, kill the others after a grace period."""
        bad: tuple[int, int] | None = None
        deadline = float("inf")
        living = dict(enumerate(ranks))
        while living:
            for rank, process in list(living.items()):
                code = process.poll()
                if code is None:
                    continue
                del living[rank]
                _end(process)  # remaining children would hold the slot
                if code != 0 and bad is None:
                    bad, deadline = (rank, code), time.monotonic() + self.grace
            if time.monotonic() >= deadline:
                for process in living.values():
                    _end(process)
            if living:
                self._sleep(min(1.0, max(0.01, deadline - time.monotonic())))
        if bad is None:
            return Exited(self.attempt, 0)
        rank, code = bad
        return Exited(self.attempt, code, _signal_name(code), rank)

    def _sleep(self, seconds: float) -> None:
        """Sleep until the time is over or a signal arrives: a rank exited, or a stop was requested."""
        self._beat()
        self._pass_on_the_stop()
        if select.select([self._wake], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(4096)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten >= BEAT:
            self._beaten = time.monotonic()
            try:
                self.run.touch_beat()
            except OSError as error:  # other hosts will show the run as silent; the training continues
                print(f"beat: {error}", file=sys.stderr, flush=True)

    def _pass_on_the_stop(self) -> None:
        if not self._stop_signalled or self.run.stop_requested():
            return
        try:
            self.run.request_stop()
        except StoreError as error:  # for example a full disk: retried at the next wake-up
            print(error, file=sys.stderr, flush=True)

    def _say(self, *events: Event) -> None:
        with EventLog(self.run.events_path) as log:
            for event in events:
                log.append(event)


def _grace() -> float:
    """Seconds between the failure of one rank and the killing of the others.

    Raises:
        LaunchError: ``KDTUI_GRACE`` is not a valid number of seconds.
    """
    text = os.environ.get(GRACE, "2")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MOST_GRACE:
        raise LaunchError(
            f"{GRACE} is not a number of seconds", found=text, allowed=f"0 to {MOST_GRACE}", hint=f"unset {GRACE}"
        )
    return seconds


def _failed(error: KdtuiError | OSError) -> Failed:
    if isinstance(error, KdtuiError):
        return Failed(type(error).__name__, error.message, error.hint)
    return Failed("LaunchError", f"The ranks could not be started: {error}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a rank and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _signal_name(code: int) -> str | None:
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-code}"


class Detached(Protocol):
    """What a detached process does."""

    def announce(self) -> None:
        """Write the launch record; until then no other process can find this one."""
        ...

    def work(self) -> None:
        """Work until the end."""
        ...


def detached(arguments: list[str], make: Callable[[Run, Mapping[str, Any]], Detached]) -> int:
    """Fork away from the process that started this one, answer it, and work.

    Args:
        arguments: The folder, and JSON of the order.
        make: Creates what works.
    """
    run, order = Run(Path(arguments[0])), json.loads(arguments[1])
    if os.fork():
        os._exit(0)  # the launcher waits for this process; the child is adopted by init
    os.setsid()  # a new process group: killing it must not kill other processes
    ready: int = order["ready"]
    try:
        worker = make(run, order)
        worker.announce()
        with contextlib.suppress(BrokenPipeError):  # the launcher was killed: the attempt continues
            os.write(ready, b"ready")
        os.close(ready)
        worker.work()
    except (KdtuiError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return LaunchError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(detached(sys.argv[1:], Supervisor))
