"""Colours of states and of curves.

State colours are variables of the theme. Curve colours are readable on dark and light backgrounds and distinguishable
with red-green colour blindness: the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), darkened for light
backgrounds.
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
    """Dash pattern of the ``index``-th curve, which distinguishes curves of one colour or without colours."""
    return index % 4
