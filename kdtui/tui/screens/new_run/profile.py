"""What is trained on, and how: a profile, the recipe of the teacher's own run, or a run's own profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdtui.profile.find import ProfileFile
from kdtui.tui.form import Draft
from kdtui.tui.screens.new_run.picking import PickingSection
from kdtui.tui.widgets.table import Cell, Column

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
