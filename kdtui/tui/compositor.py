"""A compositor that sends only changed columns to the terminal.

Textual 8.2 cuts a changed region at its right end only and sends the row from the widget's left edge: a number that
changes at the end of a table's row costs the whole row, with its colours. Cut at both ends, an update of eight rows is
a third of that, which matters over SSH.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class NarrowUpdate(ChopsUpdate):
    """Spans of some rows, cut at both ends."""

    def render_segments(self, console: Console) -> str:
        """Render the spans as text with escape sequences."""
        written: list[str] = []
        for y, first, last in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                left, right = max(first, x), min(last, end)
                if strip is not None and left < right:
                    written.append(str(Control.move_to(left, y)))
                    written.append(strip.crop(left - x, right - x).render(console))
        return "".join(written)


class NarrowCompositor(Compositor):
    """A compositor for :class:`textual.screen.Screen` that cuts partial updates at both ends.

    A screen installs it in its constructor, after Textual's: ``self._compositor = NarrowCompositor()``.
    """

    def render_partial_update(self) -> NarrowUpdate | None:
        """The changes since the last update; None if there are none."""
        update = super().render_partial_update()
        return None if update is None else NarrowUpdate(update.chops, update.spans, update.chop_ends)
