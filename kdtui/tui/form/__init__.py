"""The logic of the New-run form, without widgets: fields, drafts, and their conversion to profiles and commands."""

from __future__ import annotations

from kdtui.tui.form.draft import ALONE, RunDraft
from kdtui.tui.form.reading import PLACES, Checked, check

__all__ = ["ALONE", "PLACES", "Checked", "RunDraft", "check"]
