"""What is trained on, and how: a profile, the recipe of the teacher's own run, or a run's own profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.app import ComposeResult

from kdtui.profile.find import ProfileFile
from kdtui.tui.form import Checked, Draft
from kdtui.tui.screens.new_run.section import Section
from kdtui.tui.widgets.labelled import Mistake
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.picker import Picker
from kdtui.tui.widgets.table import Cell, Column

_RECIPE = "(recipe)"
_CLONE = "(clone)"
_COLUMNS = (Column("name", "profile", 12, 26), Column("about", "", 0, grow=True, drop=1))


class ProfileSection(Section):
    """The list of profiles."""

    TITLE = "PROFILE"
    PLACES = ("profile",)

    def __init__(self) -> None:
        super().__init__(id="profile")
        self._files: dict[str, ProfileFile] = {}
        self._draft = Draft()
        self._clone = ""
        self._picker = Picker(
            _COLUMNS, self._cells, find=self._find, placeholder="search, or a .toml", empty="no such profile"
        )
        self._mistake = Mistake()
        self._about = Panel(wraps=True, classes="about")

    def fields(self) -> ComposeResult:
        """Mistake, list, what the one under the cursor is."""
        yield self._mistake
        yield self._picker
        yield self._about

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

    def show(self, checked: Checked) -> None:
        """Show what is wrong with it."""
        super().show(checked)
        self._mistake.say(checked.mistakes.get("profile", ""))

    def _key(self) -> str:
        return _CLONE if self._draft.clone else self._draft.profile or _RECIPE

    def _find(self, text: str) -> Sequence[str]:
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

    def on_picker_moved(self, event: Picker.Moved) -> None:
        """What is it?"""
        event.stop()
        self._tell()

    def on_picker_typed(self, event: Picker.Typed) -> None:
        """The list changed under the cursor."""
        event.stop()
        self._tell()

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """This one."""
        event.stop()
        named = "" if event.key in (_RECIPE, _CLONE) else event.key
        self._choose(named, self._clone if event.key == _CLONE else "")

    def on_picker_entered(self, event: Picker.Entered) -> None:
        """A file."""
        event.stop()
        self._choose(event.text.strip(), "")

    def _choose(self, profile: str, clone: str) -> None:
        self._picker.leave()
        self.post_message(self.Edited({"profile": profile, "clone": clone}))
