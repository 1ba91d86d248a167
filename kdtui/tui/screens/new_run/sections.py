"""The sections of the form: titles, fields and error messages; the distillation and training sections."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input

from kdtui.profile.settings import SETTINGS, SectionName, Setting
from kdtui.text import counted
from kdtui.tui.form import Checked, RunDraft
from kdtui.tui.widgets.bars import SplitBar
from kdtui.tui.widgets.choices import Choices, Heading, Labelled, LineInput, Mistake
from kdtui.tui.widgets.distribution import Distribution
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.slider import Scale, Slider


class FieldRow(Labelled):
    """One field of the form.

    Args:
        setting: What it edits; its words are suggested.
        text: Its text.
    """

    def __init__(self, setting: Setting, text: str = "") -> None:
        self.field = setting
        self._entry = LineInput(text, suggester=SuggestFromList(setting.words) if setting.words else None)
        super().__init__(self.field.label, self._entry)

    def fill(self, draft: RunDraft) -> None:
        """Display the text of the draft."""
        self._entry.put(draft.typed(self.field.name))

    def show(self, checked: Checked) -> None:
        """Display the default as placeholder, and the error message."""
        self._entry.placeholder = checked.own.get(self.field.name) or ("required" if self.field.required else "")
        self.fault(checked.mistakes.get(self.field.name, ""))

    @property
    def text(self) -> str:
        """Current text of the input."""
        return self._entry.value

    def on_input_changed(self, event: Input.Changed) -> None:
        """Post the typed text."""
        event.stop()
        self.post_message(Section.Edited({self.field.name: event.value}))


class ChoiceRow(FieldRow):
    """A field whose text is one of a few.

    Args:
        setting: What it edits.
        label: Text before the choice.
        words: The displayed word of each text; a single one is on or off.
    """

    def __init__(self, setting: Setting, label: str, words: Mapping[str, str]) -> None:
        self.field = setting
        self._words = words
        self._choices = Choices(tuple(words.values()), several=len(words) == 1)
        Labelled.__init__(self, label, self._choices)

    def fill(self, draft: RunDraft) -> None:
        """Display the text of the draft."""
        self._choices.put([word for text, word in self._words.items() if text == draft.typed(self.field.name)])

    def show(self, checked: Checked) -> None:
        """Display the error message."""
        self.fault(checked.mistakes.get(self.field.name, ""))

    @property
    def text(self) -> str:
        """Current text."""
        return next((text for text, word in self._words.items() if word in self._choices.chosen), "")

    def on_choices_chosen(self, event: Choices.Chosen) -> None:
        """Post the text."""
        event.stop()
        self.post_message(Section.Edited({self.field.name: self.text}))


def names_of(section: SectionName) -> tuple[str, ...]:
    """Names of the settings of a section, in order."""
    return tuple(setting.name for setting in SETTINGS.values() if setting.section == section)


def rows_of(section: SectionName, *, without: Collection[str] = ()) -> list[FieldRow]:
    """One field for each setting of a section but those that have controls of their own."""
    return [FieldRow(SETTINGS[name]) for name in names_of(section) if name not in without]


class Section(Vertical):
    """One section of the form.

    Attributes:
        TITLE: Text above the section.
        PLACES: Fields in the section that are always there.
    """

    DEFAULT_CSS = """
    Section { height: auto; width: 1fr; }
    """
    TITLE: ClassVar[str] = ""
    PLACES: ClassVar[tuple[str, ...]] = ()

    class Edited(Message):
        """Posted when texts of the draft changed; ``texts`` has them by name."""

        def __init__(self, texts: Mapping[str, str]) -> None:
            self.texts = dict(texts)
            super().__init__()

    class Unfolded(Message):
        """Posted when more or fewer fields are displayed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._heading = Heading()

    def compose(self) -> ComposeResult:
        """Compose the title, then the fields."""
        yield self._heading
        yield from self.fields()

    def on_mount(self) -> None:
        """Display the title."""
        self.entitle("")

    def fields(self) -> ComposeResult:
        """Compose the fields."""
        yield from ()

    def entitle(self, chosen: str, right: str = "") -> None:
        """Set the chosen value and the right text of the title."""
        self._heading.entitle(self.TITLE, chosen, right)

    @property
    def rows(self) -> list[FieldRow]:
        """The fields of one row, without hidden ones."""
        return [row for row in self.query(FieldRow) if row.display]

    def owns(self, name: str) -> bool:
        """Whether a place is in the section."""
        return name in self.PLACES

    def fill(self, draft: RunDraft) -> None:
        """Display a draft, initially and after it was changed outside of this section."""
        for row in self.rows:
            row.fill(draft)
        self.chose(draft)

    def chose(self, draft: RunDraft) -> None:
        """Display what is chosen in lists; inputs are not changed, as the user may be typing."""

    def texts(self) -> dict[str, str]:
        """Current texts of the inputs, which may be newer than the posted messages."""
        return {row.field.name: row.text for row in self.rows}

    def show(self, checked: Checked) -> None:
        """Display the result of the check. Inputs are not changed."""
        for row in self.rows:
            row.show(checked)

    def focus_place(self, name: str) -> None:
        """Focus the field of a mistake."""
        for row in self.rows:
            if row.field.name == name:
                self.screen.set_focus(row.control)
                return
        self.focus_first()

    def focus_first(self) -> None:
        """Focus the first focusable widget immediately, unlike `focus`, which is deferred."""
        self.screen.set_focus(next(widget for widget in self.query("*") if widget.focusable))


class RunsSection(Section):
    """How many runs are launched: seeds, and with which baselines."""

    DEFAULT_CSS = """
    RunsSection .pair > Horizontal { height: auto; width: 1fr; }
    RunsSection FieldRow > Horizontal > .label { width: auto; }
    RunsSection #sampling { height: auto; width: 1fr; display: none; }
    RunsSection #sampling.-displayed { display: block; }
    """
    TITLE = "RUNS"
    PLACES = names_of("runs")

    def __init__(self) -> None:
        super().__init__(id="runs")

    def fields(self) -> ComposeResult:
        """Compose the fields in one or two rows."""
        equal_time = SETTINGS["equal_time"]
        with Container(classes="pair"):
            with Horizontal():
                yield FieldRow(SETTINGS["seeds"])
                yield ChoiceRow(SETTINGS["baseline"], "", {"true": "with baseline"})
            yield ChoiceRow(equal_time, equal_time.label, {"": "off"} | {word: word for word in equal_time.words})
        with Horizontal(id="sampling"):
            yield FieldRow(SETTINGS["trials"])
            yield ChoiceRow(SETTINGS["prune"], "", {"true": "prune worse trials"})

    def show(self, checked: Checked) -> None:
        """Display the number of runs; the fields of trials if a key has several values."""
        super().show(checked)
        typed = any(row.text for row in self.query_one("#sampling").query(FieldRow))
        self.query_one("#sampling").set_class(checked.several or typed, "-displayed")
        new, reused = checked.group.new, checked.group.reused
        baselines = sum(run.baseline for run in new)
        words = [counted(len(new), "run")] if new else []
        words += [f"{counted(baselines, 'baseline')} of them"] if baselines else []
        words = words if checked.sampled is None else [counted(checked.trials, "trial")]
        self.entitle(", ".join(words), f"{counted(len(reused), 'baseline')} reused" if reused else "")


EXAMPLE = (("target", 0.9), ("other", 0.08), ("background", 0.02))
"""Probabilities of a pixel with a clear class, used if those of the teacher are unknown."""
_MADE_UP, _SEEN = "an example pixel", "this teacher's pixel"
_TEMPERATURE = Scale(0.5, 20.0, 0.1, 1.0, log=True)
_ALPHA = Scale(0.0, 1.0, 0.01, 0.1)


class LossSection(Section):
    """Sliders of T and α, with a visualisation of each."""

    TITLE = "DISTILLATION"
    PLACES = names_of("distillation")

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
        """Compose T with its distribution and, beside or below, α with its split bar."""
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
        yield from rows_of("distillation", without=self._sliders)

    def fill(self, draft: RunDraft) -> None:
        """Display the draft."""
        super().fill(draft)
        for name, slider in self._sliders.items():
            slider.put(draft.text(name))
        self._draw()

    def texts(self) -> dict[str, str]:
        """Current texts of the inputs."""
        return {**super().texts(), **{name: slider.text for name, slider in self._sliders.items()}}

    def show(self, checked: Checked) -> None:
        """Display the defaults and the error messages."""
        super().show(checked)
        for name, slider in self._sliders.items():
            slider.show_own(checked.own.get(name, ""))
            self._mistakes[name].say(checked.mistakes.get(name, ""))
        idle = bool(checked.own) and not checked.distils
        self._note.show([[("T and α have no effect without a teacher", "warn")]] if idle else [])
        self._draw()

    def teach(self, pixel: Mapping[str, float]) -> None:
        """Set the distribution of the teacher; an empty one is replaced by an example."""
        self._pixel = tuple(pixel.items()) or EXAMPLE
        self._distribution.entitle(_SEEN if pixel else _MADE_UP)
        self._draw()

    def _draw(self) -> None:
        self._distribution.show(self._pixel, self._sliders["temperature"].value)
        self._split.show(self._sliders["alpha"].value)

    def on_slider_changed(self, event: Slider.Changed) -> None:
        """Update the visualisations and post the text."""
        event.stop()
        self._draw()
        self.post_message(self.Edited({str(event.slider.id): event.text}))

    def focus_place(self, name: str) -> None:
        """Focus the input of a slider."""
        if name in self._sliders:
            self.screen.set_focus(self._sliders[name].query_one(LineInput))
        else:
            super().focus_place(name)


class TrainingSection(Section):
    """The fields of the training, one per row."""

    TITLE = "TRAINING"
    PLACES = names_of("training")

    def __init__(self) -> None:
        super().__init__(id="training")

    def fields(self) -> ComposeResult:
        """Compose the two columns."""
        rows = rows_of("training")
        middle = (len(rows) + 1) // 2
        with Container(classes="pair"):
            for half in (rows[:middle], rows[middle:]):
                with Vertical(classes="half"):
                    yield from half
