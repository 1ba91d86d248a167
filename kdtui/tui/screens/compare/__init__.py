"""The Compare screen: the table of runs, the pages below it, and the export of the comparison."""

from __future__ import annotations

from kdtui.tui.screens.compare.screen import CompareScreen

__all__ = ["CompareScreen"]
