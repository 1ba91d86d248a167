"""What a refresh sends to the terminal: the columns that changed, and no others.

Textual 8.2 cuts a changed region at its right end only and sends the row from the widget's left edge: a number that
changes at the end of a table's row costs the whole row, colours included. Cut at both ends, a tick of eight rows is a
third of that, which is what counts over SSH.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class NarrowUpdate(ChopsUpdate):
    """Spans of some rows, cut at both ends."""

    def render_segments(self, console: Console) -> str:
        """The bytes for the terminal, as text."""
        written: list[str] = []
        for y, first, last in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                left, right = max(first, x), min(last, end)
                if strip is not None and left < right:
                    written.append(str(Control.move_to(left, y)))
                    written.append(strip.crop(left - x, right - x).render(console))
        return "".join(written)


class NarrowCompositor(Compositor):
    """A compositor for :class:`textual.screen.Screen` whose partial updates are narrow.

    A screen takes it in its constructor, after Textual's: ``self._compositor = NarrowCompositor()``.
    """

    def render_partial_update(self) -> NarrowUpdate | None:
        """What changed since the last update; None when nothing did."""
        update = super().render_partial_update()
        return None if update is None else NarrowUpdate(update.chops, update.spans, update.chop_ends)
