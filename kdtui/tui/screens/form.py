"""The base of the screens whose body is a form, and of their fields."""

from __future__ import annotations

from textual.message import Message
from textual.widgets import Input

from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.dialogs import Confirm
from kdtui.tui.widgets.choices import Choices, Labelled, LineInput


class FormScreen(CockpitScreen):
    """A screen with input fields."""

    def bar_keys(self) -> list[tuple[str, str, str]]:
        """The key bar with F1 for help: a question mark is a letter in a field."""
        return [("F1" if shown == "?" else shown, label, action) for shown, label, action in super().bar_keys()]

    def leave_form(self, *, unsaved: bool, command: str, makes: str) -> None:
        """Leave the form, after confirmation if input would be lost.

        Args:
            unsaved: Whether something was typed.
            command: The command line that does the same as the form.
            makes: What the command starts, such as `run`.
        """

        def leave_if(yes: bool | None) -> None:
            if yes:
                self.leave()

        if not unsaved:
            self.leave()
            return
        what = f"Unsaved input is lost; the command below starts the same {makes}."
        self.app.push_screen(Confirm("Leave the form?", what, command), leave_if)


class FormField(Labelled):
    """One field of a form: a line of text, or a choice.

    Args:
        name: Identifies the field in messages.
        label: Text before the control.
        control: The control.
    """

    class Edited(Message):
        """Posted when the text of a field changed."""

        def __init__(self, name: str, text: str) -> None:
            self.name, self.text = name, text
            super().__init__()

    def __init__(self, name: str, label: str, control: LineInput | Choices) -> None:
        super().__init__(label, control)
        self.field = name

    @property
    def text(self) -> str:
        """The current text; of several choices with commas."""
        control = self.control
        return ",".join(control.chosen) if isinstance(control, Choices) else getattr(control, "value", "")

    def enter(self) -> None:
        """Focus the field immediately, unlike `focus`, which is deferred."""
        self.screen.set_focus(self.control)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Post the typed text."""
        event.stop()
        self.post_message(self.Edited(self.field, event.value))

    def on_choices_chosen(self, event: Choices.Chosen) -> None:
        """Post the choice."""
        event.stop()
        self.post_message(self.Edited(self.field, self.text))
