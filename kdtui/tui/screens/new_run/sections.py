"""The sections of the form: their title, edited fields, mistakes; the loss and the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input

from kdtui.tui.form import Checked, Draft
from kdtui.tui.form.fields import FIELDS
from kdtui.tui.widgets.bars import SplitBar
from kdtui.tui.widgets.choices import Entry, Heading, Labelled, Mistake
from kdtui.tui.widgets.distribution import Distribution
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.slider import Scale, Slider


class FieldRow(Labelled):
    """A field of the form.

    Args:
        name: Of the field.
        words: What may be typed, where that is a choice.
    """

    def __init__(self, name: str, words: Sequence[str] = ()) -> None:
        self.field = FIELDS[name]
        self._entry = Entry(suggester=SuggestFromList(words) if words else None)
        super().__init__(self.field.label, self._entry)

    def fill(self, draft: Draft) -> None:
        """Show what the draft says."""
        self._entry.put(str(getattr(draft, self.field.name)))

    def show(self, checked: Checked) -> None:
        """Show what an empty text stands for, and what is wrong."""
        self._entry.placeholder = checked.own.get(self.field.name, "")
        self.fault(checked.mistakes.get(self.field.name, ""))

    @property
    def text(self) -> str:
        """What stands in the input at this moment."""
        return self._entry.value

    def on_input_changed(self, event: Input.Changed) -> None:
        """Something was typed."""
        event.stop()
        self.post_message(Section.Edited({self.field.name: event.value}))


class Section(Vertical):
    """One part of the form.

    Attributes:
        TITLE: Stands above it.
        PLACES: Fields that it shows, for whoever looks for the place of a mistake.
    """

    DEFAULT_CSS = """
    Section { height: auto; width: 1fr; }
    """
    TITLE: ClassVar[str] = ""
    PLACES: ClassVar[tuple[str, ...]] = ()

    class Edited(Message):
        """Texts of the draft are other now, by name."""

        def __init__(self, texts: Mapping[str, str]) -> None:
            self.texts = dict(texts)
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._heading = Heading()

    def compose(self) -> ComposeResult:
        """Title, then the fields."""
        yield self._heading
        yield from self.fields()

    def on_mount(self) -> None:
        """A title to begin with."""
        self.entitle("")

    def fields(self) -> ComposeResult:
        """What stands below the title."""
        yield from ()

    def entitle(self, chosen: str, right: str = "") -> None:
        """Say in the title what is chosen."""
        self._heading.entitle(self.TITLE, chosen, right)

    def fill(self, draft: Draft) -> None:
        """Show what a draft says: once, and when something else than this section's own fields changed it."""
        for row in self.query(FieldRow):
            row.fill(draft)
        self.chose(draft)

    def chose(self, draft: Draft) -> None:
        """Show what is chosen from lists; inputs, which may be typed in at this moment, are left alone."""

    def texts(self) -> dict[str, str]:
        """What stands in the inputs at this moment: who types fast is ahead of the messages."""
        return {row.field.name: row.text for row in self.query(FieldRow)}

    def show(self, checked: Checked) -> None:
        """Show what the draft comes to. What is being typed is left alone."""
        for row in self.query(FieldRow):
            row.show(checked)

    def focus_place(self, name: str) -> None:
        """Put the cursor where a mistake of this field can be mended."""
        for row in self.query(FieldRow):
            if row.field.name == name:
                self.screen.set_focus(row.query_one(Entry))
                return
        self.focus_first()

    def focus_first(self) -> None:
        """Put the cursor on the first thing that takes keys: at once, where `focus` waits for its turn."""
        self.screen.set_focus(next(widget for widget in self.query("*") if widget.focusable))


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


_LEFT = ("epochs", "batch_size", "learning_rate", "seeds", "precision")
_RIGHT = ("accelerator", "devices", "name", "tags", "extra")
_WORDS = {"precision": ("auto", "fp32", "bf16", "fp16"), "accelerator": ("auto", "cpu", "gpu")}


class TrainingSection(Section):
    """One row a field."""

    TITLE = "TRAINING"
    PLACES = (*_LEFT, *_RIGHT)

    def __init__(self) -> None:
        super().__init__(id="training")

    def fields(self) -> ComposeResult:
        """Two halves."""
        with Container(classes="pair"):
            for half in (_LEFT, _RIGHT):
                with Vertical(classes="half"):
                    for name in half:
                        yield FieldRow(name, _WORDS.get(name, ()))
