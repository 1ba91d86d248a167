"""The app as screens see it: what they may ask for, actions on runs in threads, and the one measurement at a time."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from textual.app import App
from textual.worker import Worker, get_current_worker

from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.events import MeasureOptions
from kdtui.launch.engine_process import Step
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.tui.preferences import Preferences
from kdtui.tui.run_states import RunStates
from kdtui.tui.watch import Watch

T = TypeVar("T")
_TOLD = 0.2
"""Seconds between two counts that are told; other words are told at once."""


class Cockpit(App[None]):
    """What screens may ask of the app: texts in the status line, other screens, and actions on runs.

    How the app looks, and how it watches the store, is the subclass's.

    Attributes:
        store: The runs.
        board: The state of all runs.
        watcher: Told to look at once at what was changed.
        ask: Asks a verb of the engine, as :func:`kdtui.launch.engine_process.ask`.
        preferences: The user's choices.
        said: Text, command and kind of what the status line says.
        measuring: The measurement that runs.
    """

    store: RunStore
    board: RunStates
    watcher: Watch
    ask: Callable[..., dict[str, Any]]
    preferences: Preferences
    said: tuple[str, str, bool]
    measuring: Measuring

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """Show a message in the status line for a while, with the command that does the same."""
        raise NotImplementedError

    def show_header(self) -> None:
        """Write the header of the screens that can be seen."""
        raise NotImplementedError

    def prefer(self, **choices: Any) -> None:
        """Keep choices, fields of :class:`Preferences`, for the next start."""
        raise NotImplementedError

    def open_run(self, run_id: str) -> None:
        """Show one run."""
        raise NotImplementedError

    def new_run(self, clone: str | None = None) -> None:
        """Show the form of a new run, or of one like ``clone``."""
        raise NotImplementedError

    def compare(self, ids: Collection[str]) -> None:
        """Show runs beside each other."""
        raise NotImplementedError

    def export_runs(self, ids: Collection[str]) -> None:
        """Show the export of these runs; of none, for a checkpoint by its path."""
        raise NotImplementedError

    def measured(self, ids: Collection[str]) -> None:
        """Runs were measured: screens show the new measurements."""
        raise NotImplementedError

    def do(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        *,
        failed: Callable[[KdtuiError], None] | None = None,
        group: str = "default",
    ) -> None:
        """Do ``work`` in a thread, then hand what it gave to ``then`` on the UI thread.

        A :class:`KdtuiError` goes to ``failed``, by default the status line; nothing is lost by it.
        """

        def carry_out() -> None:
            try:
                result = work()
            except KdtuiError as error:
                self.call_from_thread(failed or self.say_error, error)
            except OSError as error:
                failure = LaunchError.of(error)
                self.call_from_thread(failed or self.say_error, failure)
            else:
                self.call_from_thread(then, result)

        self.run_worker(carry_out, thread=True, group=group)

    def say_error(self, error: KdtuiError) -> None:
        """A failure in the status line: what, found, and the next step."""
        facts = [error.what, error.found, error.hint and f"next: {error.hint}"]
        self.say(" · ".join(" ".join(fact.split()) for fact in facts if fact), error=True)

    def run_of(self, run_id: str) -> Run:
        """The folder of a run on the board."""
        return Run(self.store.root / run_id)

    def name_of(self, run_id: str) -> str:
        """What a run is called beside others of its name; its id when it is not on the board."""
        return self.board.names.get(run_id, run_id)

    def stop_runs(self, ids: Collection[str], *, kill: bool = False) -> None:
        """Ask runs to save and end, or end them at once."""
        runs = [self.run_of(run_id) for run_id in ids]

        def work() -> tuple[list[str], list[KdtuiError]]:
            from kdtui.launch.launcher import launcher_for

            launcher = launcher_for("local", self.store.for_thread())
            done, errors = [], []
            for run in runs:
                try:
                    launcher.stop(run, kill=kill)
                except KdtuiError as error:  # the others are still to be stopped
                    errors.append(error)
                else:
                    done.append(run.id)
            return done, errors

        def then(result: tuple[list[str], list[KdtuiError]]) -> None:
            done, errors = result
            self.watcher.nudge(ids)
            if errors:
                self.say_error(errors[0])
            else:
                names = self.name_of(done[0]) if len(done) == 1 else f"{len(done)} runs"
                flag = ["--kill"] if kill else []
                self.say(f"{names}: {'killed' if kill else 'asked to stop'}", twin("stop", *flag, *done))

        self.do(work, then)

    def resume_run(self, run_id: str, total_epochs: int | None = None, sets: Sequence[str] = ()) -> None:
        """Launch the next attempt of a run; ``sets`` say where its files are now."""
        from kdtui.launch.start import ResumedRun, resume

        run = self.run_of(run_id)
        flag = [] if total_epochs is None else ["--total-epochs", str(total_epochs)]
        flag += [word for text in sets for word in ("--set", text)]

        def then(going: ResumedRun) -> None:
            self.watcher.nudge([run_id])
            said = " · ".join(["launched again", *going.warnings])
            self.say(f"{self.name_of(run_id)}: {said}", twin("resume", run_id, *flag, "--detach"))

        self.say(f"{self.name_of(run_id)}: looking at its checkpoints and data")
        self.do(lambda: resume(self.store.for_thread(), run, total_epochs=total_epochs, sets=sets), then)

    def remove_runs(self, ids: Collection[str]) -> None:
        """Delete runs with their files."""
        from kdtui.launch.start import once_over

        def work() -> list[KdtuiError]:
            store, errors = self.store.for_thread(), list[KdtuiError]()
            for run_id in ids:
                run = self.run_of(run_id)
                try:
                    once_over(store, run, partial(store.remove, run))
                except KdtuiError as error:  # the others are still to be removed
                    errors.append(error)
            return errors

        def then(errors: list[KdtuiError]) -> None:
            self.watcher.nudge()
            count = len(ids) - len(errors)
            if errors and len(ids) > 1:
                first = " ".join(errors[0].what.split())
                self.say(f"{count} of {len(ids)} runs removed · {first} · {errors[0].where}", error=True)
            elif errors:
                self.say_error(errors[0])
            else:
                self.say(f"{count} run{'s' if count > 1 else ''} removed", twin("remove", *ids))

        self.do(work, then)

    def copy_text(self, text: str, what: str) -> None:
        """Copy and say so; in a thread, for tmux may not answer and the store's disk be slow."""
        from kdtui.tui.clipboard import copy

        def to_terminal(text: str) -> None:
            self.call_from_thread(self.copy_to_clipboard, text)

        file = self.store.root / ".cache" / "copied.txt"
        self.do(lambda: copy(to_terminal, text, file), lambda where: self.say(f"{what}: {where}"))


class Measuring:
    """What the key that measures starts and gives up, whatever screen is in front.

    Quitting gives it up too: workers of the app are cancelled then, and the engine's process is told.

    Args:
        app: Says how far it is, and tells its screens when runs were measured.
        measure: As :func:`kdtui.launch.measure.measure`.

    Attributes:
        ids: The runs that are being measured; empty when none is.
        words: How far it is, for the status line; empty when nothing is measured.
    """

    def __init__(self, app: Cockpit, measure: Callable[..., dict[str, Any]]) -> None:
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
            self._tell(f"{self.who}: cancelling")

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
            self._tell(f"{self.who}: {step.words}{count} · L cancels")

    def _ended(self, error: KdtuiError | None) -> None:
        ids, who, twin = self.ids, self.who, self.twin
        self._tell("")
        self.ids, self._worker = (), None
        self._app.show_header()
        if error is None:
            self._app.say(f"{who}: measured", twin)
            self._app.measured(ids)
        elif isinstance(error, Interrupted):
            self._app.say(f"{who}: cancelled; nothing was measured", twin)
        else:
            self._app.say_error(error)

    def _tell(self, words: str) -> None:
        """Put it into the status line, unless something else is said there just now: it comes back in silence."""
        before, self.words = self.words, " ".join(words.split())
        if self._app.said[0] in ("", before):
            self._app.say("")


def twin(*words: str) -> str:
    """The command line's way to do something, ready for a shell."""
    return shlex.join(["kdtui", *words])
