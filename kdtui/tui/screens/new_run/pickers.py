"""Sections that are filled by picking from a list; the profile is one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.app import ComposeResult

from kdtui.profile.find import ProfileFile
from kdtui.tui.form import Checked, Draft
from kdtui.tui.screens.new_run.sections import Section
from kdtui.tui.widgets.choices import Mistake
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.picker import Picker
from kdtui.tui.widgets.table import Cell, Column


class PickingSection(Section):
    """A list that is searched; its mistake is that of the first place.

    Args:
        columns: Of the list.
        placeholder: Stands in the empty search line.
        empty: Shown when nothing fits.
    """

    def __init__(self, columns: Sequence[Column], *, placeholder: str, empty: str, id: str) -> None:
        super().__init__(id=id)
        self._picker = Picker(columns, self._cells, find=self._find, placeholder=placeholder, empty=empty)
        self._mistake = Mistake()
        self._about = Panel(wraps=True, classes="about")

    def fields(self) -> ComposeResult:
        """Mistake, list, what the one under the cursor is."""
        yield self._mistake
        yield self._picker
        yield self._about

    def show(self, checked: Checked) -> None:
        """Show what is wrong with it."""
        super().show(checked)
        self._mistake.say(self._wrong(checked))

    def _wrong(self, checked: Checked) -> str:
        return checked.mistakes.get(self.PLACES[0], "")

    def _find(self, text: str) -> Sequence[str] | None:
        """As :class:`Picker` has it."""
        raise NotImplementedError

    def _cells(self, key: str) -> Sequence[Cell]:
        """Of a row."""
        raise NotImplementedError

    def _tell(self) -> None:
        """Say what the one under the cursor is."""
        raise NotImplementedError

    def on_picker_moved(self, event: Picker.Moved) -> None:
        """What is it?"""
        event.stop()
        self.moved()

    def on_picker_typed(self, event: Picker.Typed) -> None:
        """The list changed under the cursor."""
        event.stop()
        self.typed(event.text)

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """This one."""
        event.stop()
        self.picked(event.key)

    def on_picker_entered(self, event: Picker.Entered) -> None:
        """One that the list does not have."""
        event.stop()
        self.entered(event.text.strip())

    def moved(self) -> None:
        """The cursor stands on another row."""
        self._tell()

    def typed(self, text: str) -> None:
        """Another text is searched for."""
        self._tell()

    def picked(self, key: str) -> None:
        """A row was picked."""
        raise NotImplementedError

    def entered(self, text: str) -> None:
        """A text was entered that no row fits."""
        raise NotImplementedError

    def _choose(self, **texts: str) -> None:
        """Put the search away and tell what the draft says now."""
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
        self._draft = Draft()
        self._clone = ""

    def listed(self, files: Iterable[ProfileFile]) -> None:
        """Show these profiles."""
        self._files = {file.name: file for file in files}
        self._picker.search()
        self._picker.choose(self._key())
        self._tell()

    def chose(self, draft: Draft) -> None:
        """Show which is chosen."""
        self._draft = draft
        self._clone = draft.clone or self._clone
        self._picker.search()
        self._picker.choose(self._key())
        self.entitle(draft.profile or (f"as {draft.clone}" if draft.clone else "the teacher's own recipe"))
        self._tell()

    def _key(self) -> str:
        return _CLONE if self._draft.clone else self._draft.profile or _RECIPE

    def _find(self, text: str) -> Sequence[str]:
        file = text.strip().endswith(".toml") or "/" in text
        self._picker.empty = "enter takes this file" if file else _EMPTY
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
            return f"The profile of {self._clone}, as it was resolved."
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
        """This one."""
        named = "" if key in (_RECIPE, _CLONE) else key
        self._choose(profile=named, clone=self._clone if key == _CLONE else "")

    def entered(self, text: str) -> None:
        """A file."""
        self._choose(profile=text, clone="")
