"""The Export screen: the menu, what lies there already, and the exports that are made."""

from __future__ import annotations

from kdtui.tui.screens.export.screen import ExportScreen

__all__ = ["ExportScreen"]
