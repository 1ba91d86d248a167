"""Actions on runs, shared by the list of runs and the screen of one run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from kdtui.errors import UsageError
from kdtui.profile.limits import MOST_EPOCHS
from kdtui.store.run import Notes
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.text import one_line
from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.dialogs import Confirm, Prompt

_NAMED = 6
"""Most runs named in a question; the others are counted."""


class RunActions(CockpitScreen):
    """A screen with actions on :attr:`run_id` and on :attr:`chosen`."""

    @property
    def run_id(self) -> str | None:
        """The run for actions on one run."""
        raise NotImplementedError

    @property
    def chosen(self) -> list[str]:
        """The runs for actions on several runs."""
        return [] if self.run_id is None else [self.run_id]

    @property
    def hidden(self) -> frozenset[str]:
        """Those of :attr:`chosen` that the filter hides."""
        return frozenset()

    @property
    def row(self) -> RunSummary | None:
        """Summary of the run."""
        return None if self.run_id is None else self.cockpit.board.find(self.run_id)

    def action_open(self) -> None:
        """Display the run on its own screen."""
        if self.run_id is not None:
            self.cockpit.open_run(self.run_id)

    def action_compare(self) -> None:
        """Compare the marked runs."""
        if len(self.chosen) < 2:
            self.cockpit.say("mark two or more runs with space, then press c")
        else:
            self.cockpit.compare(self.chosen)

    def action_export_onnx(self) -> None:
        """Export the runs; without runs, a checkpoint file."""
        self.cockpit.export_runs(self.chosen)

    @property
    def to_measure(self) -> list[str]:
        """The runs to measure together."""
        return self.chosen

    def action_measure(self) -> None:
        """Measure size and latency, exclusively on the device; while measuring, cancel it, after confirmation."""
        measuring, ids = self.cockpit.measuring, self.to_measure
        if measuring.ids:
            what = "Existing measurements are kept."
            self._ask(Confirm(f"Cancel measuring {measuring.subject}?", what), measuring.give_up)
        elif len(ids) > 1 or any(key in self.hidden for key in ids):
            what = "One after the other, each exclusively on its device; L cancels."
            self._ask(self._about("measure", ids, what), lambda: measuring.start(ids))
        elif ids:
            measuring.start(ids)
        else:
            self.cockpit.say("no run to measure: a best checkpoint is required", error=True)

    def action_new_run(self) -> None:
        """Display the form of a new run."""
        self.cockpit.new_run()

    def action_new_profiles(self) -> None:
        """Display the screen that writes profiles for a folder."""
        self.cockpit.new_profiles()

    def action_clone(self) -> None:
        """Display the form with the settings of this run."""
        if self.run_id is not None:
            self.cockpit.new_run(clone=self.run_id)

    def action_new_search(self) -> None:
        """Display the form of a search for the students of this run."""
        self.cockpit.new_search(self.run_id or "")

    def action_stop(self) -> None:
        """Save and stop the chosen live runs, after confirmation."""
        rows = self.cockpit.board.rows
        live = [key for key in self.chosen if key in rows and rows[key].state in LIVE]
        if live:
            what = "The state is saved; R resumes it later."
            self._ask(self._about("stop", live, what), lambda: self.cockpit.stop_runs(live))
        else:
            self.cockpit.say("nothing to stop: no chosen run is running or queued", error=True)

    def _about(self, verb: str, ids: Sequence[str], what: str) -> Confirm:
        """The confirmation of a verb: the runs, those of them that the filter hides, and the consequences."""
        names = self.cockpit.board.names
        hidden = [key for key in ids if key in self.hidden]
        lines = [what]
        if len(ids) > 1:
            lines.insert(0, _listed([names.get(key, key) for key in ids if key not in hidden]))
        if hidden:
            lines.append(f"Hidden by the filter: {_listed([names.get(key, key) for key in hidden])}")
        who = names.get(ids[0], ids[0]) if len(ids) == 1 else f"{len(ids)} runs"
        detail = "\n".join(line for line in lines if line)
        return Confirm(f"{verb.title()} {who}?", detail, shlex.join(["kdtui", verb, *ids]))

    def action_kill(self) -> None:
        """Kill the processes of the run, after confirmation."""
        row, run_id = self.row, self.run_id
        if row is None or run_id is None:
            return
        if row.state not in LIVE:
            self.cockpit.say(f"nothing to kill: {self.cockpit.name_of(run_id)} is {row.state.word.lower()}", error=True)
            return
        what = "Its processes are killed; progress since the last checkpoint is lost."
        question = Confirm(f"Kill {self.cockpit.name_of(run_id)}?", what, f"kdtui stop --kill {shlex.quote(run_id)}")
        self._ask(question, lambda: self.cockpit.stop_runs([run_id], kill=True))

    def action_remove(self) -> None:
        """Delete the run, after confirmation."""
        row, run_id = self.row, self.run_id
        if row is None or run_id is None:
            return
        if row.state in LIVE:
            name, command = self.cockpit.name_of(run_id), f"kdtui stop {shlex.quote(run_id)}"
            self.cockpit.say(f"{name} is running or queued; press x to stop it first", command, error=True)
            return
        what = f"{row.path} is deleted with all checkpoints."
        question = Confirm(f"Delete {self.cockpit.name_of(run_id)}?", what, f"kdtui remove {shlex.quote(run_id)}")
        self._ask(question, lambda: self.cockpit.remove_runs([run_id]))

    def _ask(self, question: Confirm, then: Callable[[], None]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                then()

        self.app.push_screen(question, answered)

    def action_resume(self) -> None:
        """Resume the run, after a prompt for the number of epochs."""
        row, run_id = self.row, self.run_id
        if row is None or run_id is None:
            return
        if row.state in LIVE:
            name, command = self.cockpit.name_of(run_id), f"kdtui watch {shlex.quote(run_id)}"
            self.cockpit.say(f"{name} is running or queued already", command, error=True)
            return

        def answered(text: str | None) -> None:
            if text is not None:
                epochs, sets = horizon_and_places(text)
                self.cockpit.resume_run(run_id, horizon(epochs), *([sets] if sets else []))

        now = "unknown" if row.epochs is None else str(row.epochs)
        finished = row.state is State.FINISHED
        keeps = (
            f"It finished {now} epochs; enter a larger number." if finished else f"Leave empty to keep {now} epochs."
        )
        prompt = Prompt(
            f"Resume {self.cockpit.name_of(run_id)} up to which epoch?",
            detail=f"{keeps} Changing the number of epochs rescales the learning-rate schedule; the change is logged.",
            check=lambda text: horizon(horizon_and_places(text)[0], done=row.epoch or 0, finished=finished),
            command=f"kdtui resume {shlex.quote(run_id)} [--total-epochs N] [--set data.root=FOLDER]",
        )
        self.app.push_screen(prompt, answered)

    def action_note(self) -> None:
        """Edit tags and note."""
        run_id = self.run_id
        if run_id is None or self.row is None:
            return
        run = self.cockpit.run_of(run_id)

        before = ""

        def edit(notes: Notes) -> None:
            nonlocal before
            before = line_of(notes)
            prompt = Prompt(
                f"Tags and note of {run_id}",
                before,
                detail="Words that begin with # are tags; the rest is the note.",
                command=f"kdtui note {shlex.quote(run_id)} TEXT",
            )
            self.app.push_screen(prompt, answered)

        def answered(text: str | None) -> None:
            # A note with several lines or a # in it is kept unless the text was changed.
            if text is not None and text != before:
                self.cockpit.do(lambda: run.write_notes(notes_of(text)), lambda _: written())

        def written() -> None:
            self.cockpit.watcher.nudge([run_id])
            self.cockpit.say("note saved", f"kdtui note {shlex.quote(run_id)} TEXT")

        self.cockpit.do(run.notes, edit)

    def action_copy(self) -> None:
        """Copy the id of the run."""
        if self.run_id is not None:
            self.cockpit.copy_text(self.run_id, self.run_id)


def horizon_and_places(text: str) -> tuple[str, list[str]]:
    """Split a text into the number of epochs and the ``KEY=VALUE`` words with new paths of the run's files.

    Raises:
        UsageError: A quote is not closed.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError("a quote is not closed", found=text) from error
    return " ".join(word for word in words if "=" not in word), [word for word in words if "=" in word]


def _listed(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def horizon(text: str, *, done: int = 0, finished: bool = False) -> int | None:
    """Parse a number of epochs; None for an empty text.

    Args:
        text: The typed text.
        done: Number of epochs that the run has begun.
        finished: Whether the run finished: then the number must be larger.

    Raises:
        UsageError: Not an integer, or nothing would be left to train.
    """
    typed = text.strip()
    if not typed and not finished:
        return None
    least = done + 1 if finished else max(done, 1)
    # isdecimal instead of isdigit: `²` is a digit, but int() rejects it.
    if not (typed.isdecimal() and len(typed) <= 7 and least <= int(typed) <= MOST_EPOCHS):
        raise UsageError(
            "not a valid number of epochs",
            found=typed or "nothing",
            allowed=f"an integer from {least} to {MOST_EPOCHS}{'' if finished else ', or nothing'}",
        )
    return int(typed)


def line_of(notes: Notes) -> str:
    """Tags and note on one line, in the format of :func:`notes_of`."""
    words = [*(f"#{tag}" for tag in notes.tags), notes.text]
    return one_line(" ".join(words))


def notes_of(text: str) -> Notes:
    """Parse tags (words with a #) and the note from one line."""
    words = text.split()
    tags = [word[1:] for word in words if word.startswith("#") and len(word) > 1]
    return Notes(tuple(dict.fromkeys(tags)), " ".join(word for word in words if not word.startswith("#")))
