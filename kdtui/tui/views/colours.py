"""Colours of states and of curves.

Those of states are the theme's. Those of curves are readable on a dark and on a light ground, and told apart by people
who see red and green alike: Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), darkened for light grounds.
"""

from __future__ import annotations

from kdtui.store.state import State

STATE_STYLES = {
    State.RUNNING: "text-accent",
    State.FINISHED: "text-success",
    State.FAILED: "text-error",
    State.STOPPED: "text-warning",
    State.QUEUED: "text-primary",
    State.LOST: "text-warning",
    State.NEVER_LAUNCHED: "text-muted",
}
"""Theme variable of each state."""
_DARK = ("#56b4e9", "#e69f00", "#cc79a7", "#39c99b", "#f0e442", "#ff8a5c", "#9aa7ff", "#d0d0d0")
_LIGHT = ("#006aa6", "#8a5a00", "#99406f", "#00734f", "#6b6400", "#b04300", "#4250c8", "#404040")


def curve_colour(index: int, *, dark: bool) -> str:
    """Colour of the ``index``-th curve."""
    palette = _DARK if dark else _LIGHT
    return palette[index % len(palette)]


def curve_dash(index: int) -> int:
    """Dash pattern of the ``index``-th curve: curves of one colour, or without any, still differ."""
    return index % 4
