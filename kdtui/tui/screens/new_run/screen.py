"""The form of a new run: its sections, the result of the checks, and the launch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import DescendantFocus
from textual.widget import Widget

from kdtui.catalog import NetworkCost
from kdtui.errors import KdtuiError
from kdtui.launch.teachers import TeacherRow
from kdtui.profile.find import ProfileFile
from kdtui.profile.settings import SETTINGS
from kdtui.tui.engine_client import Inspected
from kdtui.tui.form import Checked, RunDraft
from kdtui.tui.form.costs import Shape, listed_cost
from kdtui.tui.form.queue import DeviceUse, place
from kdtui.tui.form.tables import PLAIN, TERMS
from kdtui.tui.keys import keys_of
from kdtui.tui.screens.new_run.background_check import Behind, QueueRead, QueueSource
from kdtui.tui.screens.new_run.launching import REST, Launching
from kdtui.tui.screens.new_run.pickers import MethodSection, ProfileSection
from kdtui.tui.screens.new_run.sections import FieldRow, LossSection, RunsSection, Section, TrainingSection
from kdtui.tui.screens.new_run.tables import DataSection, KeysSection, TermsSection, Title
from kdtui.tui.screens.new_run.teacher import StudentSection, TeacherSection
from kdtui.tui.screens.new_run.verdict import CheckResult
from kdtui.tui.values import Part
from kdtui.tui.widgets.picker import Picker
from kdtui.tui.widgets.slider import Slider

WIDTHS = [(0, "-narrow"), (112, "-wide")]
HEIGHTS = [(0, "-low"), (44, "-high")]

CSS = """
NewRunScreen #form { height: 1fr; width: 100%; }
NewRunScreen .column { width: 1fr; height: auto; }
NewRunScreen .pair { height: auto; width: 1fr; }
NewRunScreen .half { height: auto; width: 1fr; }
NewRunScreen .about { min-height: 2; }
NewRunScreen #verdict { background: $surface; max-height: 9; }

NewRunScreen.-narrow #form { layout: vertical; overflow-y: auto; scrollbar-size-vertical: 1; }
NewRunScreen.-narrow .pair { layout: horizontal; }
NewRunScreen.-narrow #profile Table { height: 8; }
NewRunScreen.-narrow #teacher Table { height: 8; }
NewRunScreen.-narrow #teacher Picker { width: 3fr; }
NewRunScreen.-narrow #teacher .about { width: 2fr; }
NewRunScreen.-narrow #student Table { height: 8; }
NewRunScreen.-narrow #method Table { height: 7; }

NewRunScreen.-wide #form { layout: horizontal; overflow: hidden; }
NewRunScreen.-wide .column { height: 100%; overflow-y: auto; scrollbar-size-vertical: 1; }
NewRunScreen.-wide #middle { margin: 0 1; width: 52; }
NewRunScreen.-wide .pair { layout: vertical; }
NewRunScreen.-wide #profile Table { height: 5; }
NewRunScreen.-wide #teacher Table { height: 5; }
NewRunScreen.-wide.-high #profile Table, NewRunScreen.-wide.-high #teacher Table { height: 10; }
NewRunScreen.-wide #student { height: 1fr; min-height: 16; }
NewRunScreen.-wide #method Table { height: 5; }
NewRunScreen.-wide.-high #method Table { height: 10; }
NewRunScreen.-wide #student Picker { height: 1fr; min-height: 8; }
NewRunScreen.-wide #student Table { height: 1fr; }
NewRunScreen.-wide #student.-unfolded { height: auto; }
NewRunScreen.-wide #student.-unfolded Picker { height: auto; }
NewRunScreen.-wide #student.-unfolded Table { height: 8; }
NewRunScreen.-wide #verdict { max-height: 12; }
NewRunScreen.-narrow .knobs { layout: grid; grid-size: 2; grid-rows: auto; }
NewRunScreen TermsSection Table { height: 5; }
"""


W = TypeVar("W", bound=Widget)
_FIRST = "demo-teacher"
"""Profile of a new form if there are neither teachers nor own profiles; it needs no data."""
_MOVES = ("next_part", "previous_part")
_HELP = {
    "profile": "data, task and training; a name or a file",
    "encoder": "the student's encoder; empty: from the profile",
    "method": "terms and weights of the distillation; T and α are set below",
    TERMS: "enter adds the term under the cursor",
    "loss.terms": "enter adds the term under the cursor",
}


class NewRunScreen(Launching):
    """Sets up, checks and launches runs.

    Args:
        clone: Id of a run whose resolved profile is used.
        profile: Name of the profile that is chosen at first.

    Attributes:
        sections: The sections, in order.
    """

    SCOPES = ("new",)
    # Moves have priority: otherwise fast typing adds letters to a field before it has passed such a key on.
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key.keys, key.action, key.help, key_display=key.shown, show=False, priority=key.action in _MOVES)
            for key in keys_of("new")
            if key.keys
        ),
        Binding("tab", "app.focus_next", "Next field", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Field before", show=False, priority=True),
    ]
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    DEFAULT_CSS = CSS

    def __init__(self, clone: str | None = None, *, profile: str = "") -> None:
        super().__init__(RunDraft(clone=clone or "", profile=profile))
        self._edits = 0
        self._machine: DeviceUse | None = None
        self._queue_source: QueueSource | None = None
        self._scores: dict[str, float | None] = {}
        self._files: Sequence[ProfileFile] | None = None
        self._teachers: Sequence[TeacherRow] | None = None
        self._begun = False
        self.sections: Sequence[Section] = ()

    def body(self) -> Iterable[Widget]:
        """Compose the sections, in the order in which they are filled in."""
        cockpit = self.cockpit
        self.behind = Behind(cockpit.store, cockpit.ask, self._do, cockpit.board.find)
        self._teacher = TeacherSection(lambda path: self.behind.door.cached(path, self.checked.teacher_options))
        self._student = StudentSection()
        columns: list[list[Section]] = [
            [RunsSection(), ProfileSection(), self._teacher],
            [self._student, MethodSection(), TermsSection(TERMS, "DISTILLATION TERMS")],
            [
                LossSection(),
                TrainingSection(),
                *map(KeysSection, PLAIN),
                TermsSection("loss.terms", "SUPERVISED TERMS"),
                DataSection(),
            ],
        ]
        self.sections = [section for column in columns for section in column]
        with Container(id="form"):
            for column, name in zip(columns, (None, "middle", None), strict=True):
                yield Vertical(*column, classes="column", id=name)
        yield CheckResult()

    def on_mount(self) -> None:
        """Fill the fields and start to read; this imports pydantic before the first key press."""
        self.refill()
        self.behind.profiles(self._profiles_listed)
        self.behind.machine(self._machine_seen, self.failed)
        if self.draft.clone or self.draft.profile:
            self.read()
        part: Section = self.query_one(LossSection if self.draft.clone else ProfileSection)
        part.focus_first()

    def _do(self, work: Any, then: Any, *, failed: Any = None) -> None:
        """Do work in a thread; the result is dropped if the form was removed."""

        def alive(tell: Any) -> Any:
            return lambda result: tell(result) if self.is_attached else None

        self.cockpit.do(work, alive(then), failed=None if failed is None else alive(failed), group="new run")

    # Results of threads.

    def _profiles_listed(self, files: Sequence[ProfileFile]) -> None:
        self.query_one(ProfileSection).listed(files)
        self._files = files
        self._begin()

    def _teachers_listed(self, rows: Sequence[TeacherRow]) -> None:
        self._teacher.listed(rows)
        self._teachers = rows
        self._begin()

    def _no_teachers(self, error: KdtuiError) -> None:
        self.cockpit.say_error(error)
        self._teachers_listed(())

    def _begin(self) -> None:
        """Check the form for the first time, once profiles, teachers and runs are listed."""
        if self._begun or self._files is None or self._teachers is None or not self.cockpit.board.whole:
            return
        self._begun = True
        if self.draft != self.first_draft or self.draft.clone or self.draft.profile:
            return
        if not self._teachers:  # no recipe can be used
            first = next((file.name for file in self._files if not file.shipped), _FIRST)
            self.draft = self.first_draft = self.draft.edited(profile=first)
            for section in self.sections:
                section.chose(self.draft)
        self.read()

    def _machine_seen(self, seen: DeviceUse) -> None:
        self._machine = seen
        self.show_standing()
        self._queue_source = QueueSource(self.post_message)
        self.cockpit.watcher.add(self._queue_source)

    def on_queue_read(self, message: QueueRead) -> None:
        """Update the queue."""
        if self._machine is not None:
            self._machine = replace(self._machine, queue=message.queue)
            self.show_standing()

    def on_unmount(self) -> None:
        """Remove the queue from the watch."""
        if self._queue_source is not None:
            self.cockpit.watcher.remove(self._queue_source)

    def board_changed(self, ids: frozenset[str]) -> None:
        """Update the teachers and the place in the queue."""
        rows = self.cockpit.board.rows
        scores = (
            {run_id: row.best_miou for run_id, row in rows.items()}
            if not ids or len(rows) != len(self._scores)
            else {**self._scores, **{run_id: rows[run_id].best_miou for run_id in ids if run_id in rows}}
        )
        if scores != self._scores or not ids:
            self._scores = scores
            self.behind.teachers(list(rows.values()), self._teachers_listed, self._no_teachers)
        self._begin()
        self.show_standing()

    # Editing.

    def on_section_edited(self, event: Section.Edited) -> None:
        """Update the draft."""
        event.stop()
        self.edit(self.draft.edited(**event.texts))
        if "method" in event.texts:  # which replaces the terms
            self.refill()

    def edit(self, draft: RunDraft) -> None:
        """Replace the draft; it is checked once no key was pressed for a moment."""
        if draft == self.draft:
            return
        self.forget_plan(draft)
        for section in self.sections:
            section.chose(draft)
        self.show_standing()
        self._edits += 1
        mine = self._edits
        self.set_timer(REST, lambda: self.read() if mine == self._edits else None)

    def read(self) -> None:
        """Check the draft."""
        self.behind.check(self.draft, self._checked, self.failed)

    def refill(self) -> None:
        """Display the draft in all fields, after it was changed by the program."""
        for section in self.sections:
            section.fill(self.draft)

    def texts(self) -> dict[str, str]:
        """Current texts of all fields."""
        return {name: text for section in self.sections for name, text in section.texts().items()}

    def _checked(self, draft: RunDraft, checked: Checked) -> None:
        self.read_draft = draft
        self.standing = replace(self.standing, checked=checked)
        for section in self.sections:
            section.show(checked)
        self._measure()
        self.show_standing()
        self.call_after_refresh(self._into_sight)  # mistakes changed the height of the sections
        if draft == self.draft:
            self.advance()

    def _measure(self) -> None:
        """Compare the costs with those of the chosen teacher, if known."""
        checked = self.checked
        found = None if checked.teacher is None else self.behind.door.cached(checked.teacher, checked.teacher_options)
        self._student.against(None if found is None else _cost_of(found, checked.shape))
        self.standing = replace(self.standing, teacher_parameters=None if found is None else found.parameters)
        self.query_one(LossSection).teach({} if checked.teacher is None else self._pixel_of(str(checked.teacher)))

    def _pixel_of(self, teacher: str) -> Mapping[str, float]:
        """The probabilities that the newest run with this teacher recorded for one pixel."""
        taught = (row for row in self.cockpit.board.rows.values() if row.teacher_checkpoint == teacher)
        newest = max((row for row in taught if row.teacher_pixel), key=lambda row: row.started or 0.0, default=None)
        return {} if newest is None else newest.teacher_pixel

    def on_teacher_section_browse(self, event: TeacherSection.Browse) -> None:
        """List completions of a typed path."""
        event.stop()
        text = event.text
        self.behind.browse(
            text,
            partial(self._teacher.browsed, text),
            lambda error: self._teacher.browsed(text, [], error.brief),
        )

    def on_teacher_section_inspect(self, event: TeacherSection.Inspect) -> None:
        """Inspect a checkpoint."""
        event.stop()
        path = event.checkpoint

        def then(found: Inspected | KdtuiError) -> None:
            self._teacher.answered(path)
            self._measure()
            if isinstance(found, KdtuiError):
                self.cockpit.say_error(found)

        self._teacher.asked(path)
        self.behind.inspect(path, self.checked.teacher_options, then, then)

    # Mistakes and keys.

    def go_to_mistake(self) -> None:
        """Focus the field of the first mistake."""
        mistakes = self.checked.mistakes
        places = (name for part in self.sections for name in [*part.PLACES, *mistakes] if part.owns(name))
        name = next((name for name in places if name in mistakes), None)
        if name is None:
            self.cockpit.say("fix the mistakes below first", error=True)
            return
        self.focus_field(name)
        self.cockpit.say("fix this first", error=True)

    def show_failed(self, messages: Mapping[str, str]) -> None:
        """Display the messages of failed checks at their fields, and focus the first of these."""
        for section in self.sections:
            section.show(replace(self.checked, mistakes=messages))
        if messages:
            self.focus_field(next(iter(messages)))

    def focus_field(self, name: str) -> None:
        """Focus a field."""
        next(part for part in self.sections if part.owns(name)).focus_place(name)

    def action_copy_command(self) -> None:
        """Copy the command line."""
        if self.checked.command:
            self.cockpit.copy_text(self.checked.command, "command")

    def action_new_profiles(self) -> None:
        """Display the screen that writes profiles for a folder; a written one is chosen afterwards."""
        self.cockpit.new_profiles(self._profiles_written)

    def _profiles_written(self, profile: str) -> None:
        self.behind.profiles(self._profiles_listed)
        if profile:
            self.edit(self.draft.edited(profile=profile, clone=""))
            self.refill()

    def action_next_part(self) -> None:
        """Focus the first field of the next section."""
        self._step(1)

    def action_previous_part(self) -> None:
        """Focus the first field of the previous section."""
        self._step(-1)

    def _step(self, by: int) -> None:
        sections = self.sections
        part = self._focused(Section)
        here = sections.index(part) if part is not None else -1 if by > 0 else 1
        sections[(here + by) % len(sections)].focus_first()

    def action_leave(self) -> None:
        """Close the search; otherwise leave the form, after confirmation if something was typed."""
        picker = self._focused(Picker)
        if picker is not None and picker.text:
            picker.leave()
            return
        if self.standing.doing == "launching":
            self.cockpit.say("launching")
        else:
            self.leave_form(unsaved=self.draft != self.first_draft, command=self.checked.command, makes="run")

    # Focus and size.

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Scroll the section into view, and display the help of the field."""
        self._into_sight()
        if not self.cockpit.said[0]:
            self.say("")

    def show_standing(self) -> None:
        """Display the state of the form."""
        if not self.ready:
            return
        profiles = self.checked.profiles
        here = None
        if profiles and self._machine is not None:
            here = place(profiles[0], len(profiles), self.cockpit.board.rows.values(), self._machine)
        self.standing = replace(self.standing, place=here)
        self.query_one(CheckResult).show(self.standing)

    def on_check_result_resized(self, event: CheckResult.Resized) -> None:
        """Keep the focused field visible."""
        event.stop()
        self.call_after_refresh(self._into_sight)

    def on_section_unfolded(self, event: Section.Unfolded) -> None:
        """Scroll the fields that are now displayed into view."""
        event.stop()
        self.call_after_refresh(self._into_sight)

    def _into_sight(self) -> None:
        """Scroll as much of the focused section into view as fits, and the focused field in any case."""
        part = self._focused(Section)
        if part is not None and self.focused is not None:
            part.scroll_visible(animate=False, immediate=True)
            self.focused.scroll_visible(animate=False, immediate=True)

    def silence(self) -> Sequence[Part]:
        """Help of the focused field."""
        if isinstance(self.focused, Title):
            return [Part(self.focused.help, "text-muted")]
        name = self._focused_field()
        if name is None:
            return ()
        if name in _HELP:
            return [Part(_HELP[name], "text-muted")]
        own = self.checked.own.get(name, "")
        empty = f"; empty: {own}, from the profile" if own else ""
        setting = SETTINGS.get(name) or self.checked.setting(name)
        if setting is None:
            return ()
        words = "; ".join(filter(None, (setting.help, setting.form_help)))
        return [Part(f"{setting.label}: {words}{empty}", "text-muted")]

    def _focused_field(self) -> str | None:
        row, slider, part = self._focused(FieldRow), self._focused(Slider), self._focused(Section)
        if row is not None:
            return row.field.name
        if slider is not None:
            return slider.id
        return part.PLACES[0] if part is not None else None

    def _focused(self, kind: type[W]) -> W | None:
        """The ancestor of a type that has the focus; `has_focus_within` is updated too late for fast typing."""
        above = () if self.focused is None else self.focused.ancestors
        return next((widget for widget in above if isinstance(widget, kind)), None)


def _cost_of(found: Inspected, shape: Shape | None) -> NetworkCost | None:
    """Cost of a teacher: parameters from its file, MACs from the catalog, or 0 if unknown."""
    if found.parameters is None:
        return None
    widths = found.decoder_channels
    like = None if shape is None else replace(shape, architecture=found.architecture, decoder_channels=widths)
    known = None if like is None else listed_cost(found.encoder, like)
    return NetworkCost(found.parameters, found.parameters_used or found.parameters, 0 if known is None else known.macs)
