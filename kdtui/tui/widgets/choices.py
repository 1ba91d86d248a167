"""One-row controls: a choice of words, a labelled field, a text input, and tabs of pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Click, Key, MouseMove
from textual.geometry import Size
from textual.message import Message
from textual.reactive import Reactive
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from kdtui.text import width
from kdtui.tui.values import Part
from kdtui.tui.widgets.bars import filled_cells
from kdtui.tui.widgets.columns import cut
from kdtui.tui.widgets.line import Line, theme_colour
from kdtui.tui.widgets.panel import Panel


class Choices(Widget, can_focus=True):
    """A row of words to choose from.

    Arrow keys move the cursor. In a single choice they also choose the word; in a multiple choice space toggles it.

    Args:
        words: The words, from left to right.
        several: Whether any number may be chosen, instead of exactly one.
    """

    DEFAULT_CSS = """
    Choices { height: 1; width: 1fr; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """Posted when the user changed the choice."""

        def __init__(self, choices: Choices) -> None:
            self.choices = choices
            super().__init__()

        @property
        def control(self) -> Choices:
            """The control that posted the message."""
            return self.choices

    def __init__(self, words: Sequence[str], *, several: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = tuple(words)
        self._several = several
        self._chosen: tuple[str, ...] = () if several else self._words[:1]
        self._at = 0

    @property
    def words(self) -> tuple[str, ...]:
        """All words, from left to right."""
        return self._words

    @property
    def chosen(self) -> tuple[str, ...]:
        """The chosen words, from left to right."""
        return self._chosen

    def put(self, chosen: Sequence[str]) -> None:
        """Set the choice without posting a message; unknown words are ignored."""
        known = tuple(word for word in self._words if word in chosen)
        if known:
            self._at = self._words.index(known[0])
        if known != self._chosen:
            self._chosen = known
            self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Move the cursor and choose.

        Not bindings: a binding acts on the widget that has focus when it runs, and fast typing may have moved the
        focus.
        """
        last = len(self._words) - 1
        moved = {
            "left": max(0, self._at - 1),
            "right": min(last, self._at + 1),
            "home": 0,
            "end": last,
        }
        if event.key in moved:
            event.stop()
            self._go(moved[event.key])
            if not self._several:
                self._choose()
        elif event.key == "space":
            event.stop()
            if not self._several:
                self._go((self._at + 1) % len(self._words))
            self._choose()

    def _go(self, at: int) -> None:
        if at != self._at:
            self._at = at
            self.refresh()

    def _choose(self) -> None:
        word = self._words[self._at]
        wanted = {*self._chosen} ^ {word} if self._several else {word}
        after = tuple(each for each in self._words if each in wanted)
        if after != self._chosen:
            self._chosen = after
            self.refresh()
            self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        """Choose the clicked word."""
        start = 0
        for at, word in enumerate(self._words):
            end = start + 1 + width(word)
            if start <= event.x < end:
                self._go(at)
                self._choose()
                return
            start = end + 1

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Stop mouse moves from bubbling: nothing above needs them."""
        event.stop()

    def render_line(self, y: int) -> Strip:
        """Render the words, each after its symbol."""
        base = self.rich_style
        yes, no = "■□" if self._several else "●○"
        segments = []
        for at, word in enumerate(self._words):
            taken = word in self._chosen
            style = base + Style(bold=taken or None, reverse=(self.has_focus and at == self._at) or None)
            segments += [Segment(f"{yes if taken else no}{word}", style), Segment(" ", base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_focus(self) -> None:
        """Highlight the word under the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Remove the highlight."""
        self.refresh()


class Mistake(Panel):
    """The error message of the control above; hidden while there is none."""

    def __init__(self) -> None:
        super().__init__(wraps=True)

    def say(self, text: str) -> None:
        """Display an error message; empty to hide it."""
        self.show([[("✗ ", "bad"), (text, "bad")]] if text else [])


class Labelled(Vertical):
    """A label and a control, with the error message of the control below.

    Args:
        label: Text before the control.
        control: The control.
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
        """Compose the label, the control and the error message."""
        with Horizontal():
            yield self._label
            yield self._control
        yield self._mistake

    @property
    def control(self) -> Widget:
        """The control."""
        return self._control

    def relabel(self, label: str) -> None:
        """Set the label."""
        if self._label.content != label:
            self._label.update(label)

    def fault(self, text: str) -> None:
        """Display an error message; empty to hide it."""
        self._mistake.say(text)


class Heading(Line):
    """The title of a section."""

    DEFAULT_CSS = """
    Heading { background: $surface; }
    """

    def entitle(self, title: str, chosen: str = "", right: str = "") -> None:
        """Set the title, the chosen value, and the text at the right."""
        self.show(
            [Part(f" {title}  ", "accent", bold=True), Part(chosen, bold=True)], [Part(f" {right} ", "text-muted")]
        )


class LineInput(Input):
    """A borderless input of one row.

    Args:
        placeholder: Dimmed text while the input is empty.
        options: Passed on to :class:`textual.widgets.Input`.
    """

    DEFAULT_CSS = """
    LineInput { height: 1; border: none; padding: 0 1; background: $surface; }
    LineInput:focus { border: none; background: $panel; }
    LineInput.-invalid, LineInput.-invalid:focus { border: none; }
    """
    # Textual lays out the whole screen when this changes, 10 ms per key; an entry is as wide as its container anyway.
    virtual_size = Reactive(Size(0, 0))

    def __init__(self, value: str = "", *, placeholder: str = "", **options: Any) -> None:
        super().__init__(value, placeholder=placeholder, **options)
        self.cursor_blink = False

    async def on_key(self, event: Key) -> None:
        """Submit on enter. Not a binding: fast typing may have moved the focus before it runs."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            await self.action_submit()

    def put(self, value: str) -> None:
        """Set the text without posting a message: the caller already has it."""
        if value != self.value:
            with self.prevent(Input.Changed):
                self.value = value


_SHORTEST = 6
_LONGEST = 30


class Pages(Widget):
    """Numbered tabs, one of them selected, with a progress bar and a text at the right.

    Args:
        names: Names of the pages, numbered from 1.
    """

    DEFAULT_CSS = """
    Pages { height: 1; width: 100%; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """Posted when a tab was clicked."""

        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

    def __init__(self, names: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._places = tuple(_places(names))
        self._shown: tuple[str, float | None, str] = (names[0], None, "")

    def show(self, name: str, share: float | None = None, words: str = "") -> None:
        """Select a tab and set the bar and the text; nothing is redrawn when all are unchanged.

        Args:
            name: Name of the page.
            share: Filled share of the bar, in [0, 1]; None for no bar.
            words: Text at the right end.
        """
        if (name, share, words) != self._shown:
            self._shown = (name, share, words)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Render the row."""
        base, room = self.rich_style, self.size.width
        shown, share, words = self._shown
        chosen = base + Style(reverse=True, bold=True)
        segments = [Segment(text, chosen if name == shown else base) for _, _, text, name in self._places]
        room -= self._places[-1][1]
        text = cut(f" {words} ", max(0, room)) if words else ""
        space = min(_LONGEST, room - width(text) - 1)
        bar = "" if share is None or space < _SHORTEST else filled_cells(share, space).replace(" ", "·")
        done = base + Style(color=theme_colour(self, "accent"))
        gap = " " * max(0, room - width(text) - len(bar))
        segments += [Segment(gap, base), Segment(bar, done), Segment(text, base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_click(self, event: Click) -> None:
        """Select the clicked tab."""
        for start, end, _, name in self._places:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))

    def on_mouse_move(self, event: MouseMove) -> None:
        """Stop mouse moves from bubbling: nothing above needs them."""
        event.stop()


def _places(names: Sequence[str]) -> Iterator[tuple[int, int, str, str]]:
    """Start and end column, text and name of each tab."""
    at = 0
    for number, name in enumerate(names, start=1):
        text = f" {number} {name} "
        yield at, at + width(text), text, name
        at += width(text)
