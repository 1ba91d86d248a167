"""One measurement at a time, in a thread: it waits for the device, tells how far it is, and can be given up."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.worker import Worker, get_current_worker

from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.launch.converse import Step
from kdtui.measurement import MeasureOptions
from kdtui.store.run import Run

if TYPE_CHECKING:
    from kdtui.tui.app import KdtuiApp

_TOLD = 0.2
"""Seconds between two counts that are told; other words are told at once."""


class Measuring:
    """What the key that measures starts and gives up, whatever screen is in front.

    Quitting gives it up too: workers of the app are cancelled then, and the engine's process is told.

    Args:
        app: Says how far it is, and tells its screens when runs were measured.
        measure: As :func:`kdtui.launch.measuring.measure`.

    Attributes:
        ids: The runs that are being measured; empty when none is.
        words: How far it is, for the status line; empty when nothing is measured.
    """

    def __init__(self, app: KdtuiApp, measure: Callable[..., dict[str, Any]]) -> None:
        self._app = app
        self._measure = measure
        self._worker: Worker[None] | None = None
        self.ids: tuple[str, ...] = ()
        self.words = ""

    @property
    def twin(self) -> str:
        """The command line that does the same."""
        return shlex.join(["kdtui", "measure", *self.ids])

    @property
    def who(self) -> str:
        """The run, or how many."""
        return self._app.name_of(self.ids[0]) if len(self.ids) == 1 else f"{len(self.ids)} runs"

    def start(self, ids: Sequence[str]) -> None:
        """Measure these runs together, so that their times can be compared."""
        self.ids = tuple(ids)
        self._app.show_header()
        self._app.say("")
        self._tell(f"{self.who}: measuring")
        runs = [self._app.run_of(run_id) for run_id in self.ids]
        self._worker = self._app.run_worker(partial(self._carry_out, runs), thread=True, group="measuring")

    def give_up(self) -> None:
        """Have it end; it says when it has."""
        if self._worker is not None and self.ids:
            self._worker.cancel()
            self._tell(f"{self.who}: giving up")

    def _carry_out(self, runs: Sequence[Run]) -> None:
        """In the thread. Nothing here waits for the app: it may be gone before the engine is."""
        worker, app = get_current_worker(), self._app
        last = ("", 0.0)

        def heard(step: Step) -> None:
            nonlocal last
            now = time.monotonic()
            if step.words != last[0] or now - last[1] >= _TOLD:
                last = step.words, now
                app.call_later(self._heard, step)

        error: KdtuiError | None = None
        try:
            self._measure(app.store.root, runs, MeasureOptions(), heard=heard, cancelled=lambda: worker.is_cancelled)
        except KdtuiError as failure:
            error = failure
        except OSError as failure:
            error = LaunchError.of(failure)
        app.call_later(self._ended, error)

    def _heard(self, step: Step) -> None:
        if self._worker is not None and not self._worker.is_cancelled:
            count = f" {step.done}/{step.total}" if step.total else ""
            self._tell(f"{self.who}: {step.words}{count} · L gives up")

    def _ended(self, error: KdtuiError | None) -> None:
        ids, who, twin = self.ids, self.who, self.twin
        self._tell("")
        self.ids, self._worker = (), None
        self._app.show_header()
        if error is None:
            self._app.say(f"{who}: measured", twin)
            self._app.measured(ids)
        elif isinstance(error, Interrupted):
            self._app.say(f"{who}: given up; nothing was measured", twin)
        else:
            self._app.say_error(error)

    def _tell(self, words: str) -> None:
        """Put it into the status line, unless something else is said there just now: it comes back in silence."""
        before, self.words = self.words, " ".join(words.split())
        if self._app.said[0] in ("", before):
            self._app.say("")
