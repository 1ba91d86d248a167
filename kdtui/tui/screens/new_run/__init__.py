"""The New-run screen: the form, its parts, and what is asked of threads for it."""

from __future__ import annotations

from kdtui.tui.screens.new_run.screen import NewRunScreen

__all__ = ["NewRunScreen"]
