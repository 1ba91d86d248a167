"""The fields of the export: options, a checkpoint file, and its description."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.suggester import SuggestFromList
from textual.widget import Widget

from kdtui.export_options import OPTIONS
from kdtui.tui.screens.form import FormField
from kdtui.tui.views.export import EXTERNAL_FIELDS, FILE, FOLDER, TASKS, ExportDraft, ParsedDraft, choices_of, label
from kdtui.tui.widgets.choices import Choices, Heading, LineInput
from kdtui.tui.widgets.paths import PathSuggester

_LEFT = ("precision", "checkpoint", "dynamic", "batch", "height", "width", "opset", FOLDER)
_RIGHT = ("output", "input", "parts", "slim", "calibration", "keep_float", "limit")


class ExportField(FormField):
    """One field of the export.

    Args:
        name: Name of an option, ``file``, ``folder``, or one of :data:`~kdtui.tui.views.export.EXTERNAL_FIELDS`.
    """

    DEFAULT_CSS = """
    ExportField > Horizontal > .label { width: 14; padding: 0 0 0 1; }
    ExportField.-idle { color: $text-muted; }
    ExportField.-idle > Horizontal > .label, ExportField.-idle > Horizontal > .control { color: $text-muted; }
    """

    def __init__(self, name: str) -> None:
        self._idle = False
        self._input = _control(name)
        super().__init__(name, label(name), self._input)

    def fill(self, draft: ExportDraft) -> None:
        """Display the text of the draft."""
        text = draft.text(self.field)
        if isinstance(self._input, Choices):
            self._input.put(text.split(","))
        else:
            self._input.put(text)

    def show(self, read: ParsedDraft) -> None:
        """Display the error message, and whether the field has an effect."""
        self.fault(read.mistakes.get(self.field, ""))
        idle = self.field in read.idle
        if idle != self._idle:
            self._idle = idle
            self.set_class(idle, "-idle")
            # Brackets: visible without colours.
            self.relabel(f"({label(self.field)})" if idle else label(self.field))


def _control(name: str) -> LineInput | Choices:
    line = next((line for line in OPTIONS if line.name == name), None)
    words = () if line is None else choices_of(line)
    if words:
        return Choices(words, several=name == "precision")
    if name == "checkpoint":
        return LineInput(suggester=SuggestFromList(["best", "last", "untrained"]))
    if name == FILE:
        return LineInput(placeholder="the runs above, or the path of a checkpoint", suggester=PathSuggester())
    if name == FOLDER:
        return LineInput(placeholder="next to the checkpoint", suggester=PathSuggester())
    if name == "task":
        return LineInput(suggester=SuggestFromList(TASKS))
    return LineInput()


class Menu(Vertical):
    """All fields of the export."""

    DEFAULT_CSS = """
    Menu { height: auto; width: 1fr; }
    Menu .pair { height: auto; width: 1fr; }
    Menu .half { height: auto; width: 1fr; }
    Menu #foreign { height: auto; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__(id="menu")
        self.heading = Heading()
        first, *others = EXTERNAL_FIELDS
        self._external_box = Container(
            ExportField(first),
            Container(
                Vertical(*map(ExportField, others[:2]), classes="half"),
                Vertical(*map(ExportField, others[2:]), classes="half"),
                classes="pair",
            ),
            id="foreign",
        )
        self._external_box.display = False

    def compose(self) -> ComposeResult:
        """Compose the source, then the options."""
        yield self.heading
        yield ExportField(FILE)
        yield self._external_box
        with Container(classes="pair"):
            for half in (_LEFT, _RIGHT):
                with Vertical(classes="half"):
                    for name in half:
                        yield ExportField(name)

    @property
    def fields(self) -> list[ExportField]:
        """All fields, in order."""
        return list(self.query(ExportField))

    def field(self, name: str) -> ExportField:
        """The field with a name."""
        return next(each for each in self.fields if each.field == name)

    def texts(self) -> dict[str, str]:
        """Current texts of all fields, which may be newer than the posted messages."""
        return {each.field: each.text for each in self.fields}

    def fill(self, draft: ExportDraft) -> None:
        """Display the draft in all fields."""
        for each in self.fields:
            each.fill(draft)

    def show(self, read: ParsedDraft, *, external: bool) -> None:
        """Display the parsed draft; the description of a file is displayed only if a file is exported."""
        if self._external_box.display != external:
            self._external_box.display = external
        for each in self.fields:
            each.show(read)


def field_of(widget: Widget | None) -> ExportField | None:
    """The field that contains a widget."""
    above = () if widget is None else widget.ancestors
    return next((each for each in above if isinstance(each, ExportField)), None)
