"""What is done on a person's behalf: runs stopped, resumed and removed, texts copied; all of it in threads."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from textual.app import App

from kdtui.errors import KdtuiError, LaunchError
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.tui.board import Board
from kdtui.tui.watch import Watch

T = TypeVar("T")


class Deeds(App[None]):
    """An app that stops, resumes, removes and copies; how it looks is the subclass's.

    Attributes:
        store: The runs.
        board: What is known of them.
        watcher: Told to look at once at what was changed.
    """

    store: RunStore
    board: Board
    watcher: Watch

    def say(self, text: str, command: str = "", error: bool = False) -> None:
        """Put a sentence into the status line for a while, with the command line's way to do the same."""
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
        from kdtui.launch.start import Going, resume

        run = self.run_of(run_id)
        flag = [] if total_epochs is None else ["--total-epochs", str(total_epochs)]
        flag += [word for text in sets for word in ("--set", text)]

        def then(going: Going) -> None:
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


def twin(*words: str) -> str:
    """The command line's way to do something, ready for a shell."""
    return shlex.join(["kdtui", *words])
