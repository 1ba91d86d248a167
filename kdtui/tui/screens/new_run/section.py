"""What the parts of the form have in common: a title, what was edited, mistakes under their fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input

from kdtui.tui.form import Checked, Draft
from kdtui.tui.form.fields import FIELDS
from kdtui.tui.widgets.entry import Entry
from kdtui.tui.widgets.labelled import Heading, Labelled


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
