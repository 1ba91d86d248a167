"""The Export screen: options, existing files and running exports."""

from __future__ import annotations

from kdtui.tui.screens.export.screen import ExportScreen

__all__ = ["ExportScreen"]
