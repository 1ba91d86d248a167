"""A few words in a row, of which one is chosen, or any."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kdtui.text import width


class Choices(Widget, can_focus=True):
    """Arrows go from word to word; of one they choose it, of several space takes it in or out.

    Args:
        words: From left to right.
        several: Whether any may be chosen, instead of exactly one.
    """

    DEFAULT_CSS = """
    Choices { height: 1; width: 1fr; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """Something else is chosen."""

        def __init__(self, choices: Choices) -> None:
            self.choices = choices
            super().__init__()

        @property
        def control(self) -> Choices:
            """The row that it came from."""
            return self.choices

    def __init__(self, words: Sequence[str], *, several: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = tuple(words)
        self._several = several
        self._chosen: tuple[str, ...] = () if several else self._words[:1]
        self._at = 0

    @property
    def chosen(self) -> tuple[str, ...]:
        """What is chosen, from left to right."""
        return self._chosen

    def put(self, chosen: Sequence[str]) -> None:
        """Show that these are chosen without telling anybody; words that are not there are left out."""
        known = tuple(word for word in self._words if word in chosen)
        if known:
            self._at = self._words.index(known[0])
        if known != self._chosen:
            self._chosen = known
            self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Go on, choose. No bindings: those go where the focus is once somebody typed on."""
        last = len(self._words) - 1
        moved = {
            "left": max(0, self._at - 1),
            "right": min(last, self._at + 1),
            "home": 0,
            "end": last,
        }
        if event.key in moved:
            event.stop()
            self._go(moved[event.key])
            if not self._several:
                self._choose()
        elif event.key == "space":
            event.stop()
            if not self._several:
                self._go((self._at + 1) % len(self._words))
            self._choose()

    def _go(self, at: int) -> None:
        if at != self._at:
            self._at = at
            self.refresh()

    def _choose(self) -> None:
        word = self._words[self._at]
        wanted = {*self._chosen} ^ {word} if self._several else {word}
        after = tuple(each for each in self._words if each in wanted)
        if after != self._chosen:
            self._chosen = after
            self.refresh()
            self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        """Choose the word under the mouse."""
        start = 0
        for at, word in enumerate(self._words):
            end = start + 1 + width(word)
            if start <= event.x < end:
                self._go(at)
                self._choose()
                return
            start = end + 1

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Keep moves from waking anything above."""
        event.stop()

    def render_line(self, y: int) -> Strip:
        """The words, each behind its sign."""
        base = self.rich_style
        yes, no = "■□" if self._several else "●○"
        segments = []
        for at, word in enumerate(self._words):
            taken = word in self._chosen
            style = base + Style(bold=taken or None, reverse=(self.has_focus and at == self._at) or None)
            segments += [Segment(f"{yes if taken else no}{word}", style), Segment(" ", base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_focus(self) -> None:
        """The word under the cursor looks otherwise."""
        self.refresh()

    def on_blur(self) -> None:
        """And back."""
        self.refresh()
