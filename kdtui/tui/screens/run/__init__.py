"""The screen of one run: live curves, numbers, predictions, logs and profile."""

from __future__ import annotations

from kdtui.tui.screens.run.screen import RunScreen

__all__ = ["RunScreen"]
