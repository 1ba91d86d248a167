"""The row of pages: which one is in front, and at its right end a bar and words of the owner's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.events import Click, MouseMove
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kdtui.text import width
from kdtui.tui.widgets.bars import filled_cells
from kdtui.tui.widgets.line import cut

_SHORTEST = 6
_LONGEST = 30


class Pages(Widget):
    """Numbered words, of which one is chosen, and a bar and words at the right.

    Args:
        names: The pages, in the order of their numbers from 1 on.
    """

    DEFAULT_CSS = """
    Pages { height: 1; width: 100%; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """A page was clicked."""

        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

    def __init__(self, names: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._places = tuple(_places(names))
        self._shown: tuple[str, float | None, str] = (names[0], None, "")

    def show(self, name: str, share: float | None = None, words: str = "") -> None:
        """Show that this page is in front; nothing is written when all of it was shown before.

        Args:
            name: The page.
            share: In [0, 1]; None draws no bar.
            words: At the right end.
        """
        if (name, share, words) != self._shown:
            self._shown = (name, share, words)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The row."""
        base, room = self.rich_style, self.size.width
        shown, share, words = self._shown
        chosen = base + Style(reverse=True, bold=True)
        segments = [Segment(text, chosen if name == shown else base) for _, _, text, name in self._places]
        room -= self._places[-1][1]
        text = cut(f" {words} ", max(0, room)) if words else ""
        space = min(_LONGEST, room - width(text) - 1)
        bar = "" if share is None or space < _SHORTEST else filled_cells(share, space).replace(" ", "·")
        colour = self.app.theme_variables.get("accent", "")
        done = base + Style(color=colour if colour.startswith("#") else None)
        gap = " " * max(0, room - width(text) - len(bar))
        segments += [Segment(gap, base), Segment(bar, done), Segment(text, base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_click(self, event: Click) -> None:
        """Choose the page under the mouse."""
        for start, end, _, name in self._places:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))

    def on_mouse_move(self, event: MouseMove) -> None:
        """Keep moves from waking anything above."""
        event.stop()


def _places(names: Sequence[str]) -> Iterator[tuple[int, int, str, str]]:
    """Start, end, text and name of each page."""
    at = 0
    for number, name in enumerate(names, start=1):
        text = f" {number} {name} "
        yield at, at + width(text), text, name
        at += width(text)
