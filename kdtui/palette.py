"""Colours of classes, shared by the pictures that the engine writes and their legends."""

from __future__ import annotations

import colorsys
import functools
import re
from collections.abc import Sequence

RGB = tuple[int, int, int]
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
"""A colour in hexadecimal notation."""
BACKGROUND: RGB = (127, 127, 127)
_LEVELS = (0.23, 0.16)
"""Relative luminance of neighbouring classes: 3 or more of contrast to a dark and to a light ground, WCAG 1.4.11."""

_GOLDEN = 0.618034  # multiples of the golden section are spread evenly for any number of them
_VISIBLE = 3.0
_STEPS = 32


def class_colours(own: Sequence[str]) -> list[RGB]:
    """A colour for each class.

    Args:
        own: The colour of each class as :data:`COLOUR`, or an empty string for that of the palette: grey for the first
            class, the others evenly spaced on the colour circle.
    """
    around = max(1, len(own) - 1)
    colours = []
    for index, text in enumerate(own):
        if COLOUR.fullmatch(text):
            colours.append(parse(text))
        elif index == 0:
            colours.append(BACKGROUND)
        else:
            colours.append(_of_luminance((index - 1) / around + 0.33, _LEVELS[index % 2]))
    return colours


def instance_colours(count: int) -> list[RGB]:
    """A colour for each instance of a picture; neighbours in the order are far apart on the colour circle."""
    return [_of_luminance((_GOLDEN * index + 0.33) % 1, _LEVELS[index % 2]) for index in range(count)]


def former_colours(count: int) -> list[RGB]:
    """The colours in pictures of older runs, which do not record them; the first class is black."""
    colours: list[RGB] = []
    for index in range(count):
        hue = colorsys.hsv_to_rgb((index - 1) / max(1, count - 1) + 0.33, 0.75, 1.0)
        red, green, blue = (round(255 * part) for part in hue)
        colours.append((red, green, blue) if index else (0, 0, 0))
    return colours


def parse(text: str) -> RGB:
    """Parse a colour that matches :data:`COLOUR`."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def hexadecimal(colour: RGB) -> str:
    """Format a colour as :data:`COLOUR`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def luminance(colour: RGB) -> float:
    """Relative luminance: https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: RGB, other: RGB) -> float:
    """Contrast of two colours, from 1 to 21: https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@functools.lru_cache(maxsize=1024)
def visible(colour: RGB, ground: RGB) -> RGB:
    """The colour, lighter or darker as far as needed for a contrast of 3 to the ground, WCAG 1.4.11."""
    end = 255 if contrast((255, 255, 255), ground) > contrast((0, 0, 0), ground) else 0
    for share in range(_STEPS + 1):
        red, green, blue = (round(part + (end - part) * share / _STEPS) for part in colour)
        if contrast((red, green, blue), ground) >= _VISIBLE:
            break
    return red, green, blue


def _of_luminance(hue: float, wanted: float) -> RGB:
    """A saturated colour of a hue with a given luminance, which depends on the hue at equal HSV value."""
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (low, middle) if luminance(_hls(hue, middle)) > wanted else (middle, high)
    return _hls(hue, low)


def _hls(hue: float, lightness: float) -> RGB:
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.8))
    return red, green, blue
