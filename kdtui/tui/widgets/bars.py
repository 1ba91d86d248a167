"""Horizontal bars: values from 0 to 1 with a reference mark, and a bar split into two shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from kdtui.palette import hexadecimal, parse, visible
from kdtui.text import clean, number, one_line, width
from kdtui.tui.widgets.columns import cut
from kdtui.tui.widgets.line import theme_colour

_EIGHTHS = " ▏▎▍▌▋▊▉"
_WIDEST_LABEL = 16


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: What the bar measures; control characters are removed.
        value: In [0, 1]; None for an empty bar.
        mark: A reference value on the same scale, such as the teacher's.
        colour: As ``#rrggbb``, adjusted for contrast with the background; empty for the theme's colour.
    """

    label: str
    value: float | None
    mark: float | None = None
    colour: str = ""


class Bars(Widget):
    """One bar per row below a title; hidden while there are no bars.

    Args:
        title: Text above the bars.
        mark: Legend of the marks, such as ``│ teacher``; displayed in the title row when a bar has a mark.
    """

    DEFAULT_CSS = """
    Bars { height: auto; width: 1fr; padding: 0 1; }
    """

    def __init__(self, title: str, *, mark: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.display = False
        self._title, self._mark = title, mark
        self._bars: tuple[Bar, ...] = ()

    def entitle(self, title: str) -> None:
        """Set the title."""
        if title != self._title:
            self._title = title
            self.refresh(Region(0, 0, self.content_size.width, 1))

    def show(self, bars: Sequence[Bar]) -> None:
        """Display these bars; only changed rows are redrawn."""
        if tuple(bars) == self._bars:
            return
        before, self._bars = self._bars, tuple(bars)
        if self.display != bool(bars):
            self.display = bool(bars)
        if [(bar.label, bar.mark is None) for bar in before] != [(bar.label, bar.mark is None) for bar in bars]:
            self.refresh(layout=len(before) != len(bars))
            return
        wide = self.content_size.width
        changed = [row for row, (old, new) in enumerate(zip(before, bars, strict=True), start=1) if old != new]
        self.refresh(*(Region(0, row, wide, 1) for row in changed))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row for the title and one per bar."""
        return len(self._bars) + 1 if self._bars else 0

    def render_line(self, y: int) -> Strip:
        """Render the title or one bar."""
        base, room = self.rich_style, self.content_size.width
        if y == 0:
            marked = self._mark if any(bar.mark is not None for bar in self._bars) else ""
            title = Segment(cut(f"{self._title}  ", room), base + self._colour("text-primary", bold=True))
            return Strip([title, Segment(marked, base)]).adjust_cell_length(room, base)
        if y > len(self._bars):
            return Strip.blank(room, base)
        wide = min(_WIDEST_LABEL, max(width(clean(bar.label)) for bar in self._bars))
        bar = self._bars[y - 1]
        label = cut(one_line(bar.label), wide)
        head = label + " " * (wide - width(label)) + f" {number(bar.value):>6} "
        return Strip([Segment(head, base), *self._bar(bar, max(1, room - len(head)))]).adjust_cell_length(room, base)

    def _bar(self, bar: Bar, room: int) -> list[Segment]:
        base = self.rich_style
        filled = base + (self._visible(bar.colour) if bar.colour else self._colour("primary"))
        text = filled_cells(bar.value, room)
        if bar.mark is None:
            return [Segment(text, filled)]
        at = min(room - 1, max(0, round(bar.mark * room)))
        # Inside the bar the mark is inverted, outside it is a plain line: visible without colours.
        style = base + Style(reverse=True) if text[at] == "█" else base
        return [Segment(text[:at], filled), Segment("│", style), Segment(text[at + 1 :], filled)]

    def _visible(self, colour: str) -> Style:
        """Style of a chosen colour, adjusted for contrast with the background of this widget."""
        ground = self.background_colors[1]
        return Style(color=hexadecimal(visible(parse(colour), (ground.r, ground.g, ground.b))))

    def _colour(self, name: str, *, bold: bool = False) -> Style:
        return Style(color=theme_colour(self, name), bold=bold or None)


def filled_cells(value: float | None, room: int) -> str:
    """``room`` columns filled to the share ``value``, with a resolution of an eighth of a column."""
    eighths = round(min(1.0, max(0.0, value or 0.0)) * room * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(room)


class SplitBar(Widget):
    """Two rows: a bar in two parts, and a caption below each part."""

    DEFAULT_CSS = """
    SplitBar { height: 2; width: 1fr; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._alpha: float | None = None

    def show(self, alpha: float | None) -> None:
        """Display a share of the distillation loss, in [0, 1]; other values and None clear the bar."""
        alpha = alpha if alpha is not None and 0 <= alpha <= 1 else None
        if alpha != self._alpha:
            self._alpha = alpha
            self.refresh()

    def words(self) -> tuple[str, str]:
        """Captions of the left and the right part."""
        if self._alpha is None:
            return "", ""
        return f"{self._alpha:.3g}·distill", f"{1 - self._alpha:.3g}·labels"

    def render_line(self, y: int) -> Strip:
        """Render the bar or the captions."""
        room, base = self.content_size.width, self.rich_style
        if self._alpha is None:
            return Strip.blank(room, base)
        if y == 0:
            # Distinguishable without colours: full blocks and shaded ones.
            at = round(self._alpha * room)
            filled = base + Style(color=theme_colour(self, "primary"))
            return Strip([Segment("█" * at, filled), Segment("░" * (room - at), base)], room)
        left, right = self.words()
        left = cut(left, room)
        right = cut(right, max(0, room - width(left) - 1))
        return Strip([Segment(left + " " * (room - width(left) - width(right)) + right, base)], room)
