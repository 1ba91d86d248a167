"""The form of a search within a budget: its fields, the dry run, and the launch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.events import DescendantFocus
from textual.suggester import Suggester, SuggestFromList
from textual.widget import Widget
from textual.widgets import Input

from kdtui.catalog import encoders
from kdtui.errors import KdtuiError
from kdtui.launch.teachers import TeacherRow
from kdtui.profile.find import ProfileFile
from kdtui.sweep.search.options import OPTIONS
from kdtui.tui.debounce import Debounced
from kdtui.tui.engine_client import Inspected
from kdtui.tui.form import ALONE, Checked, RunDraft
from kdtui.tui.form.search import FIELDS, CheckedSearch, SearchDraft, about, check
from kdtui.tui.keys import bindings_over_fields
from kdtui.tui.screens.form import FormField, FormScreen
from kdtui.tui.screens.new_run.background_check import Behind
from kdtui.tui.screens.new_run.sections import Section
from kdtui.tui.screens.new_run.teacher import TeacherSection
from kdtui.tui.values import Cell, Part
from kdtui.tui.views.new_search import COLUMNS, SearchStanding, candidates, cells, state_lines, title
from kdtui.tui.widgets.choices import Choices, Heading, LineInput
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.picker import Picker
from kdtui.tui.widgets.table import Table

W = TypeVar("W", bound=Widget)
REST = 0.15
"""Seconds without a key after which the draft is checked."""
PLAN, LAUNCH = "plan", "launch"
WIDTHS = [(0, "-narrow"), (112, "-wide")]
CSS = """
NewSearchScreen #form { height: 1fr; width: 100%; }
NewSearchScreen .column { width: 1fr; height: auto; }
NewSearchScreen .pair, NewSearchScreen .half, NewSearchScreen .group { height: auto; width: 1fr; }
NewSearchScreen .about { min-height: 2; }
NewSearchScreen #verdict { background: $surface; max-height: 7; height: auto; }
NewSearchScreen #twin { background: $surface; max-height: 4; }

NewSearchScreen.-narrow #form { layout: vertical; overflow-y: auto; scrollbar-size-vertical: 1; }
NewSearchScreen.-narrow .pair { layout: horizontal; }
NewSearchScreen.-narrow #teacher Table { height: 5; }
NewSearchScreen.-narrow #teacher Picker { width: 3fr; }
NewSearchScreen.-narrow #teacher .about { width: 2fr; }
NewSearchScreen.-narrow #candidates { height: 10; }

NewSearchScreen.-wide #form { layout: horizontal; overflow: hidden; }
NewSearchScreen.-wide .column { height: 100%; overflow-y: auto; scrollbar-size-vertical: 1; }
NewSearchScreen.-wide #left { width: 56; margin-right: 1; }
NewSearchScreen.-wide .pair { layout: vertical; }
NewSearchScreen.-wide #teacher Table { height: 4; }
NewSearchScreen.-wide #candidates { height: 1fr; }
"""
_GROUPS = {
    "BUDGET": ("latency", "parameters", "size", "retention"),
    "MEASUREMENT": ("on", "runtime", "precision"),
    "TRAINING": ("trials", "hours", "seeds", "profile", "set"),
    "CANDIDATES": ("encoders", "architectures", "widths"),
}
"""Titles of the sections below the teacher, with their fields."""
_LONG = ("MEASUREMENT", "CANDIDATES")
"""Sections whose fields need the whole width of a narrow terminal."""


class ListSuggester(Suggester):
    """Completes the last name of a list.

    Args:
        names: The names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._names = names

    async def get_suggestion(self, value: str) -> str | None:
        """The list with its last name completed to the first that is not in it yet."""
        head, comma, last = value.rpartition(",")
        typed = last.lstrip()
        listed = [name.strip() for name in head.split(",")]
        names = (name for name in self._names if typed and name.startswith(typed) and name not in listed)
        name = next(names, None)
        return None if name is None else f"{head}{comma}{last[: len(last) - len(typed)]}{name}"


class SearchField(FormField):
    """One field of the form.

    Args:
        name: One of :data:`kdtui.tui.form.search.FIELDS`.
    """

    def __init__(self, name: str) -> None:
        option = OPTIONS.get(name)
        self._words: dict[str, str] = {}
        if option is not None and not option.free:
            self._words = {"": option.default, **{word: word for word in option.words if word != option.default}}
        self._input = Choices(tuple(self._words.values())) if self._words else _entry(name)
        super().__init__(name, FIELDS[name], self._input)

    @property
    def text(self) -> str:
        """The current text."""
        if isinstance(self._input, LineInput):
            return self._input.value
        return next((text for text, word in self._words.items() if word in self._input.chosen), "")

    def suggest(self, names: Sequence[str]) -> None:
        """Set the texts that are suggested."""
        if isinstance(self._input, LineInput):
            self._input.suggester = SuggestFromList(names)

    def fill(self, draft: SearchDraft) -> None:
        """Display the text of the draft."""
        text = draft.texts.get(self.field, "")
        if isinstance(self._input, LineInput):
            self._input.put(text)
        else:
            self._input.put([self._words.get(text, "")])

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go on to the next field."""
        event.stop()
        self.screen.focus_next()


def _entry(name: str) -> LineInput:
    option = OPTIONS.get(name)
    placeholder = "" if option is None else "required" if option.required else option.default
    suggester: Suggester | None = None
    if name == "encoders":
        suggester = ListSuggester([cost.name for cost in encoders()])
    elif name == "architectures":
        from kdtui.sweep.search.candidates import ALL_ARCHITECTURES

        suggester = ListSuggester(ALL_ARCHITECTURES)
    elif option is not None and option.words:
        suggester = SuggestFromList(option.words)
    return LineInput(placeholder=placeholder, suggester=suggester)


class SearchTeacherSection(TeacherSection):
    """The list of teachers; a search needs one."""

    def _find(self, text: str) -> list[str] | None:
        keys = super()._find(text)
        return None if keys is None else [key for key in keys if key != ALONE]


class Group(Vertical):
    """Fields below a title.

    Args:
        title: The title.
        names: The fields; in a narrow terminal they are in two columns, unless they are long.
    """

    def __init__(self, title: str, names: Sequence[str]) -> None:
        super().__init__(classes="group")
        self._title = Heading()
        self._title.entitle(title)
        middle = len(names) if title in _LONG else (len(names) + 1) // 2
        self._halves = [half for half in (names[:middle], names[middle:]) if half]

    def compose(self) -> Iterable[Widget]:
        """Compose the title and the fields."""
        yield self._title
        with Container(classes="pair"):
            for half in self._halves:
                with Vertical(classes="half"):
                    yield from map(SearchField, half)


class NewSearchScreen(FormScreen):
    """Sets up, plans and launches a search.

    Args:
        teacher: Id of the run that is chosen as teacher at first.

    Attributes:
        draft: The texts of the form.
        read_draft: The draft checked last, to which ``standing`` belongs.
        standing: State of the form.
    """

    SCOPES = ("search",)
    BINDINGS: ClassVar[list[BindingType]] = bindings_over_fields("search")
    HORIZONTAL_BREAKPOINTS = WIDTHS
    DEFAULT_CSS = CSS

    def __init__(self, teacher: str = "") -> None:
        super().__init__()
        self.draft = self._first_draft = SearchDraft().edited(teacher=teacher)
        self.read_draft: SearchDraft | None = None
        self.standing = SearchStanding()
        self._wanted = ""
        self._edits = 0
        self._scores: dict[str, float | None] = {}
        self._teacher = SearchTeacherSection(lambda path: self._behind.door.cached(path))
        self._groups = [Group(heading, names) for heading, names in _GROUPS.items()]
        self._heading = Heading()
        self._table = Table(COLUMNS, self._cells, empty="teacher and budget give the candidates", id="candidates")
        self._verdict, self._command = Panel(wraps=True, id="verdict"), Panel(wraps=True, id="twin")

    def body(self) -> Iterable[Widget]:
        """Compose teacher, fields and candidates; below them the lines that are always visible."""
        cockpit = self.cockpit
        self._behind = Behind(cockpit.store, cockpit.ask, self._do, cockpit.board.find)
        self._store, self._planning = cockpit.store.for_thread(), cockpit.store.for_thread()
        self._checks, self._plans = Debounced(self._do), Debounced(self._do)
        with Container(id="form"):
            with Vertical(classes="column", id="left"):
                yield self._teacher
                yield from self._groups
            with Vertical(classes="column", id="right"):
                yield self._heading
                yield self._table
        yield self._verdict
        yield self._command

    def on_mount(self) -> None:
        """Display the draft, and read what there is to choose from."""
        self._behind.profiles(self._profiles_listed)
        self._teacher.chose(self._as_run())
        self.refill()
        self._show()
        self.read()
        if self.draft.text("teacher"):
            self._field("latency").enter()
        else:
            self._teacher.focus_first()

    def _do(self, work: Any, then: Any, *, failed: Any = None) -> None:
        """Do work in a thread; the result is dropped if the form was removed."""

        def alive(tell: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda result: tell(result) if self.is_attached else None

        self.cockpit.do(work, alive(then), failed=None if failed is None else alive(failed), group="new search")

    @property
    def _fields(self) -> list[SearchField]:
        return list(self.query(SearchField))

    def _field(self, name: str) -> SearchField:
        return next(each for each in self._fields if each.field == name)

    @property
    def checked(self) -> CheckedSearch:
        """Result of the last check."""
        return self.standing.checked or CheckedSearch()

    # What there is to choose from.

    def _profiles_listed(self, files: Sequence[ProfileFile]) -> None:
        self._field("profile").suggest([file.name for file in files])

    def board_changed(self, ids: frozenset[str]) -> None:
        """Update the teachers."""
        rows = self.cockpit.board.rows
        scores = {run_id: row.best_miou for run_id, row in rows.items()}
        if self.ready and (scores != self._scores or not ids):
            self._scores = scores
            self._behind.teachers(list(rows.values()), self._teachers_listed, self.cockpit.say_error)

    def _teachers_listed(self, rows: Sequence[TeacherRow]) -> None:
        self._teacher.listed(rows)

    def on_teacher_section_browse(self, event: TeacherSection.Browse) -> None:
        """List completions of a typed path."""
        event.stop()
        text = event.text
        self._behind.browse(
            text, partial(self._teacher.browsed, text), lambda error: self._teacher.browsed(text, [], error.brief)
        )

    def on_teacher_section_inspect(self, event: TeacherSection.Inspect) -> None:
        """Inspect a checkpoint."""
        event.stop()
        path = event.checkpoint

        def then(found: Inspected | KdtuiError) -> None:
            self._teacher.answered(path)
            if isinstance(found, KdtuiError):
                self.cockpit.say_error(found)

        self._teacher.asked(path)
        self._behind.inspect(path, (), then, then)

    def _as_run(self) -> RunDraft:
        """The teacher as the section takes it, which is that of the form of a run."""
        return RunDraft(teacher=self.draft.texts.get("teacher", ""))

    # Editing.

    def on_section_edited(self, event: Section.Edited) -> None:
        """Update the teacher."""
        event.stop()
        self.edit(self.draft.edited(**event.texts))

    def on_form_field_edited(self, event: FormField.Edited) -> None:
        """Update the text of a field."""
        event.stop()
        self.edit(self.draft.edited(**{event.name: event.text}))

    def refill(self) -> None:
        """Display the draft in all fields, after it was changed by the program."""
        for each in self._fields:
            each.fill(self.draft)

    def texts(self) -> dict[str, str]:
        """Current texts of all fields but the teacher, which may be newer than the posted messages."""
        return {each.field: each.text for each in self._fields}

    def edit(self, draft: SearchDraft) -> None:
        """Replace the draft; it is checked once no key was pressed for a moment."""
        if draft == self.draft:
            return
        self.draft = draft
        if self._wanted == LAUNCH:
            self.cockpit.say("the form changed while planning; nothing was launched")
        self._wanted = ""
        doing = "launching" if self.standing.doing == "launching" else ""
        self.standing = replace(self.standing, plan=None, doing=doing, failure=None)
        self._teacher.chose(self._as_run())
        self._show()
        self._edits += 1
        mine = self._edits
        self.set_timer(REST, lambda: self.read() if mine == self._edits else None)

    def read(self) -> None:
        """Check the draft."""
        draft = self.draft
        self._checks.ask(lambda: check(draft, self._store), partial(self._checked, draft), self._failed)

    def _checked(self, draft: SearchDraft, checked: CheckedSearch) -> None:
        self.read_draft = draft
        self.standing = replace(self.standing, checked=checked)
        for each in self._fields:
            each.fault(checked.mistakes.get(each.field, ""))
        faults = {name: text for name, text in checked.mistakes.items() if name == "teacher"}
        self._teacher.show(Checked(mistakes=faults, teacher=checked.teacher))
        self._show()
        if draft == self.draft:
            self._advance()

    def _show(self) -> None:
        """Display the state of the form."""
        if not self.is_mounted:
            return
        standing = self.standing
        self._heading.entitle("DRY RUN", *title(standing))
        self._rows = {one.candidate.key: one for one in candidates(standing)}
        self._table.show(list(self._rows))
        self._verdict.show(state_lines(standing))
        command = self.checked.command
        self._command.show([[("$ ", "muted"), (command, "strong")]] if command else [])
        self.call_after_refresh(self._into_sight)

    def _cells(self, key: str) -> Sequence[Cell]:
        return cells(self._rows[key])

    # Planning and launching.

    def action_plan(self) -> None:
        """Plan the search, after a short delay, so that keys typed before are in the fields."""
        self.set_timer(REST, partial(self._want, PLAN))

    def action_launch(self) -> None:
        """Plan and launch the search, after a short delay."""
        self.set_timer(REST, partial(self._want, LAUNCH))

    def _want(self, what: str) -> None:
        if self.standing.doing == "launching":
            return
        self.edit(self.draft.edited(**self.texts()))
        self._wanted = what
        again = what == PLAN and self.standing.doing != "planning"
        self.standing = replace(self.standing, failure=None, plan=None if again else self.standing.plan)
        if self.read_draft == self.draft:
            self._advance()
        else:
            self.read()

    def _advance(self) -> None:
        """Take the next step towards a plan or a launch, after a step has finished."""
        checked, standing, wanted = self.checked, self.standing, self._wanted
        if not wanted or standing.doing or self.read_draft != self.draft:
            return
        if checked.spec is None:
            self._wanted = ""
            self._go_to_mistake()
        elif standing.plan is None:
            self._plan()
        elif wanted == PLAN:
            self._wanted = ""
            self._to_candidates()
        elif standing.plan.failed:
            self._wanted = ""
            self.cockpit.say("not launched: see the errors below", error=True)
        else:
            self._launch()

    def _go_to_mistake(self) -> None:
        name = next(iter([*self.checked.mistakes, *self.checked.missing]))
        if name == "teacher":
            self._teacher.focus_first()
        else:
            self._field(name).enter()
        self.cockpit.say("fix this first" if self.checked.mistakes else "this is required", error=True)

    def _plan(self) -> None:
        from kdtui.sweep.search.request import SearchPlan, planned

        draft, spec = self.draft, self.checked.spec
        assert spec is not None

        def then(plan: SearchPlan | None, error: KdtuiError | None = None) -> None:
            if draft != self.draft:
                return
            self.standing = replace(self.standing, plan=plan, doing="", failure=error)
            self._wanted = self._wanted if error is None else ""
            self._show()
            self._advance()

        self.standing = replace(self.standing, doing="planning")
        self._show()
        work = partial(planned, spec, self._planning, ask=self.cockpit.ask)
        self._plans.ask(work, then, lambda error: then(None, error))

    def _launch(self) -> None:
        from kdtui.sweep.search.request import launch

        spec, command = self.checked.spec, self.checked.command
        assert spec is not None
        store = self.cockpit.store.for_thread()
        self._wanted = ""
        self.standing = replace(self.standing, doing="launching", failure=None)
        self._show()

        def then(result: tuple[Any, bool]) -> None:
            folder, started = result
            self.standing = replace(self.standing, doing="")
            self._first_draft = self.draft
            if self.app.screen is self:
                self.leave()
                self.cockpit.searches(folder.id)
            self.cockpit.say(f"{folder.id}: {'launched' if started else 'it is running already'}", command)

        self._do(lambda: launch(spec, store), then, failed=self._failed)

    def _failed(self, error: KdtuiError) -> None:
        """Display an error; the typed texts are kept."""
        self._wanted = ""
        self.standing = replace(self.standing, failure=error, doing="")
        self._show()

    def _to_candidates(self) -> None:
        self._table.focus()
        self.cockpit.say("a dry run: nothing was started; ^r launches the search")

    # Keys and focus.

    def action_copy_command(self) -> None:
        """Copy the command line."""
        if self.checked.command:
            self.cockpit.copy_text(self.checked.command, "command")

    def action_next_part(self) -> None:
        """Focus the first field of the next section."""
        self._step(1)

    def action_previous_part(self) -> None:
        """Focus the first field of the previous section."""
        self._step(-1)

    def _step(self, by: int) -> None:
        parts: list[Widget] = [self._teacher, *self._groups, self._table]
        above = [] if self.focused is None else self.focused.ancestors_with_self
        here = next((place for place, part in enumerate(parts) if part in above), -1 if by > 0 else 1)
        part = parts[(here + by) % len(parts)]
        if isinstance(part, Group):
            part.query(SearchField).first().enter()
        elif part is self._table:
            self.set_focus(self._table)
        else:
            self._teacher.focus_first()

    def action_leave(self) -> None:
        """Close the search for a teacher; otherwise leave the form, after confirmation if something was typed."""
        picker = self._focused(Picker)
        if picker is not None and picker.text:
            picker.leave()
        elif self.standing.doing == "launching":
            self.cockpit.say("launching")
        else:
            self.leave_form(unsaved=self.draft != self._first_draft, command=self.checked.command, makes="search")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Scroll the field into view, and display its description."""
        self._into_sight()
        if not self.cockpit.said[0]:
            self.say("")

    def on_resize(self) -> None:
        """Keep the focused field visible in the other layout."""
        self.call_after_refresh(self._into_sight)

    def _into_sight(self) -> None:
        """Scroll as much of the focused section into view as fits, and the focused field in any case."""
        part: Widget | None = self._focused(Group) or self._focused(Section)
        if self.focused is not None:
            (part or self.focused).scroll_visible(animate=False, immediate=True)
            self.focused.scroll_visible(animate=False, immediate=True)

    def silence(self) -> Sequence[Part]:
        """Description of the focused field."""
        field = self._focused(SearchField)
        if field is not None:
            return [Part(about(field.field), "text-muted")]
        if self.focused is self._table:
            return [Part("candidates: what is known of their costs; unknown ones are measured first", "text-muted")]
        return [Part(about("teacher"), "text-muted")] if self._focused(Section) is not None else ()

    def _focused(self, kind: type[W]) -> W | None:
        """The ancestor of a type that has the focus; `has_focus_within` is updated too late for fast typing."""
        above = () if self.focused is None else self.focused.ancestors
        return next((widget for widget in above if isinstance(widget, kind)), None)
