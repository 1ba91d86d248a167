"""The Compare screen: the table of runs, the pages below it, and what is written of them."""

from __future__ import annotations

from kdtui.tui.screens.compare.screen import CompareScreen

__all__ = ["CompareScreen"]
