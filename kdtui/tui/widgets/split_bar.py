"""How α splits the loss between the teacher and the labels."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from kdtui.text import width
from kdtui.tui.widgets.line import cut


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
