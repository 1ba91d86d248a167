"""The texts of the New-run form as they are typed."""

from __future__ import annotations

from kdtui.profile.settings import SETTINGS
from kdtui.tui.form.tables import is_generated

ALONE = "-"
"""Typed as the teacher: no distillation."""
_NAMES = ("profile", "clone", "method", *SETTINGS)


class RunDraft:
    """The texts of the form, as typed: ``profile``, ``clone``, ``method`` and one of each setting, all attributes.

    An empty text stands for the value of the profile. ``profile`` is a name or file; ``clone`` is the id of a run whose
    resolved profile is used instead. Both are empty to use the recipe of the teacher's own run. ``method`` replaces the
    profile's distillation terms. The texts of generated fields have keys of the profile as names, see
    :mod:`kdtui.tui.form.tables`.

    Args:
        texts: By name; those that are missing are empty.
    """

    def __init__(self, **texts: str) -> None:
        if unknown := [name for name in texts if name not in _NAMES and not is_generated(name)]:
            raise TypeError(f"the form has no field {', '.join(unknown)}")
        self._texts = {name: texts.get(name, "") for name in _NAMES}
        self._texts |= {name: text for name, text in sorted(texts.items()) if name not in _NAMES and text}

    def __getattr__(self, name: str) -> str:
        if name not in _NAMES:
            raise AttributeError(name)
        return self._texts[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunDraft) and self._texts == other._texts

    def __hash__(self) -> int:
        return hash(tuple(self._texts.values()))

    def __repr__(self) -> str:
        return f"RunDraft({', '.join(f'{name}={text!r}' for name, text in self._texts.items() if text)})"

    @property
    def by_recipe(self) -> bool:
        """Whether the recipe of the teacher's own run is used."""
        return not self.profile and not self.clone

    @property
    def generated(self) -> dict[str, str]:
        """The texts of generated fields that are not empty."""
        return {name: text for name, text in self._texts.items() if name not in _NAMES}

    def edited(self, **texts: str) -> RunDraft:
        """A copy with other texts."""
        return RunDraft(**{**self._texts, **texts})

    def typed(self, name: str) -> str:
        """Text of a field."""
        return self._texts.get(name, "")

    def text(self, name: str) -> str:
        """Text of a field, without surrounding spaces."""
        return self.typed(name).strip()

    def stripped(self) -> RunDraft:
        """A copy without spaces around the texts."""
        return RunDraft(**{name: self.text(name) for name in self._texts})
