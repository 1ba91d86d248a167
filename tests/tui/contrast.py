"""How well each piece of text on a screen can be read: WCAG's contrast of its colour to what it stands on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.color import Color as RichColor
from rich.style import Style
from textual.app import App
from textual.color import Color

from tests.tui.piloting import strips as screen_strips

READABLE = 4.5
"""WCAG AA for text: https://www.w3.org/TR/WCAG21/#contrast-minimum."""
_DIM = 0.66  # of the way from the ground to the colour, as Textual's own filter and many terminals show it


def luminance(colour: Color) -> float:
    """Relative luminance: https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Color, other: Color) -> float:
    """Ratio of two colours, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def texts(app: App[Any]) -> Iterator[tuple[str, float]]:
    """Every piece of text with a letter or digit on the screen in front, and its contrast.

    What lies behind a dialog is dimmed on purpose, and left out.
    """
    screen = app.screen
    ground = screen.background_colors[1]
    strips = screen_strips(app)
    if screen.is_modal:
        front = screen.children[0].region
        strips = [strip.crop(front.x, front.right) for strip in strips[front.y : front.bottom]]
    for strip in strips:
        for segment in strip:
            if segment.style is not None and any(letter.isalnum() for letter in segment.text):
                yield segment.text, _contrast(segment.style, ground)


def _contrast(style: Style, ground: Color) -> float:
    back, fore = _colour(style.bgcolor, ground), _colour(style.color, ground.get_contrast_text())
    if style.reverse:
        back, fore = fore, back
    return contrast(back.blend(fore, _DIM) if style.dim else fore, back)


def _colour(colour: RichColor | None, otherwise: Color) -> Color:
    return otherwise if colour is None or colour.is_default else Color.from_rich_color(colour)
