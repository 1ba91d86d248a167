"""What a chart is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        key: Its identity from one call to the next, unlike that of every other curve of the chart.
        letter: Its name in one or two characters: in the legend and at the end of the line.
        label: Its name in the legend.
        xs: Ascending; may be a live list that grows between calls.
        ys: The values at ``xs``; NaN and infinite ones are gaps.
        colour: Of the theme (``primary``), by name (``cyan``) or ``#rrggbb``.
        dash: 0 solid, 1 dashed, 2 dotted, 3 both; from there on again.
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
    """A horizontal dashed line at a value that curves are read against; not drawn when the value is not finite."""

    value: float
    label: str


@dataclass(frozen=True)
class Picture:
    """Everything that a chart shows.

    Attributes:
        series: In drawing order: the later one wins a shared cell.
        references: Lines to read the curves against.
        title: Of the chart.
        x_label: What x counts.
        x_max: Right end of the axis, such as a run's horizon; None lets it grow with the points.
        places: Decimals of values; None for three digits.
        log_y: Whether y is logarithmic; values that are not above zero are gaps then.
        smoothing: Weight of the moving average, in [0, 1).
    """

    series: tuple[Series, ...] = ()
    references: tuple[ReferenceLine, ...] = ()
    title: str = ""
    x_label: str = ""
    x_max: float | None = None
    places: int | None = None
    log_y: bool = False
    smoothing: float = 0.0
