"""What forms are made of: a label before something to fill in, what is wrong with it below, and titles."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Static

from kdtui.tui.widgets.line import Line, Part
from kdtui.tui.widgets.panel import Panel


class Mistake(Panel):
    """What is wrong with the field, or the title, above; takes no room while nothing is."""

    def __init__(self) -> None:
        super().__init__(wraps=True)

    def say(self, text: str) -> None:
        """Show a mistake, or none."""
        self.show([[("✗ ", "bad"), (text, "bad")]] if text else [])


class Labelled(Vertical):
    """A label and what is filled in, with the mistake below.

    Args:
        label: Stands before it.
        control: What is filled in.
    """

    DEFAULT_CSS = """
    Labelled { height: auto; width: 1fr; }
    Labelled > Horizontal { height: 1; }
    Labelled > Horizontal > .label { width: 15; padding: 0 1; }
    Labelled > Horizontal > .control { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.focus_previous", "Field above", show=False),
        Binding("down", "app.focus_next", "Field below", show=False),
    ]

    def __init__(self, label: str, control: Widget) -> None:
        super().__init__()
        self._label = Static(label, markup=False, classes="label")
        self._control = control
        self._control.add_class("control")
        self._mistake = Mistake()

    def compose(self) -> ComposeResult:
        """Label and what is filled in, mistake."""
        with Horizontal():
            yield self._label
            yield self._control
        yield self._mistake

    def relabel(self, label: str) -> None:
        """Have another label."""
        if self._label.content != label:
            self._label.update(label)

    def fault(self, text: str) -> None:
        """Show what is wrong, or nothing."""
        self._mistake.say(text)


class Heading(Line):
    """The title of a part."""

    DEFAULT_CSS = """
    Heading { background: $surface; }
    """

    def entitle(self, title: str, chosen: str = "", right: str = "") -> None:
        """Say what the part is, and what is chosen in it."""
        self.show(
            [Part(f" {title}  ", "accent", bold=True), Part(chosen, bold=True)], [Part(f" {right} ", "text-muted")]
        )
