"""One run: live curves, numbers, predictions, logs, profile, and what can be done to it."""

from __future__ import annotations

from kdtui.tui.screens.run.screen import RunScreen

__all__ = ["RunScreen"]
