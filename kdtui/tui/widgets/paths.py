"""Completion of paths in an input."""

from __future__ import annotations

import asyncio

from textual.suggester import Suggester

from kdtui.errors import UsageError
from kdtui.tui.form.browse import entries


class PathSuggester(Suggester):
    """Completes paths of folders and checkpoints; the disk is read in a thread."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The first folder or checkpoint that starts with the text."""
        if not value:
            return None
        try:
            listed = await asyncio.to_thread(entries, value)
        except UsageError:  # no such folder: no suggestion
            return None
        return next((entry.path for entry in listed if entry.path.startswith(value)), None)
