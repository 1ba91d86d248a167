"""The New-run screen: the form, its sections, and its background work."""

from __future__ import annotations

from kdtui.tui.screens.new_run.screen import NewRunScreen

__all__ = ["NewRunScreen"]
