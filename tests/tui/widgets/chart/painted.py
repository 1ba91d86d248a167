"""Curves as a training leaves them, and their chart as text."""

from __future__ import annotations

import math
from dataclasses import replace
from textwrap import dedent

from kdtui.tui.values import ReferenceLine, Series
from kdtui.tui.widgets.chart.painter import Painter
from kdtui.tui.widgets.chart.series import ChartState

EPOCHS = list(range(1, 41))
MIOU = [0.7 * (1 - math.exp(-epoch / 9)) for epoch in EPOCHS]
SLOWER = [0.62 * (1 - math.exp(-epoch / 14)) for epoch in EPOCHS[:30]]
LOSS = [1.5 * math.exp(-epoch / 9) + 0.36 for epoch in EPOCHS]
TEACHER = ReferenceLine(0.754, "teacher")


def curve(ys: list[float], letter: str = "A", label: str = "b0-from-b3", dash: int = 0, **more: object) -> Series:
    xs = list(range(1, len(ys) + 1))
    return replace(Series(letter, letter, label, xs, ys, "cyan", dash), **more)  # type: ignore[arg-type]


def text(picture: ChartState, width: int = 78, height: int = 8) -> str:
    return Painter().paint(picture, width, height).text()


def plot(dump: str) -> str:
    """Only the braille of a dump."""
    return "\n".join("".join(char if "⠀" < char <= "⣿" else " " for char in row) for row in dump.splitlines())


def looks_like(dump: str, expected: str) -> None:
    assert dump.splitlines() == [row.rstrip() for row in dedent(expected).strip("\n").splitlines()]
