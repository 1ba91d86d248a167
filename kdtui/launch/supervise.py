"""The supervisor of one attempt: waits for other runs and a slot, starts the ranks, writes the final event.

``python -m kdtui.launch.supervise RUN ORDER`` is started by a launcher, from which it inherits the run's lock and the
write end of a pipe. It forks into the background, writes the launch record and the event ``queued``, and does not
depend on any terminal. If it is killed, the ranks continue: they hold the slots and the lock too.

With ``--standby`` it is started before the run exists, and receives the same over a socket; its engine is running then,
see :mod:`kdtui.launch.standby`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from kdtui.errors import KdtuiError, LaunchError, StoreError
from kdtui.events import Exited, Queued, Stopped
from kdtui.launch.awaited import has_finished
from kdtui.launch.detached import DetachedProcess, detach, failed, main, serve
from kdtui.launch.engine_process import engine_command, engine_environment, free_port, rank_environment
from kdtui.launch.slots import Slots, Ticket
from kdtui.launch.standby import OPTION, WaitingEngine, wait_for_order
from kdtui.launch.targets import open_store
from kdtui.store.files import sha256_of
from kdtui.store.identity import identity_of
from kdtui.store.run import Run

POLL = 0.1
"""Seconds between two polls for a slot or a stop file."""
GRACE = "KDTUI_GRACE"
"""Environment variable: seconds that ranks have to exit by themselves after one has failed; default 2."""
MOST_GRACE = 3600


class Supervisor(DetachedProcess):
    """One attempt of one run.

    Args:
        run: The run.
        order: From the launcher.
        engine: An engine that can be its rank, if it gets its slot at once: it takes memory while it waits.
    """

    def __init__(self, run: Run, order: Mapping[str, Any], engine: WaitingEngine | None = None) -> None:
        super().__init__(
            run,
            order,
            argv=engine_command("train", str(run.path)),
            device=order["device"],
            devices=order["devices"],
            total_epochs=order["total_epochs"],
        )
        self.lock: int = order["lock"]
        self.slot_names: tuple[str, ...] = tuple(order["slots"])
        self.grace = _grace()
        self._engine = engine

    def announce(self) -> None:
        """See the base class."""
        self.handle_signals()
        # Created before the record, so that an unusable queue fails the launch instead of a run that seems started.
        # While it waits for another run, a run has no ticket, which would hold up the runs behind it.
        awaited = self.run.manifest().awaited
        self._ticket = None if awaited else self._new_ticket()
        self._record_waiting(next(iter(awaited), None))
        self.beat()
        self.write(Queued(self.attempt, self.record.device))

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
                self.write(Stopped(0, 0, reason=reason), Exited(self.attempt, 0))
                return
            ranks = self._start(slots)
            # The ranks have inherited the slots. A suspended supervisor must not keep holding them.
            slots.used_by(self.record.ranks)
            slots.release()
        except (KdtuiError, OSError) as error:
            # No rank is running, so no other process writes events, and only this one has the error.
            self.write(failed(error, "The ranks could not be started"), Exited(self.attempt, 3))
            raise
        self.write(self._watch(ranks))

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
            while not (finished := has_finished(awaited, self.run, store)) and not self.stop_requested:
                self.sleep(POLL)
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
            while not self.stop_requested:
                slots = ticket.try_take(count)
                if slots is not None:
                    return slots
                self._end_engine()
                self.sleep(POLL)
            self._end_engine()
            return None
        finally:
            ticket.leave()

    def _end_engine(self) -> None:
        """End the engine that was started before; the rank will be another one."""
        if self._engine is not None:
            self._engine.end()
            self._engine = None

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
                process = self._rank(own, (self.lock, *slots.descriptors))
                ranks.append(process)
                self.record = dataclasses.replace(self.record, ranks=(*self.record.ranks, identity_of(process.pid)))
                self.run.write_launch_record(self.record)
        except (KdtuiError, OSError):
            for process in ranks:
                _end(process)
                process.wait()
            raise
        return ranks

    def _rank(self, environment: Mapping[str, str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
        """The process of a rank: the engine that was started before, or a new one."""
        engine, self._engine = self._engine, None
        if engine is not None:
            if engine.train(self.run, environment, descriptors):
                return engine.process
            engine.end()
        return subprocess.Popen(
            self.record.argv,
            stdin=subprocess.DEVNULL,
            env=engine_environment(environment),
            pass_fds=descriptors,
            process_group=0,  # so that loader workers can be killed with their rank
        )

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
                self.sleep(min(1.0, max(0.01, deadline - time.monotonic())))
        if bad is None:
            return Exited(self.attempt, 0)
        rank, code = bad
        return Exited(self.attempt, code, _signal_name(code), rank)

    def sleep(self, seconds: float) -> None:
        """Sleep until the time is over or a signal arrives: a rank exited, or a stop was requested."""
        self._pass_on_the_stop()
        super().sleep(seconds)

    def _pass_on_the_stop(self) -> None:
        if not self.stop_signalled or self.run.stop_requested():
            return
        try:
            self.run.request_stop()
        except StoreError as error:  # for example a full disk: retried at the next wake-up
            print(error, file=sys.stderr, flush=True)


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


def stand_by(order: Mapping[str, Any]) -> int:
    """Start the engine, and supervise the run that its profile becomes; exit if the command exits without a launch.

    Args:
        order: From :class:`kdtui.launch.standby.Standby`.
    """
    detach()
    engine = WaitingEngine(order)
    launch = wait_for_order(order["control"])
    if launch is None:
        engine.end()
        return 0
    run, own_order, log = launch
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(log, stream)
    os.close(log)
    return serve(run, own_order, partial(Supervisor, engine=engine))


if __name__ == "__main__":
    if sys.argv[1] == OPTION:
        sys.exit(stand_by(json.loads(sys.argv[2])))
    sys.exit(main(sys.argv[1:], Supervisor))
