"""One-row widgets: a line of text that is redrawn only when it changes, and the key bar."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Click, MouseMove
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kdtui.tui.values import Cell, Part
from kdtui.tui.widgets.columns import cut, plain


def theme_colour(widget: Widget, name: str) -> str | None:
    """The colour of a theme variable as text; None for no colour and for `auto 60%`, which is no fixed colour."""
    colour: str = widget.app.theme_variables.get(name, "")
    return colour if colour.startswith("#") else None


def colour_of(widget: Widget, name: str) -> str | None:
    """The colour of a theme variable for text, as :func:`theme_colour`.

    The shade for text (``text-…``) is preferred: the plain accent is unreadable on a light background.
    """
    shade = f"text-{name}"
    return theme_colour(widget, shade if shade in widget.app.theme_variables else name)


class Line(Widget):
    """One row: parts aligned to the left, parts aligned to the right. Control characters are removed.

    Args:
        firm: Which side is displayed in full when both do not fit: ``left`` or ``right``.
    """

    DEFAULT_CSS = """
    Line { height: 1; width: 100%; }
    """

    def __init__(self, *, firm: str = "right", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._firm = firm
        self._left: tuple[Part, ...] = ()
        self._right: tuple[Part, ...] = ()

    def show(self, left: Sequence[Part], right: Sequence[Part] = ()) -> None:
        """Display these parts; nothing is redrawn when they are unchanged."""
        if (tuple(left), tuple(right)) == (self._left, self._right):
            return
        self._left, self._right = tuple(left), tuple(right)
        self.refresh()

    @property
    def text(self) -> str:
        """The displayed text, without the gap."""
        return "".join(part.text for part in (*self._left, *self._right))

    def render_line(self, y: int) -> Strip:
        """Render the row."""
        room = self.size.width
        if self._firm == "left":
            left = self._segments(self._left, room)
            right = self._segments(self._right, room - sum(segment.cell_length for segment in left))
        else:
            right = self._segments(self._right, room)
            left = self._segments(self._left, room - sum(segment.cell_length for segment in right))
        space = room - sum(segment.cell_length for segment in (*left, *right))
        return Strip([*left, Segment(" " * max(0, space), self.rich_style), *right], room)

    def _segments(self, parts: Sequence[Part], room: int) -> list[Segment]:
        segments = []
        for part in parts:
            text = cut(plain(Cell(part.text)).text, room)
            if not text:
                continue
            room -= cell_len(text)
            segments.append(Segment(text, self.rich_style + self._style(part)))
        return segments

    def _style(self, part: Part) -> Style:
        return Style(color=colour_of(self, part.style), bold=part.bold or None)


class KeyBar(Widget):
    """The keys of a screen in one row; clicking a key equals pressing it."""

    DEFAULT_CSS = """
    KeyBar { height: 1; width: 100%; }
    """

    class Pressed(Message):
        """Posted when a key was clicked."""

        def __init__(self, action: str) -> None:
            self.action = action
            super().__init__()

    def __init__(self, keys: Sequence[tuple[str, str, str]], *, id: str | None = None) -> None:
        """Set the keys, each as ``(shown, label, action)``."""
        super().__init__(id=id)
        self._keys = tuple(keys)

    def _places(self) -> list[tuple[int, int, str, str, str]]:
        """Start, end and key of those that fit; the last two (help, commands) are dropped last."""
        kept = list(self._keys)
        while len(kept) > 2 and sum(_wide(key) + 1 for key in kept) - 1 > self.size.width:
            del kept[-3]
        places, at = [], 0
        for shown, label, action in kept:
            end = at + _wide((shown, label, action))
            places.append((at, end, shown, label, action))
            at = end + 1
        return places

    def render_line(self, y: int) -> Strip:
        """Render the row."""
        base = self.rich_style
        key = base + Style(bold=True, color=colour_of(self, "accent"))
        segments = []
        for _, _, shown, label, _ in self._places():
            segments += [Segment(shown, key), Segment(f" {label} ", base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_click(self, event: Click) -> None:
        """Press the clicked key."""
        for start, end, _, _, action in self._places():
            if start <= event.x < end:
                self.post_message(self.Pressed(action))

    def on_mouse_move(self, event: MouseMove) -> None:
        """Stop mouse moves from bubbling: nothing above needs them."""
        event.stop()


def _wide(key: tuple[str, str, str]) -> int:
    """Terminal columns of a key, a space and its label."""
    return cell_len(key[0]) + 1 + cell_len(key[1])
