"""Temperature and alpha, each with a picture of what it does."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Container, Vertical

from kdtui.tui.form import Checked, Draft
from kdtui.tui.screens.new_run.section import Section
from kdtui.tui.widgets.distribution import Distribution
from kdtui.tui.widgets.entry import Entry
from kdtui.tui.widgets.labelled import Mistake
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.slider import Scale, Slider
from kdtui.tui.widgets.split_bar import SplitBar

EXAMPLE = (("target", 0.9), ("other", 0.08), ("background", 0.02))
"""One pixel, as a sure teacher may see it: for a teacher of which nothing is known."""
_MADE_UP, _SEEN = "an example pixel", "this teacher's pixel"
_TEMPERATURE = Scale(0.5, 20.0, 0.1, 1.0, log=True)
_ALPHA = Scale(0.0, 1.0, 0.01, 0.1)


class LossSection(Section):
    """Two sliders and two pictures."""

    TITLE = "DISTILLATION"
    PLACES = ("temperature", "alpha")

    def __init__(self) -> None:
        super().__init__(id="loss")
        self._sliders = {
            "temperature": Slider("T", _TEMPERATURE, id="temperature"),
            "alpha": Slider("α", _ALPHA, id="alpha"),
        }
        self._mistakes = {name: Mistake() for name in self._sliders}
        self._distribution = Distribution(_MADE_UP)
        self._pixel: tuple[tuple[str, float], ...] = EXAMPLE
        self._split = SplitBar()
        self._note = Panel(wraps=True)

    def fields(self) -> ComposeResult:
        """T with what it does beside or above α with what it does."""
        with Container(classes="pair"):
            with Vertical(classes="half"):
                yield self._sliders["temperature"]
                yield self._mistakes["temperature"]
                yield self._distribution
            with Vertical(classes="half"):
                yield self._sliders["alpha"]
                yield self._mistakes["alpha"]
                yield self._split
                yield self._note

    def fill(self, draft: Draft) -> None:
        """Show what the draft says."""
        super().fill(draft)
        for name, slider in self._sliders.items():
            slider.put(draft.text(name))
        self._draw()

    def texts(self) -> dict[str, str]:
        """What stands in the inputs at this moment."""
        return {name: slider.text for name, slider in self._sliders.items()}

    def show(self, checked: Checked) -> None:
        """Show what empty texts stand for, and what is wrong."""
        super().show(checked)
        for name, slider in self._sliders.items():
            slider.show_own(checked.own.get(name, ""))
            self._mistakes[name].say(checked.mistakes.get(name, ""))
        idle = bool(checked.own) and not checked.distils
        self._note.show([[("without a teacher neither T nor α does anything", "warn")]] if idle else [])
        self._draw()

    def teach(self, pixel: Mapping[str, float]) -> None:
        """Show what T does to this distribution of the teacher; an empty one is not known."""
        self._pixel = tuple(pixel.items()) or EXAMPLE
        self._distribution.entitle(_SEEN if pixel else _MADE_UP)
        self._draw()

    def _draw(self) -> None:
        self._distribution.show(self._pixel, self._sliders["temperature"].value)
        self._split.show(self._sliders["alpha"].value)

    def on_slider_changed(self, event: Slider.Changed) -> None:
        """The pictures follow at once."""
        event.stop()
        self._draw()
        self.post_message(self.Edited({str(event.slider.id): event.text}))

    def focus_place(self, name: str) -> None:
        """To the input of a slider."""
        self.screen.set_focus(self._sliders[name].query_one(Entry))
