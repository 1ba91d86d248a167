"""Processes that outlive the one that started them: supervisors of runs, and controllers of searches.

:func:`kdtui.launch.local.start_detached` starts each as ``python -m MODULE FOLDER ORDER``, which inherits the folder's
lock and the write end of a pipe. It forks into the background, writes a launch record and events, and does not depend
on any terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from kdtui.errors import KdtuiError, LaunchError
from kdtui.events import Event, Failed
from kdtui.store.identity import hostname, own_identity
from kdtui.store.run import EventLog, LaunchRecord, Run

BEAT = 15.0
"""Seconds between two heartbeats."""


class DetachedProcess(ABC):
    """One attempt of such a process.

    Args:
        run: The run, or another folder with the same files.
        order: ``attempt`` and ``created`` of the launch.
        argv: What it runs, for the launch record.
        device: ``cpu`` or ``gpu``.
        devices: Number of ranks.
        total_epochs: Horizon that overrides the profile's.
    """

    def __init__(
        self,
        run: Run,
        order: Mapping[str, Any],
        *,
        argv: Sequence[str],
        device: str = "cpu",
        devices: int = 0,
        total_epochs: int | None = None,
    ) -> None:
        self.run = run
        self.attempt: int = order["attempt"]
        self.record = LaunchRecord(
            attempt=self.attempt,
            host=hostname(),
            **own_identity(),
            job_id=None,
            argv=tuple(argv),
            device=device,
            devices=devices,
            total_epochs=total_epochs,
            created=order["created"],
        )
        self.stop_signalled = False
        self._beaten = float("-inf")
        self._wake, self._waker = socket.socketpair()

    @abstractmethod
    def announce(self) -> None:
        """Write the launch record and the event ``queued``; until then no other process can find this one."""

    @abstractmethod
    def work(self) -> None:
        """Work until the end, and write the final events."""

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT request a stop, ignore SIGHUP, and let every signal end a :meth:`sleep`."""
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only a handled signal wakes the descriptor

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_signalled = True  # the stop file is written later: a handler that raises would end the process

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested, by a signal or the stop file."""
        return self.stop_signalled or self.run.stop_requested()

    def sleep(self, seconds: float) -> None:
        """Sleep until the time is over or a signal arrives."""
        self.beat()
        if select.select([self._wake], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(4096)

    def beat(self) -> None:
        """Update the heartbeat if it is due."""
        if time.monotonic() - self._beaten >= BEAT:
            self._beaten = time.monotonic()
            try:
                self.run.touch_beat()
            except OSError as error:  # other hosts will show it as silent; the work continues
                print(f"beat: {error}", file=sys.stderr, flush=True)

    def write(self, *events: Event) -> None:
        """Append events."""
        with EventLog(self.run.events_path) as log:
            for event in events:
                log.append(event)


def failed(error: KdtuiError | OSError, what: str) -> Failed:
    """The event of an error; ``what`` begins the message of one of the system."""
    if isinstance(error, KdtuiError):
        return Failed(type(error).__name__, error.message, error.hint)
    return Failed("LaunchError", f"{what}: {error}")


def main(arguments: Sequence[str], make: Callable[[Run, Mapping[str, Any]], DetachedProcess]) -> int:
    """Fork away from the process that started this one, answer it, and work.

    Args:
        arguments: The folder, and JSON of the order.
        make: Creates what works.
    """
    run, order = Run(Path(arguments[0])), json.loads(arguments[1])
    detach()
    return serve(run, order, make)


def detach() -> None:
    """Fork away from the process that started this one."""
    if os.fork():
        os._exit(0)  # the launcher waits for this process; the child is adopted by init
    os.setsid()  # a new process group: killing it must not kill other processes


def serve(run: Run, order: Mapping[str, Any], make: Callable[[Run, Mapping[str, Any]], DetachedProcess]) -> int:
    """Answer the launcher and work; see :func:`main`."""
    ready: int = order["ready"]
    try:
        process = make(run, order)
        process.announce()
        with contextlib.suppress(BrokenPipeError):  # the launcher was killed: the attempt continues
            os.write(ready, b"ready")
        os.close(ready)
        process.work()
    except (KdtuiError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return LaunchError.exit_code
    return 0
