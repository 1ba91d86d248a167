"""The screen that writes profiles for a folder of images and labels, as ``kdtui init`` does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import get_current_worker

from kdtui.errors import Interrupted, KdtuiError
from kdtui.launch.data_check import check_data
from kdtui.launch.engine_process import EngineStep, converse
from kdtui.launch.new_profiles import look, machine, profile_files, write_profiles
from kdtui.launch.teachers import find_teacher
from kdtui.profile.find import expanded
from kdtui.store.store import RunStore
from kdtui.tui.cockpit import throttled
from kdtui.tui.keys import bindings_over_fields
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.screens.form import FormScreen
from kdtui.tui.values import Part, TextLines
from kdtui.tui.views.new_profiles import (
    CLASSES,
    FIELDS,
    FOLDER,
    LAYOUT,
    TEACHER,
    ProfilesDraft,
    RecognisedFolder,
    asked,
    data_report,
    failure,
    layouts,
    read,
    recognised,
)
from kdtui.tui.widgets.choices import Heading, Labelled, LineInput
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.paths import PathSuggester

T = TypeVar("T")
_FILES = (FOLDER, TEACHER)
_QUESTIONS = (LAYOUT, CLASSES)


class _Field(Labelled):
    """A field with a text."""

    def __init__(self, name: str) -> None:
        self.field = name
        suggester = PathSuggester() if name in _FILES else None
        self.input = LineInput(suggester=suggester, placeholder=FIELDS[name].partition("; ")[2], id=name)
        super().__init__(name, self.input)


class NewProfilesScreen(FormScreen):
    """Looks at a folder, asks what it cannot know, writes profiles and reads every image and label.

    Args:
        then: Called after profiles were written and the screen is left, with the profile to train next, or an empty
            text if none is wanted.
    """

    SCOPES = ("profiles",)
    BINDINGS: ClassVar[list[BindingType]] = bindings_over_fields("profiles")
    DEFAULT_CSS = """
    NewProfilesScreen #form { height: 1fr; width: 100%; scrollbar-size-vertical: 1; }
    NewProfilesScreen #twin { background: $surface; max-height: 3; }
    NewProfilesScreen #standing { background: $surface; max-height: 6; }
    """

    def __init__(self, then: Callable[[str], None]) -> None:
        super().__init__()
        self._then = then
        self._fields = {name: _Field(name) for name in FIELDS}
        self._layouts, self._facts = Panel(wraps=True, id="layouts"), Panel(wraps=True, id="facts")
        self._data, self._data_title = Panel(wraps=True, id="data"), Heading()
        self._command, self._standing = Panel(wraps=True, id="twin"), Panel(wraps=True, id="standing")
        self._seen: RecognisedFolder | None = None
        self.draft = ProfilesDraft()
        self._written: tuple[str, ...] = ()
        self._next = ""  # profile to train next
        self._doing = ""
        self._failure: TextLines = []
        self._cancel = threading.Event()

    def body(self) -> Iterable[Widget]:
        """Compose fields, what was recognised, and the report on the data."""
        title, recognised_title = Heading(), Heading()
        title.entitle("PROFILES FOR YOUR OWN DATA", "teacher, baseline, distilled student")
        recognised_title.entitle("RECOGNISED")
        self._data_title.entitle("DATA")
        with VerticalScroll(id="form", can_focus=False):
            yield title
            yield from (self._fields[name] for name in FIELDS if name not in _QUESTIONS)
            yield recognised_title
            yield self._layouts
            yield from (self._fields[name] for name in _QUESTIONS)
            yield self._facts
            yield self._data_title
            yield self._data
        yield self._command
        yield self._standing

    def on_mount(self) -> None:
        """Focus the folder."""
        self._show()
        self.set_focus(self._fields[FOLDER].input)

    def on_unmount(self) -> None:
        """Cancel what is running."""
        self._cancel.set()

    @property
    def texts(self) -> Mapping[str, str]:
        """Current texts of all fields."""
        return {name: entry.input.value for name, entry in self._fields.items()}

    @property
    def seen(self) -> RecognisedFolder | None:
        """What was recognised in the folder that the fields name now."""
        return self._seen if self._seen is not None and self._seen.asked == asked(self.texts) else None

    # Displaying.

    def _show(self) -> None:
        seen = self.seen
        self.draft = draft = read(self.texts, seen)
        for name, entry in self._fields.items():
            entry.fault(draft.mistakes.get(name, "") if draft.folder != Path() else "")
        self._fields[LAYOUT].display = seen is not None and len(seen.guesses) > 1
        self._fields[CLASSES].display = draft.unnamed
        self._layouts.show(layouts(seen))
        self._facts.show(recognised(draft, seen) or ([] if seen else [[("enter looks at the folder", "muted")]]))
        self._data_title.display = self._data.display
        self._command.show([[("$ ", "muted"), (draft.command or "…", "strong" if draft.command else "muted")]])
        doing: TextLines = [[(f"{self._doing} · ^x cancels", "")]] if self._doing else []
        self._standing.show(doing or self._failure or self._outlook())

    def _outlook(self) -> TextLines:
        if self._data.display:
            return [[("✓ ", "good"), (f"{len(self._written)} profiles written · ^o sets up a run", "good")]]
        return [] if self.draft.guess is None else [[("^r writes the profiles and reads every image", "muted")]]

    def _tell(self, doing: str, failed: KdtuiError | None = None) -> None:
        """Display what is running, or why it ended."""
        if self.is_attached:
            self._doing, self._failure = doing, [] if failed is None else failure(failed)
            self._show()

    def silence(self) -> Sequence[Part]:
        """Description of the focused field."""
        names = [name for name, entry in self._fields.items() if entry.input is self.focused]
        return [Part(f"{name}: {FIELDS[name]}", "text-muted") for name in names]

    def on_descendant_focus(self) -> None:
        """Display the description of the focused field."""
        if not self.cockpit.said[0]:
            self.say("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Read the texts again; an earlier report belonged to others."""
        event.stop()
        self._failure = []
        self._data.show([])
        self._show()

    # Work in threads.

    def _do(self, doing: str, work: Callable[[Callable[[], bool]], T], then: Callable[[T], None]) -> None:
        """Do work in a thread, which gets a function that tells whether it was cancelled."""
        cancel = self._cancel = threading.Event()
        self._tell(doing)

        def carry_out() -> T:
            worker = get_current_worker()
            return work(lambda: cancel.is_set() or worker.is_cancelled)

        def finished(result: T) -> None:
            if self.is_attached:
                self._tell("")
                then(result)

        def failed(error: KdtuiError) -> None:
            if isinstance(error, Interrupted):
                self._tell("")
                self.cockpit.say("cancelled; written profiles are kept")
            else:
                self._tell("", error)

        self.cockpit.do(carry_out, finished, failed=failed, group="new profiles")

    def _busy(self) -> bool:
        if self._doing:
            self.cockpit.say(f"{self._doing}; ^x cancels it", error=True)
        return bool(self._doing)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look at the folder, or go on to the next field."""
        event.stop()
        if self.seen is None:
            self.action_look()
        else:
            self.focus_next()

    def action_look(self) -> None:
        """Look at the folder, and inspect the teacher."""
        if self._busy():
            return
        texts = asked(self.texts)
        if not texts[0]:
            self._go_to(FOLDER, "choose a folder", error=True)
            return
        store = self.cockpit.store.for_thread()
        self._seen = None
        self._do("looking at the folder", partial(_look_at, texts, store), self._looked)

    def _looked(self, seen: RecognisedFolder) -> None:
        self._seen = seen
        self._show()
        mistakes = self.draft.mistakes
        questions = [name for name, entry in self._fields.items() if name in _QUESTIONS and entry.display]
        if mistakes:
            self._go_to(next(iter(mistakes)), "fix this first", error=True)
        elif questions:
            self._go_to(questions[0], "^r writes the profiles with these answers")

    def _go_to(self, name: str, words: str, *, error: bool = False) -> None:
        entry = self._fields[name]
        self.set_focus(entry.input)
        self.call_after_refresh(lambda: entry.scroll_visible(animate=False, immediate=True))
        self.cockpit.say(words, error=error)

    def action_write(self) -> None:
        """Write the profiles, after confirmation if some exist; without a recognised folder, look at it first."""
        if self._busy():
            return
        self._show()
        seen, draft = self.seen, self.draft
        first = next(iter(draft.mistakes), FOLDER)
        if first != FOLDER:
            self._go_to(first, "fix this first", error=True)
        elif seen is None or draft.guess is None:
            self.action_look()
        else:
            files = profile_files(draft.name, teacher=seen.teacher is not None).values()
            self._do(
                "looking for profiles of this name",
                lambda cancelled: [str(file) for file in files if file.exists()],
                partial(self._write, draft, seen),
            )

    def _write(self, draft: ProfilesDraft, seen: RecognisedFolder, existing: Sequence[str]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._do("writing", partial(_write, draft, seen), partial(self._check, draft, seen))

        if existing:
            self.app.push_screen(Confirm("Replace these profiles?", "\n".join(existing), draft.command), answered)
        else:
            answered(True)

    def _check(self, draft: ProfilesDraft, seen: RecognisedFolder, files: Mapping[str, Path]) -> None:
        """Read every image and label of the written profiles."""
        self._written = tuple(files)
        self._next = list(files)[0 if seen.teacher is None else -1]
        self.cockpit.say(f"written: {', '.join(map(str, files.values()))}", draft.command)
        app, root, baseline = self.app, self.cockpit.store.root, files[f"{draft.name}-baseline"]
        on_step = throttled(lambda step: app.call_later(self._show_step, step))

        def work(cancelled: Callable[[], bool]) -> dict[str, Any]:
            from kdtui.profile import load

            return check_data(load(baseline), root, on_step=on_step, cancelled=cancelled)

        def then(report: dict[str, Any]) -> None:
            self._data.show(data_report(report, draft.name, seen.teacher))
            self._show()
            self.call_after_refresh(lambda: self._data_title.scroll_visible(top=True, animate=False, immediate=True))

        self._do("reading every image", work, then)

    def _show_step(self, step: EngineStep) -> None:
        if self._doing and not self._cancel.is_set():
            self._tell(f"{step.words} {step.done}/{step.total}" if step.total else step.words)

    # Keys.

    def action_cancel(self) -> None:
        """Cancel what is running."""
        if not self._doing:
            self.cockpit.say("nothing is running")
            return
        self._cancel.set()
        self._tell("cancelling")

    def action_copy_command(self) -> None:
        """Copy the equivalent command line."""
        if self.draft.command:
            self.cockpit.copy_text(self.draft.command, "command")
        else:
            self.cockpit.say("no command yet: choose a folder first", error=True)

    def action_scroll(self, pages: int) -> None:
        """Scroll by a number of pages."""
        view = self.query_one("#form")
        view.scroll_relative(y=pages * max(1, view.size.height - 2), animate=False)

    def action_train(self) -> None:
        """Set up a run of the written profiles; a check of the data is cancelled."""
        if self._written:
            self._go(self._next)
        else:
            self.cockpit.say("no profiles yet: ^r writes them", error=True)

    def action_leave(self) -> None:
        """Cancel what is running, and go back."""
        self._go("")

    def _go(self, profile: str) -> None:
        self._cancel.set()
        if self.app.screen is self:
            self.leave()
            if self._written:
                self._then(profile)


def _look_at(texts: tuple[str, str], store: RunStore, cancelled: Callable[[], bool]) -> RecognisedFolder:
    ask = partial(converse, cancelled=cancelled)
    folder, teacher = texts
    checkpoint = find_teacher(teacher, store).checkpoint if teacher else None
    guesses = look(expanded(folder), ask)
    inspected = {} if checkpoint is None else ask("inspect", str(checkpoint))
    return RecognisedFolder(texts, guesses, machine(), checkpoint, inspected)


def _write(draft: ProfilesDraft, seen: RecognisedFolder, cancelled: Callable[[], bool]) -> dict[str, Path]:
    assert draft.guess is not None
    return write_profiles(draft.name, draft.folder, draft.guess, teacher=seen.teacher, on=seen.on)
