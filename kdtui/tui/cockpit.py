"""The base class of the app: the interface for screens, actions on runs in threads, and the measuring of runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from textual.app import App
from textual.worker import Worker, get_current_worker

from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.launch.engine_process import EngineStep
from kdtui.measure_options import MeasureOptions
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.text import one_line
from kdtui.tui.preferences import Preferences
from kdtui.tui.run_states import RunStates
from kdtui.tui.watch import Watch

T = TypeVar("T")
_REDRAW = 0.2
"""Seconds between two displayed counts; other texts are displayed at once."""


class Cockpit(App[None]):
    """The interface of the app for its screens: status line, other screens, and actions on runs.

    The subclass implements the appearance, and watches the store.

    Attributes:
        store: The run store.
        board: The state of all runs.
        watcher: Watches the store; notified after each action.
        ask: Calls a verb of the engine, like :func:`kdtui.launch.engine_process.ask`.
        preferences: The user's choices.
        said: Message, command and error flag of the status line.
        measuring: Measures runs.
    """

    store: RunStore
    board: RunStates
    watcher: Watch
    ask: Callable[..., dict[str, Any]]
    preferences: Preferences
    said: tuple[str, str, bool]
    measuring: Measuring

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """Display a message in the status line for a while, with the equivalent command."""
        raise NotImplementedError

    def show_header(self) -> None:
        """Update the header of the visible screens."""
        raise NotImplementedError

    def prefer(self, **choices: Any) -> None:
        """Save choices, fields of :class:`Preferences`, for the next start."""
        raise NotImplementedError

    def open_run(self, run_id: str) -> None:
        """Display one run."""
        raise NotImplementedError

    def new_run(self, clone: str | None = None, *, profile: str = "") -> None:
        """Display the form of a new run, of one like ``clone``, or of a profile."""
        raise NotImplementedError

    def new_profiles(self, then: Callable[[str], None] | None = None) -> None:
        """Display the screen that writes profiles for a folder of images and labels.

        Args:
            then: Called after profiles were written, with the one to train next or an empty text; by default the form
                of a new run is displayed with it.
        """
        raise NotImplementedError

    def compare(self, ids: Collection[str]) -> None:
        """Display the comparison of runs."""
        raise NotImplementedError

    def sweeps(self, sweep_id: str | None = None) -> None:
        """Display the sweeps, with the cursor on one of them."""
        raise NotImplementedError

    def list_runs(self, expression: str) -> None:
        """Display the list of runs with a filter."""
        raise NotImplementedError

    def searches(self, search_id: str | None = None) -> None:
        """Display the searches, with the cursor on one of them."""
        raise NotImplementedError

    def new_search(self, teacher: str = "") -> None:
        """Display the form of a search, for the students of a run."""
        raise NotImplementedError

    def export_runs(self, ids: Collection[str]) -> None:
        """Display the export of these runs; without runs, that of a checkpoint file."""
        raise NotImplementedError

    def measured(self, ids: Collection[str]) -> None:
        """Update the screens after runs were measured."""
        raise NotImplementedError

    def do(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        *,
        failed: Callable[[KdtuiError], None] | None = None,
        group: str = "default",
    ) -> None:
        """Do ``work`` in a thread, then call ``then`` with its result on the UI thread.

        A :class:`KdtuiError` is passed to ``failed``, by default to the status line.
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
        """Display an error in the status line: what is wrong, what was found, and the next step."""
        facts = [error.what, error.found and f"found: {error.found}", error.hint and f"next: {error.hint}"]
        self.say(" · ".join(one_line(fact) for fact in facts if fact), error=True)

    def run_of(self, run_id: str) -> Run:
        """The run with an id."""
        return Run(self.store.root / run_id)

    def name_of(self, run_id: str) -> str:
        """Name of a run that distinguishes it from runs of the same name; its id if it is unknown."""
        return self.board.names.get(run_id, run_id)

    def stop_runs(self, ids: Collection[str], *, kill: bool = False) -> None:
        """Stop runs, which save first; or kill them."""
        runs = [self.run_of(run_id) for run_id in ids]

        def work() -> tuple[list[str], list[KdtuiError]]:
            from kdtui.launch.targets import launcher_of

            store = self.store.for_thread()
            done, errors = [], []
            for run in runs:
                try:
                    launcher_of(run, store).stop(run, kill=kill)
                except KdtuiError as error:  # the other runs are still stopped
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
                self.say(f"{names}: {'killed' if kill else 'stopping'}", command_line("stop", *flag, *done))

        self.do(work, then)

    def resume_run(self, run_id: str, total_epochs: int | None = None, sets: Sequence[str] = ()) -> None:
        """Launch the next attempt of a run; ``sets`` replaces paths that have changed."""
        from kdtui.launch.start import ResumedRun, resume

        run = self.run_of(run_id)
        flag = [] if total_epochs is None else ["--total-epochs", str(total_epochs)]
        flag += [word for text in sets for word in ("--set", text)]

        def then(going: ResumedRun) -> None:
            self.watcher.nudge([run_id])
            said = " · ".join(["resumed", *going.warnings])
            self.say(f"{self.name_of(run_id)}: {said}", command_line("resume", run_id, *flag, "--detach"))

        self.say(f"{self.name_of(run_id)}: checking its checkpoints and data")
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
                except KdtuiError as error:  # the other runs are still removed
                    errors.append(error)
            return errors

        def then(errors: list[KdtuiError]) -> None:
            self.watcher.nudge()
            count = len(ids) - len(errors)
            if errors and len(ids) > 1:
                first = one_line(errors[0].what)
                self.say(f"{count} of {len(ids)} runs removed · {first} · {errors[0].where}", error=True)
            elif errors:
                self.say_error(errors[0])
            else:
                self.say(f"{count} run{'s' if count > 1 else ''} removed", command_line("remove", *ids))

        self.do(work, then)

    def copy_text(self, text: str, what: str) -> None:
        """Copy a text and report it; in a thread, as tmux and the disk of the store may be slow."""
        from kdtui.tui.clipboard import copy

        def to_terminal(text: str) -> None:
            self.call_from_thread(self.copy_to_clipboard, text)

        file = self.store.root / ".cache" / "copied.txt"
        self.do(lambda: copy(to_terminal, text, file), lambda where: self.say(f"{what}: {where}"))


class Measuring:
    """Starts and cancels the measuring of runs, on any screen.

    Quitting cancels it, too: the workers of the app are cancelled, and with them the engine's process.

    Args:
        app: Displays the progress, and updates its screens after runs were measured.
        measure: Measures runs, like :func:`kdtui.launch.measure.measure`.

    Attributes:
        ids: The runs that are being measured; empty if none.
        words: Progress for the status line; empty if nothing is measured.
    """

    def __init__(self, app: Cockpit, measure: Callable[..., dict[str, Any]]) -> None:
        self._app = app
        self._measure = measure
        self._worker: Worker[None] | None = None
        self.ids: tuple[str, ...] = ()
        self.words = ""

    @property
    def command_line(self) -> str:
        """The equivalent command line."""
        return shlex.join(["kdtui", "measure", *self.ids])

    @property
    def subject(self) -> str:
        """Name of the run, or the number of runs."""
        return self._app.name_of(self.ids[0]) if len(self.ids) == 1 else f"{len(self.ids)} runs"

    def start(self, ids: Sequence[str]) -> None:
        """Measure these runs together, so that their times can be compared."""
        self.ids = tuple(ids)
        self._app.show_header()
        self._app.say("")
        self._tell(f"{self.subject}: measuring")
        runs = [self._app.run_of(run_id) for run_id in self.ids]
        self._worker = self._app.run_worker(partial(self._carry_out, runs), thread=True, group="measuring")

    def give_up(self) -> None:
        """Cancel the measurement; its end is reported."""
        if self._worker is not None and self.ids:
            self._worker.cancel()
            self._tell(f"{self.subject}: cancelling")

    def _carry_out(self, runs: Sequence[Run]) -> None:
        """Runs in the thread. It never waits for the app, which may exit before the engine."""
        worker, app = get_current_worker(), self._app
        on_step = throttled(lambda step: app.call_later(self._show_step, step))
        error: KdtuiError | None = None
        try:
            self._measure(
                app.store.root, runs, MeasureOptions(), on_step=on_step, cancelled=lambda: worker.is_cancelled
            )
        except KdtuiError as failure:
            error = failure
        except OSError as failure:
            error = LaunchError.of(failure)
        app.call_later(self._ended, error)

    def _show_step(self, step: EngineStep) -> None:
        if self._worker is not None and not self._worker.is_cancelled:
            count = f" {step.done}/{step.total}" if step.total else ""
            self._tell(f"{self.subject}: {step.words}{count} · L cancels")

    def _ended(self, error: KdtuiError | None) -> None:
        ids, subject, command_line = self.ids, self.subject, self.command_line
        self._tell("")
        self.ids, self._worker = (), None
        self._app.show_header()
        if error is None:
            self._app.say(f"{subject}: measured", command_line)
            self._app.measured(ids)
        elif isinstance(error, Interrupted):
            self._app.say(f"{subject}: cancelled; nothing was measured", command_line)
        else:
            self._app.say_error(error)

    def _tell(self, words: str) -> None:
        """Display the progress in the status line, unless another message is displayed: then after that."""
        before, self.words = self.words, one_line(words)
        if self._app.said[0] in ("", before):
            self._app.say("")


def throttled(show: Callable[[EngineStep], object]) -> Callable[[EngineStep], None]:
    """Pass steps on to ``show``, but counts of the same step only a few times a second."""
    last = ("", 0.0)

    def on_step(step: EngineStep) -> None:
        nonlocal last
        now = time.monotonic()
        if step.words != last[0] or now - last[1] >= _REDRAW:
            last = step.words, now
            show(step)

    return on_step


def command_line(*words: str) -> str:
    """The equivalent command, quoted for a shell."""
    return shlex.join(["kdtui", *words])
