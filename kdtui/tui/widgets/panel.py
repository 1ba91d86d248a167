"""Lines of text with a title; only changed rows are redrawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

from kdtui.text import clean
from kdtui.tui.values import Span, TextLine

if TYPE_CHECKING:
    from textual.css.styles import RulesMap

TONES = {
    "": "",
    "muted": "$foreground-muted",
    "strong": "bold",
    "title": "bold $text-primary",
    "good": "$text-success",
    "warn": "$text-warning",
    "bad": "$text-error",
}


class Panel(Widget):
    """Displays lines below a title; hidden while there are no lines.

    Args:
        title: Text above the lines; empty for none.
        wraps: Whether long lines are wrapped; otherwise they are cut.
    """

    DEFAULT_CSS = """
    Panel { height: auto; width: 1fr; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    Panel.-wraps { text-wrap: wrap; }
    """

    def __init__(
        self, title: str = "", *, wraps: bool = False, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.set_class(wraps, "-wraps")
        self.display = False
        self._title = title
        self._wraps = wraps
        self._lines: tuple[tuple[Span, ...], ...] = ()

    def show(self, lines: Sequence[TextLine]) -> None:
        """Display these lines; control characters are removed, and only changed rows are redrawn."""
        before, after = self._lines, tuple(tuple(line) for line in lines)
        if after == before:
            return
        self._lines = after
        if self.display != bool(after):
            self.display = bool(after)
        if self._wraps and before and after and self._fits():
            self.refresh()
            return
        if self._wraps or len(before) != len(after):
            self.refresh(layout=True)
            return
        first, wide = int(bool(self._title)), self.content_size.width
        changed = [row for row, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        self.refresh(*(Region(0, first + row, wide, 1) for row in changed))

    def _fits(self) -> bool:
        """Whether the wrapped lines keep their height: a new layout of the screen costs 20 ms or more."""
        wide, high = self.content_size
        rules = cast("RulesMap", self.styles)  # the type that Textual's own widgets pass here
        return wide > 0 and self.render().get_height(rules, wide) == high

    @property
    def text(self) -> str:
        """The lines as plain text, without the title."""
        return "\n".join("".join(text for text, _ in line) for line in self._lines)

    def render(self) -> Content:
        """Render the title and the lines."""
        lines: list[TextLine] = [[(self._title, "title")]] if self._title else []
        return Content("\n").join(_line(line) for line in [*lines, *self._lines])


def _line(spans: TextLine) -> Content:
    return Content.assemble(*((clean(text).expandtabs(), TONES[tone]) for text, tone in spans))
