"""The controller of a search: one detached process that decides what is trained next, until its work is done.

``python -m kdtui.sweep.controller FOLDER ORDER`` is started by :mod:`kdtui.sweep.controlled`, as a supervisor is by a
launcher: it holds the folder's lock, writes a launch record and events, and obeys the stop file. What it decides
follows from files alone, so that a controller that was killed is started again without loss.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from kdtui import plugins
from kdtui.errors import Interrupted, KdtuiError
from kdtui.events import Event, Exited, Failed, Finished, Noted, Queued, Stopped
from kdtui.launch.supervise import BEAT, detached
from kdtui.launch.targets import open_store
from kdtui.store.identity import hostname, own_identity
from kdtui.store.run import EventLog, LaunchRecord, Run
from kdtui.store.store import RunStore
from kdtui.sweep.folder import SweepFolder

POLL = 0.25
"""Seconds between two looks at the runs."""
WORK: Mapping[str, str] = {"search": "kdtui.sweep.search.work:SearchWork"}
"""What a controller does, by the kind in ``spec.toml``: a callable that returns a :class:`Work`."""


class Work(Protocol):
    """The decisions of a controller."""

    def step(self) -> str | None:
        """Look at all runs and do what follows; the reason of the end once everything is done, else None.

        Raises:
            Interrupted: A stop was requested.
            KdtuiError: It cannot go on.
        """
        ...

    def stop(self) -> bool:
        """Ask its runs to save and stop; whether all have stopped. Called until then."""
        ...


class Controls(Protocol):
    """What a controller offers to its work."""

    store: RunStore
    folder: SweepFolder
    retry: bool

    def note(self, message: str) -> None:
        """Write a message to the events."""
        ...

    def stopped(self) -> bool:
        """Whether a stop was requested."""
        ...


class Controller:
    """One attempt of a controller."""

    def __init__(self, run: Run, order: Mapping[str, Any]) -> None:
        self.folder = SweepFolder(run.path)
        self.run = run
        self.attempt: int = order["attempt"]
        self.retry: bool = order["retry"]
        self.record = LaunchRecord(
            attempt=self.attempt,
            host=hostname(),
            **own_identity(),
            job_id=None,
            argv=tuple(sys.orig_argv),
            device="cpu",
            devices=0,
            total_epochs=None,
            created=order["created"],
        )
        self._beaten = float("-inf")
        self._stop_signalled = False
        self._wake, self._waker = socket.socketpair()

    def announce(self) -> None:
        """Write the launch record and the event ``queued``."""
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.run.write_launch_record(self.record)
        self._beat()
        self._say(Queued(self.attempt))

    def work(self) -> None:
        """Decide until everything is done or a stop is requested; write the final event."""
        try:
            self.store = open_store(self.run.path.parent.parent)
            make: Callable[[Controls], Work] = plugins.imported(WORK[str(self.folder.read().get("kind"))])
            work = make(self)
            self._say(self._decide(work), Exited(self.attempt, 0))
        except (KdtuiError, OSError) as error:
            self._say(_failed(error), Exited(self.attempt, 3))
            raise
        except Exception as error:
            traceback.print_exc()
            self._say(
                Failed("LaunchError", f"{type(error).__name__}: {error}", f"the traceback is in {self.run.worker_log}"),
                Exited(self.attempt, 3),
            )
            raise

    def _decide(self, work: Work) -> Event:
        try:
            while not self.stopped():
                if (reason := work.step()) is not None:
                    return Finished(0, 0, reason=reason)
                self._sleep()
        except Interrupted:
            if not self.stopped():
                raise
        while not work.stop():
            self._sleep()
        return Stopped(0, 0, reason=self.run.stop_reason())

    def note(self, message: str) -> None:
        """See :class:`Controls`."""
        self._say(Noted(message))

    def stopped(self) -> bool:
        """See :class:`Controls`."""
        self._beat()
        return self._stop_signalled or self.run.stop_requested()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signalled = True

    def _sleep(self) -> None:
        self._beat()
        if select.select([self._wake], [], [], POLL)[0]:
            self._wake.recv(4096)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten >= BEAT:
            self._beaten = time.monotonic()
            os.utime(self.run.beat_path)

    def _say(self, *events: Event) -> None:
        with EventLog(self.run.events_path) as log:
            for event in events:
                log.append(event)


def _failed(error: KdtuiError | OSError) -> Failed:
    if isinstance(error, KdtuiError):
        return Failed(type(error).__name__, error.message, error.hint)
    return Failed("LaunchError", f"{error.strerror or error}: {error.filename or ''}")


if __name__ == "__main__":
    sys.exit(detached([str(Path(sys.argv[1])), sys.argv[2]], Controller))
