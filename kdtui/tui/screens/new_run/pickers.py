"""Sections with a list to pick from; the sections of profile and method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.app import ComposeResult

from kdtui.profile.find import ProfileFile
from kdtui.profile.methods import Method
from kdtui.tui.form import Checked, RunDraft
from kdtui.tui.form.tables import TERMS, part_of
from kdtui.tui.screens.new_run.sections import Section
from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.choices import Mistake
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.picker import Picker, matching


class PickingSection(Section):
    """A searchable list; the displayed mistake is that of the first field in ``PLACES``.

    Args:
        columns: Columns of the list.
        placeholder: Dimmed text in the empty search input.
        empty: Displayed when nothing matches.
    """

    def __init__(self, columns: Sequence[Column], *, placeholder: str, empty: str, id: str) -> None:
        super().__init__(id=id)
        self._picker = Picker(columns, self._cells, find=self._find, placeholder=placeholder, empty=empty)
        self._mistake = Mistake()
        self._about = Panel(wraps=True, classes="about")

    def fields(self) -> ComposeResult:
        """Compose error message, list and details."""
        yield self._mistake
        yield self._picker
        yield self._about

    def show(self, checked: Checked) -> None:
        """Display the mistake."""
        super().show(checked)
        self._mistake.say(self._wrong(checked))

    def _wrong(self, checked: Checked) -> str:
        return checked.mistakes.get(self.PLACES[0], "")

    def _find(self, text: str) -> Sequence[str] | None:
        """Keys that match a text, as required by :class:`Picker`."""
        raise NotImplementedError

    def _cells(self, key: str) -> Sequence[Cell]:
        """Cells of a row."""
        raise NotImplementedError

    def _tell(self) -> None:
        """Display the details of the row under the cursor."""
        raise NotImplementedError

    def on_picker_moved(self, event: Picker.Moved) -> None:
        """Handle a move of the cursor."""
        event.stop()
        self.moved()

    def on_picker_typed(self, event: Picker.Typed) -> None:
        """Handle a typed text."""
        event.stop()
        self.typed(event.text)

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """Handle a picked row."""
        event.stop()
        self.picked(event.key)

    def on_picker_entered(self, event: Picker.Entered) -> None:
        """Handle an entered text that is not in the list."""
        event.stop()
        self.entered(event.text.strip())

    def moved(self) -> None:
        """Called when the cursor moved to another row."""
        self._tell()

    def typed(self, text: str) -> None:
        """Called when the text of the search changed."""
        self._tell()

    def picked(self, key: str) -> None:
        """Called when a row was picked."""
        raise NotImplementedError

    def entered(self, text: str) -> None:
        """Called when a text was entered that matches no row."""
        raise NotImplementedError

    def _choose(self, **texts: str) -> None:
        """Close the search and post the changed texts."""
        self._picker.leave()
        self.post_message(self.Edited(texts))


_EMPTY = "no such profile"
_RECIPE = "(recipe)"
_CLONE = "(clone)"
_COLUMNS = (Column("name", "profile", 12, 26), Column("about", "", 0, grow=True, drop=1))


class ProfileSection(PickingSection):
    """The list of profiles."""

    TITLE = "PROFILE"
    PLACES = ("profile",)

    def __init__(self) -> None:
        super().__init__(_COLUMNS, placeholder="search, or a .toml", empty=_EMPTY, id="profile")
        self._files: dict[str, ProfileFile] = {}
        self._draft = RunDraft()
        self._clone = ""

    def listed(self, files: Iterable[ProfileFile]) -> None:
        """Set the profiles."""
        self._files = {file.name: file for file in files}
        self._picker.search()
        self._picker.choose(self._key())
        self._tell()

    def chose(self, draft: RunDraft) -> None:
        """Display the chosen profile."""
        self._draft = draft
        self._clone = draft.clone or self._clone
        self._picker.search()
        self._picker.choose(self._key())
        self.entitle(draft.profile or (f"like {draft.clone}" if draft.clone else "the teacher's own recipe"))
        self._tell()

    def _key(self) -> str:
        return _CLONE if self._draft.clone else self._draft.profile or _RECIPE

    def _find(self, text: str) -> Sequence[str]:
        file = text.strip().endswith(".toml") or "/" in text
        self._picker.empty = "enter accepts this file" if file else _EMPTY
        words = text.lower().split()
        keys = [*([_CLONE] if self._clone else []), _RECIPE, *self._files]
        return [key for key in keys if all(word in f"{key} {self._words(key)}".lower() for word in words)]

    def _cells(self, key: str) -> Sequence[Cell]:
        name = {_RECIPE: "teacher's recipe", _CLONE: "like the run"}.get(key, key)
        return [Cell(name), Cell(self._words(key), "text-muted")]

    def _words(self, key: str) -> str:
        if key == _RECIPE:
            return "Data, task and training of the teacher's own run, with another student."
        if key == _CLONE:
            return f"The resolved profile of {self._clone}."
        file = self._files.get(key)
        return "" if file is None else file.description

    def _tell(self) -> None:
        key = self._picker.cursor_key
        if key is None:
            self._about.show([])
            return
        file = self._files.get(key)
        place = "" if file is None else "  shipped" if file.shipped else f"  {file.path}"
        extends = f"  extends {file.extends}" if file is not None and file.extends else ""
        self._about.show([[(self._words(key) or "(no description)", ""), (extends + place, "muted")]])

    def picked(self, key: str) -> None:
        """Choose the profile."""
        named = "" if key in (_RECIPE, _CLONE) else key
        self._choose(profile=named, clone=self._clone if key == _CLONE else "")

    def entered(self, text: str) -> None:
        """Choose a profile file."""
        self._choose(profile=text, clone="")


_PROFILES_OWN = "(profile)"
_METHOD_COLUMNS = (Column("name", "method", 14, 22), Column("about", "", 0, grow=True, drop=1))


class MethodSection(PickingSection):
    """The list of methods of distillation; the first row stands for the profile's own terms."""

    TITLE = "METHOD"
    PLACES = ("method",)

    def __init__(self) -> None:
        super().__init__(_METHOD_COLUMNS, placeholder="search methods", empty="no such method", id="method")
        self._methods: dict[str, Method] = {}
        self._draft, self._checked = RunDraft(), Checked()

    def chose(self, draft: RunDraft) -> None:
        """Display the chosen method."""
        self._draft = draft
        self._picker.choose(draft.method or _PROFILES_OWN)
        self._entitle()

    def show(self, checked: Checked) -> None:
        """Display the methods, and which of them has the terms."""
        changed, self._checked = checked.methods != self._checked.methods, checked
        self._methods = {method.name: method for method in checked.methods}
        if changed:
            self._picker.search()
            self._picker.choose(self._draft.method or _PROFILES_OWN)
        super().show(checked)
        self._entitle()
        self._tell()

    def _entitle(self) -> None:
        chosen, checked = self._draft.method, self._checked
        own = (checked.method or "own terms") if checked.distils else "none"
        edited = bool(chosen) and checked.method != chosen
        self.entitle(f"{chosen}, changed" if edited else chosen or own, "" if chosen else "the profile's own")

    def _find(self, text: str) -> Sequence[str]:
        return matching(text, {key: self._words(key) for key in (_PROFILES_OWN, *self._methods)})

    def _cells(self, key: str) -> Sequence[Cell]:
        broken = key in self._methods and not self._methods[key].terms
        name = "the profile's" if key == _PROFILES_OWN else key
        return [Cell(name), Cell(self._words(key), "error" if broken else "text-muted")]

    def _words(self, key: str) -> str:
        return self._methods[key].description if key in self._methods else "Its own terms, or no distillation."

    def _tell(self) -> None:
        key = self._picker.cursor_key
        if key is None:
            self._about.show([])
            return
        method = self._methods.get(key)
        more = "" if method is None else f"  {' + '.join(method.kinds)}  {'shipped' if method.shipped else method.path}"
        self._about.show([[(self._words(key), ""), (more, "muted")]])

    def picked(self, key: str) -> None:
        """Choose the method; typed terms and their knobs are cleared."""
        typed = dict.fromkeys((name for name in self._draft.generated if part_of(name) == TERMS), "")
        self._choose(method="" if key == _PROFILES_OWN else key, **typed)

    def entered(self, text: str) -> None:
        """Ignore a text that is no method."""
