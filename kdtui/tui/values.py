"""What views make and widgets display: cells, parts of a line, lines of a panel, curves. Nothing here knows Textual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[str, str]
"""A text and its tone, one of the keys of :data:`kdtui.tui.widgets.panel.TONES`."""
TextLine = Sequence[Span]
"""One line of a panel."""
TextLines = list[list[Span]]
"""Lines of a panel while they are put together."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: Control characters are removed, markup is not interpreted, a line break becomes a space.
        style: Name of a theme variable without `$`, such as `success` or `text-muted`, or a colour such as `#56b4e9`;
            empty for the table's own style.
        keep: Ending of the text that is kept when the text is cut; empty to cut at the end.
    """

    text: str
    style: str = ""
    keep: str = ""


@dataclass(frozen=True)
class Column:
    """One column; widths in terminal columns.

    Attributes:
        key: Identifies the column in messages.
        title: Text in the header.
        minimum: Minimum width; these alone decide whether columns have to be dropped.
        maximum: Maximum width; None for no limit.
        right: Whether the column, with its header, is aligned to the right.
        drop: Columns with the highest number are dropped first when there is not enough room; 0 is never dropped.
        grow: Whether the column takes the remaining width.
    """

    key: str
    title: str
    minimum: int
    maximum: int | None = None
    right: bool = False
    drop: int = 0
    grow: bool = False

    def bounded(self, width: int) -> int:
        """``width`` limited to the minimum and maximum of this column."""
        wide = max(self.minimum, width)
        return wide if self.maximum is None else min(self.maximum, wide)


@dataclass(frozen=True)
class Part:
    """A piece of a line; ``style`` is a theme variable such as ``error``, or empty."""

    text: str
    style: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        key: Identifies the curve across calls; unique in the chart.
        letter: Name of one or two characters, in the legend and at the end of the curve.
        label: Name in the legend.
        xs: Ascending; may be a list that grows between calls.
        ys: The values at ``xs``; NaN and infinite values are gaps.
        colour: Name of a theme variable (``primary``), colour name (``cyan``) or ``#rrggbb``.
        dash: 0 solid, 1 dashed, 2 dotted, 3 dashed and dotted; higher numbers repeat these.
    """

    key: str
    letter: str
    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str
    dash: int = 0


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal dashed line at a value to compare curves with; not drawn if the value is not finite."""

    value: float
    label: str
