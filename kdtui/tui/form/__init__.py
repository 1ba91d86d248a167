"""The New-run form without its looks: fields, the draft that stands in them, and what it comes to."""

from __future__ import annotations

from kdtui.tui.form.reading import ALONE, PLACES, Checked, Draft, check

__all__ = ["ALONE", "PLACES", "Checked", "Draft", "check"]
