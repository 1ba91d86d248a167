"""A part of the form that is filled by picking from a list, with what is known of the row under the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from kdtui.tui.form import Checked
from kdtui.tui.screens.new_run.section import Section
from kdtui.tui.widgets.labelled import Mistake
from kdtui.tui.widgets.panel import Panel
from kdtui.tui.widgets.picker import Picker
from kdtui.tui.widgets.table import Cell, Column


class PickingSection(Section):
    """A list that is searched; its mistake is that of the first place.

    Args:
        columns: Of the list.
        placeholder: Stands in the empty search line.
        empty: Shown when nothing fits.
    """

    def __init__(self, columns: Sequence[Column], *, placeholder: str, empty: str, id: str) -> None:
        super().__init__(id=id)
        self._picker = Picker(columns, self._cells, find=self._find, placeholder=placeholder, empty=empty)
        self._mistake = Mistake()
        self._about = Panel(wraps=True, classes="about")

    def fields(self) -> ComposeResult:
        """Mistake, list, what the one under the cursor is."""
        yield self._mistake
        yield self._picker
        yield self._about

    def show(self, checked: Checked) -> None:
        """Show what is wrong with it."""
        super().show(checked)
        self._mistake.say(self._wrong(checked))

    def _wrong(self, checked: Checked) -> str:
        return checked.mistakes.get(self.PLACES[0], "")

    def _find(self, text: str) -> Sequence[str] | None:
        """As :class:`Picker` has it."""
        raise NotImplementedError

    def _cells(self, key: str) -> Sequence[Cell]:
        """Of a row."""
        raise NotImplementedError

    def _tell(self) -> None:
        """Say what the one under the cursor is."""
        raise NotImplementedError

    def on_picker_moved(self, event: Picker.Moved) -> None:
        """What is it?"""
        event.stop()
        self.moved()

    def on_picker_typed(self, event: Picker.Typed) -> None:
        """The list changed under the cursor."""
        event.stop()
        self.typed(event.text)

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """This one."""
        event.stop()
        self.picked(event.key)

    def on_picker_entered(self, event: Picker.Entered) -> None:
        """One that the list does not have."""
        event.stop()
        self.entered(event.text.strip())

    def moved(self) -> None:
        """The cursor stands on another row."""
        self._tell()

    def typed(self, text: str) -> None:
        """Another text is searched for."""
        self._tell()

    def picked(self, key: str) -> None:
        """A row was picked."""
        raise NotImplementedError

    def entered(self, text: str) -> None:
        """A text was entered that no row fits."""
        raise NotImplementedError

    def _choose(self, **texts: str) -> None:
        """Put the search away and tell what the draft says now."""
        self._picker.leave()
        self.post_message(self.Edited(texts))
