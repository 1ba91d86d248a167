"""The controller of a sampled sweep or a search: one detached process that decides what is trained next.

``python -m kdtui.sweep.controller FOLDER ORDER`` is started by :mod:`kdtui.sweep.controlled`, as a supervisor is by a
launcher: it holds the folder's lock, writes a launch record and events, and obeys the stop file. What it decides
follows from files alone, so that a controller that was killed is started again without loss.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kdtui import plugins
from kdtui.errors import Interrupted, KdtuiError
from kdtui.events import Event, Exited, Failed, Finished, Noted, Queued, Stopped
from kdtui.launch.detached import DetachedProcess, failed, main
from kdtui.launch.targets import open_store
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.sweep.folder import SAMPLED, SEARCH, SweepFolder

POLL = 0.25
"""Seconds between two looks at the runs."""
WORK: Mapping[str, str] = {
    SEARCH: "kdtui.sweep.search.work:SearchWork",
    SAMPLED: "kdtui.sweep.sampled.work:SampledWork",
}
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


class Controller(DetachedProcess):
    """One attempt of a controller."""

    def __init__(self, run: Run, order: Mapping[str, Any]) -> None:
        super().__init__(run, order, argv=sys.orig_argv)
        self.folder = SweepFolder(run.path)
        self.retry: bool = order["retry"]

    def announce(self) -> None:
        """See the base class."""
        self.handle_signals()
        self.run.write_launch_record(self.record)
        self.beat()
        self.write(Queued(self.attempt))

    def work(self) -> None:
        """Decide until everything is done or a stop is requested; write the final event."""
        try:
            self.store = open_store(self.run.path.parent.parent)
            make: Callable[[Controls], Work] = plugins.imported(WORK[str(self.folder.read().get("kind"))])
            work = make(self)
            self.write(self._decide(work), Exited(self.attempt, 0))
        except (KdtuiError, OSError) as error:
            self.write(failed(error, f"The {self.folder.verb} could not go on"), Exited(self.attempt, 3))
            raise
        except Exception as error:
            traceback.print_exc()
            self.write(
                Failed("LaunchError", f"{type(error).__name__}: {error}", f"the traceback is in {self.run.worker_log}"),
                Exited(self.attempt, 3),
            )
            raise

    def _decide(self, work: Work) -> Event:
        try:
            while not self.stopped():
                if (reason := work.step()) is not None:
                    return Finished(0, 0, reason=reason)
                self.sleep(POLL)
        except Interrupted:
            if not self.stopped():
                raise
        while not work.stop():
            self.sleep(POLL)
        return Stopped(0, 0, reason=self.run.stop_reason())

    def note(self, message: str) -> None:
        """See :class:`Controls`."""
        self.write(Noted(message))

    def stopped(self) -> bool:
        """See :class:`Controls`."""
        self.beat()
        return self.stop_requested


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Controller))
