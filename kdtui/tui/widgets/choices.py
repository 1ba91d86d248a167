"""Controls of one line: a choice of words, a labelled field, an entry, and tabs of pages."""

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
from kdtui.tui.widgets.bars import filled_cells
from kdtui.tui.widgets.line import Line, Part, cut
from kdtui.tui.widgets.panel import Panel


class Choices(Widget, can_focus=True):
    """Arrows go from word to word; of one they choose it, of several space takes it in or out.

    Args:
        words: From left to right.
        several: Whether any may be chosen, instead of exactly one.
    """

    DEFAULT_CSS = """
    Choices { height: 1; width: 1fr; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """Something else is chosen."""

        def __init__(self, choices: Choices) -> None:
            self.choices = choices
            super().__init__()

        @property
        def control(self) -> Choices:
            """The row that it came from."""
            return self.choices

    def __init__(self, words: Sequence[str], *, several: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = tuple(words)
        self._several = several
        self._chosen: tuple[str, ...] = () if several else self._words[:1]
        self._at = 0

    @property
    def chosen(self) -> tuple[str, ...]:
        """What is chosen, from left to right."""
        return self._chosen

    def put(self, chosen: Sequence[str]) -> None:
        """Show that these are chosen without telling anybody; words that are not there are left out."""
        known = tuple(word for word in self._words if word in chosen)
        if known:
            self._at = self._words.index(known[0])
        if known != self._chosen:
            self._chosen = known
            self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Go on, choose. No bindings: those go where the focus is once somebody typed on."""
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
        """Choose the word under the mouse."""
        start = 0
        for at, word in enumerate(self._words):
            end = start + 1 + width(word)
            if start <= event.x < end:
                self._go(at)
                self._choose()
                return
            start = end + 1

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Keep moves from waking anything above."""
        event.stop()

    def render_line(self, y: int) -> Strip:
        """The words, each behind its sign."""
        base = self.rich_style
        yes, no = "■□" if self._several else "●○"
        segments = []
        for at, word in enumerate(self._words):
            taken = word in self._chosen
            style = base + Style(bold=taken or None, reverse=(self.has_focus and at == self._at) or None)
            segments += [Segment(f"{yes if taken else no}{word}", style), Segment(" ", base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_focus(self) -> None:
        """The word under the cursor looks otherwise."""
        self.refresh()

    def on_blur(self) -> None:
        """And back."""
        self.refresh()


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


class Entry(Input):
    """A borderless input of one row.

    Args:
        placeholder: Stands there, dimmed, while nothing is typed.
        options: As :class:`textual.widgets.Input` has them.
    """

    DEFAULT_CSS = """
    Entry { height: 1; border: none; padding: 0 1; background: $surface; }
    Entry:focus { border: none; background: $panel; }
    Entry.-invalid, Entry.-invalid:focus { border: none; }
    """
    # Textual lays out the whole screen when this changes, 10 ms a key; an entry is as wide as its container.
    virtual_size = Reactive(Size(0, 0))

    def __init__(self, value: str = "", *, placeholder: str = "", **options: Any) -> None:
        super().__init__(value, placeholder=placeholder, **options)
        self.cursor_blink = False

    async def on_key(self, event: Key) -> None:
        """Take enter here: a binding goes where the focus is by then, and who types fast is elsewhere already."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            await self.action_submit()

    def put(self, value: str) -> None:
        """Show another text without telling anybody: whoever calls this knows it already."""
        if value != self.value:
            with self.prevent(Input.Changed):
                self.value = value


_SHORTEST = 6
_LONGEST = 30


class Pages(Widget):
    """Numbered words, of which one is chosen, and a bar and words at the right.

    Args:
        names: The pages, in the order of their numbers from 1 on.
    """

    DEFAULT_CSS = """
    Pages { height: 1; width: 100%; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """A page was clicked."""

        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

    def __init__(self, names: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._places = tuple(_places(names))
        self._shown: tuple[str, float | None, str] = (names[0], None, "")

    def show(self, name: str, share: float | None = None, words: str = "") -> None:
        """Show that this page is in front; nothing is written when all of it was shown before.

        Args:
            name: The page.
            share: In [0, 1]; None draws no bar.
            words: At the right end.
        """
        if (name, share, words) != self._shown:
            self._shown = (name, share, words)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The row."""
        base, room = self.rich_style, self.size.width
        shown, share, words = self._shown
        chosen = base + Style(reverse=True, bold=True)
        segments = [Segment(text, chosen if name == shown else base) for _, _, text, name in self._places]
        room -= self._places[-1][1]
        text = cut(f" {words} ", max(0, room)) if words else ""
        space = min(_LONGEST, room - width(text) - 1)
        bar = "" if share is None or space < _SHORTEST else filled_cells(share, space).replace(" ", "·")
        colour = self.app.theme_variables.get("accent", "")
        done = base + Style(color=colour if colour.startswith("#") else None)
        gap = " " * max(0, room - width(text) - len(bar))
        segments += [Segment(gap, base), Segment(bar, done), Segment(text, base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_click(self, event: Click) -> None:
        """Choose the page under the mouse."""
        for start, end, _, name in self._places:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))

    def on_mouse_move(self, event: MouseMove) -> None:
        """Keep moves from waking anything above."""
        event.stop()


def _places(names: Sequence[str]) -> Iterator[tuple[int, int, str, str]]:
    """Start, end, text and name of each page."""
    at = 0
    for number, name in enumerate(names, start=1):
        text = f" {number} {name} "
        yield at, at + width(text), text, name
        at += width(text)
