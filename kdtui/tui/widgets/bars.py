"""Horizontal bars: from 0 to 1 with a mark, or split into shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from kdtui.palette import hexadecimal, parse, visible
from kdtui.text import clean, number, width
from kdtui.tui.widgets.line import cut

_EIGHTHS = " ▏▎▍▌▋▊▉"
_WIDEST_LABEL = 16


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: What it measures; foreign text is fine.
        value: In [0, 1]; None where there is none.
        mark: Another value on the same scale, such as the teacher's.
        colour: Its own as ``#rrggbb``, shown lighter or darker where it could not be seen; empty for the theme's.
    """

    label: str
    value: float | None
    mark: float | None = None
    colour: str = ""


class Bars(Widget):
    """One bar a row below a title; without bars it takes no room.

    Args:
        title: Stands above the bars.
        mark: What the mark is, for the title, such as ``│ teacher``; shown when a bar has one.
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
        """Another title from now on."""
        if title != self._title:
            self._title = title
            self.refresh(Region(0, 0, self.content_size.width, 1))

    def show(self, bars: Sequence[Bar]) -> None:
        """Show these bars; only rows that are other than before are written."""
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
        """A row for the title and one a bar."""
        return len(self._bars) + 1 if self._bars else 0

    def render_line(self, y: int) -> Strip:
        """The title, or one bar."""
        base, room = self.rich_style, self.content_size.width
        if y == 0:
            marked = self._mark if any(bar.mark is not None for bar in self._bars) else ""
            title = Segment(cut(f"{self._title}  ", room), base + self._colour("text-primary", bold=True))
            return Strip([title, Segment(marked, base)]).adjust_cell_length(room, base)
        if y > len(self._bars):
            return Strip.blank(room, base)
        wide = min(_WIDEST_LABEL, max(width(clean(bar.label)) for bar in self._bars))
        bar = self._bars[y - 1]
        label = cut(" ".join(clean(bar.label).split()), wide)
        head = label + " " * (wide - width(label)) + f" {number(bar.value):>6} "
        return Strip([Segment(head, base), *self._bar(bar, max(1, room - len(head)))]).adjust_cell_length(room, base)

    def _bar(self, bar: Bar, room: int) -> list[Segment]:
        base = self.rich_style
        filled = base + (self._visible(bar.colour) if bar.colour else self._colour("primary"))
        text = filled_cells(bar.value, room)
        if bar.mark is None:
            return [Segment(text, filled)]
        at = min(room - 1, max(0, round(bar.mark * room)))
        # Within the bar the mark is cut out of it, beyond it stands by itself: visible without colours.
        style = base + Style(reverse=True) if text[at] == "█" else base
        return [Segment(text[:at], filled), Segment("│", style), Segment(text[at + 1 :], filled)]

    def _visible(self, colour: str) -> Style:
        """A colour that a person or a run chose, on the ground of this widget."""
        ground = self.background_colors[1]
        return Style(color=hexadecimal(visible(parse(colour), (ground.r, ground.g, ground.b))))

    def _colour(self, name: str, *, bold: bool = False) -> Style:
        colour = self.app.theme_variables.get(name, "")
        return Style(color=colour if colour.startswith("#") else None, bold=bold or None)


def filled_cells(value: float | None, room: int) -> str:
    """``room`` columns, of which the share ``value`` is filled, to an eighth of a column."""
    eighths = round(min(1.0, max(0.0, value or 0.0)) * room * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(room)


class SplitBar(Widget):
    """Two rows: a bar in two parts, and the words below them."""

    DEFAULT_CSS = """
    SplitBar { height: 2; width: 1fr; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._alpha: float | None = None

    def show(self, alpha: float | None) -> None:
        """Show a share of the distillation loss; anything outside [0, 1] is none."""
        alpha = alpha if alpha is not None and 0 <= alpha <= 1 else None
        if alpha != self._alpha:
            self._alpha = alpha
            self.refresh()

    def words(self) -> tuple[str, str]:
        """What stands below the two parts."""
        if self._alpha is None:
            return "", ""
        return f"{self._alpha:.3g}·distill", f"{1 - self._alpha:.3g}·labels (CE + Dice)"

    def render_line(self, y: int) -> Strip:
        """The bar, or the words."""
        room, base = self.content_size.width, self.rich_style
        if self._alpha is None:
            return Strip.blank(room, base)
        if y == 0:
            # Told apart by shape as well: full blocks and shaded ones.
            at = round(self._alpha * room)
            colour = self.app.theme_variables.get("primary", "")
            filled = base + Style(color=colour if colour.startswith("#") else None)
            return Strip([Segment("█" * at, filled), Segment("░" * (room - at), base)], room)
        left, right = self.words()
        left = cut(left, room)
        right = cut(right, max(0, room - width(left) - 1))
        return Strip([Segment(left + " " * (room - width(left) - width(right)) + right, base)], room)
