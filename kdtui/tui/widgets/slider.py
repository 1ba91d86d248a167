"""A slider with an input for the exact value; each follows the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from kdtui.tui.widgets.choices import LineInput
from kdtui.tui.widgets.line import theme_colour


@dataclass(frozen=True)
class Scale:
    """The range of a slider.

    Attributes:
        low: Value at the left end; above 0 on a logarithmic scale.
        high: Value at the right end.
        step: Change of one arrow key.
        coarse: Change of one arrow key with shift.
        log: Whether equal distances on the track are equal ratios.
    """

    low: float
    high: float
    step: float
    coarse: float
    log: bool = False

    def share(self, value: float) -> float:
        """Position of a value on the track: 0 at the left end, 1 at the right."""
        inside = min(self.high, max(self.low, value))
        if self.log:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def value(self, share: float) -> float:
        """The value at a position, rounded to the steps."""
        share = min(1.0, max(0.0, share))
        exact = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        return self.moved(exact, 0.0)

    def moved(self, value: float, by: float) -> float:
        """``value + by``, rounded to the steps and limited to the range."""
        steps = round((value + by) / self.step)
        return min(self.high, max(self.low, float(f"{steps * self.step:.10g}")))


class Track(Widget, can_focus=True):
    """A horizontal line with a handle.

    Args:
        scale: The range.
    """

    DEFAULT_CSS = """
    Track { height: 1; width: 1fr; }
    """

    class Moved(Message):
        """Posted when the user moved the handle."""

        def __init__(self, value: float) -> None:
            self.value = value
            super().__init__()

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self._scale = scale
        self._value: float | None = None

    def put(self, value: float | None) -> None:
        """Display a value, also one outside the range, without posting a message; None hides the handle."""
        if value != self._value:
            self._value = value
            self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Move by a step, a coarse step or to an end.

        Not bindings: a binding acts on the widget that has focus when it runs, and fast typing may have moved the
        focus.
        """
        scale = self._scale
        value = scale.low if self._value is None else self._value
        moved = {
            "left": scale.moved(value, -scale.step),
            "right": scale.moved(value, scale.step),
            "shift+left": scale.moved(value, -scale.coarse),
            "shift+right": scale.moved(value, scale.coarse),
            "home": scale.low,
            "end": scale.high,
        }
        if event.key in moved:
            event.stop()
            self._tell(moved[event.key])

    def _tell(self, value: float) -> None:
        if value != self._value:
            self.put(value)
            self.post_message(self.Moved(value))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Move the handle to the mouse and start dragging."""
        event.stop()
        self.capture_mouse()
        self._drag(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the handle."""
        event.stop()
        if self.app.mouse_captured is self:
            self._drag(event.x)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Stop dragging."""
        event.stop()
        self.release_mouse()

    def _drag(self, x: int) -> None:
        self._tell(self._scale.value(x / max(1, self.size.width - 1)))

    def render_line(self, y: int) -> Strip:
        """Render the track; the handle is an arrow pointing outwards when the value is outside the range."""
        room, base = self.size.width, self.rich_style
        line = base + self._colour("text-muted")
        if self._value is None or room < 1:
            return Strip([Segment("─" * room, line)], room)
        at = round(self._scale.share(self._value) * (room - 1))
        handle = "◂" if self._value < self._scale.low else "▸" if self._value > self._scale.high else "●"
        done = base + self._colour("primary")
        held = done + Style(reverse=self.has_focus or None, bold=True)
        return Strip([Segment("━" * at, done), Segment(handle, held), Segment("─" * (room - at - 1), line)], room)

    def on_focus(self) -> None:
        """Highlight the handle."""
        self.refresh()

    def on_blur(self) -> None:
        """Remove the highlight of the handle."""
        self.refresh()

    def _colour(self, name: str) -> Style:
        return Style(color=theme_colour(self, name))


class Slider(Horizontal):
    """A label, a track and an input for the exact value.

    Args:
        label: Text before the track.
        scale: The range of the track; the input accepts any number.
    """

    DEFAULT_CSS = """
    Slider { height: 1; width: 1fr; padding-left: 1; }
    Slider > .label { width: 2; }
    Slider > LineInput { width: 10; margin-left: 1; }
    """

    class Changed(Message):
        """Posted when the text of the input changed; an empty text stands for the default."""

        def __init__(self, slider: Slider, text: str) -> None:
            self.slider = slider
            self.text = text
            super().__init__()

        @property
        def control(self) -> Slider:
            """The slider that posted the message."""
            return self.slider

    def __init__(self, label: str, scale: Scale, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._label = label
        self._track = Track(scale)
        self._entry = LineInput()
        self._own = ""

    def compose(self) -> ComposeResult:
        """Compose label, track and input."""
        yield Static(self._label, markup=False, classes="label")
        yield self._track
        yield self._entry

    @property
    def text(self) -> str:
        """The typed text, possibly empty."""
        return self._entry.value

    @property
    def value(self) -> float | None:
        """The typed number, or the default if nothing is typed; None if that is not a number."""
        return _number(self.text if self.text.strip() else self._own)

    def put(self, text: str) -> None:
        """Set the text without posting a message."""
        self._entry.put(text)
        self._track.put(self.value)

    def show_own(self, own: str) -> None:
        """Set the default, displayed as the placeholder of the empty input."""
        self._own = own
        self._entry.placeholder = own
        self._track.put(self.value)

    def on_track_moved(self, event: Track.Moved) -> None:
        """Write the value of the handle to the input."""
        event.stop()
        self._entry.put(f"{event.value:.10g}")
        self.post_message(self.Changed(self, self.text))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Move the handle to the typed number, if it is one."""
        event.stop()
        self._track.put(self.value)
        self.post_message(self.Changed(self, self.text))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
