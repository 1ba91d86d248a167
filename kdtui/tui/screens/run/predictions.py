"""The page of predictions: which epoch, which picture, which part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from kdtui.palette import contrast, hexadecimal
from kdtui.text import clean
from kdtui.tui.screens.run.pictures import Gallery, Wish, legend_colours
from kdtui.tui.widgets.half_blocks import HalfBlocks, Pixel
from kdtui.tui.widgets.line import Line, Part

_SEEN = 3.0
"""Contrast of what is no text: https://www.w3.org/TR/WCAG21/#non-text-contrast."""
_LEGEND = 8  # classes that are named


class Predictions(Vertical):
    """Asks for what a person wishes to see, and shows what it is given.

    Args:
        colours: Whether the terminal can show a picture at all.
    """

    DEFAULT_CSS = """
    Predictions { padding: 0 1; }
    Predictions #legend { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    class Wished(Message):
        """Another picture, or the same for another room, is wanted."""

        def __init__(self, wish: Wish) -> None:
            self.wish = wish
            super().__init__()

    def __init__(self, *, colours: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._colours = colours
        self._wish = Wish()
        self._gallery = Gallery()
        self._named: tuple[tuple[tuple[str, Pixel], ...], Pixel] | None = None
        self._epochs = 0
        self._best: int | None = None

    def compose(self) -> ComposeResult:
        """What is shown, the colours of the classes, the picture."""
        yield Line(id="caption")
        yield Static("", id="legend", markup=False)
        yield HalfBlocks(id="picture")

    def ask(self) -> None:
        """Ask for what is wished for, again: there may be more by now."""
        if not self._colours:
            self.query_one(HalfBlocks).tell(
                "Too few colours here to draw a picture (NO_COLOR is set, or there are 16).\n"
                "The pictures lie in the run's folder, under visualizations; Y copies its path."
            )
        elif self._wish.room:
            self.post_message(self.Wished(self._wish))

    def on_half_blocks_room(self, event: HalfBlocks.Room) -> None:
        """Draw for that room."""
        event.stop()
        self._wish = replace(self._wish, room=event.size)
        self.ask()

    def follow(self, classes: Sequence[str], drawn: int, best: int | None = None, colours: object = None) -> None:
        """Name the colours of the masks; look for pictures once more epochs were drawn.

        Args:
            classes: In the order of their numbers.
            drawn: How often pictures were written so far.
            best: The best epoch.
            colours: What the run says of its classes' colours.
        """
        if best != self._best:
            self._best = best
            self.query_one("#caption", Line).show(self._caption())
        self._name_colours(legend_colours(classes, colours))
        if drawn != self._epochs:
            self._epochs = drawn
            self.ask()

    def _name_colours(self, colours: Sequence[tuple[str, Pixel]]) -> None:
        ground = self.background_colors[1].rgb
        if not colours or not self._colours or (tuple(colours), ground) == self._named:
            return
        self._named = (tuple(colours), ground)
        parts: list[tuple[str, str]] = [("masks: ", "$foreground-muted")]
        for name, colour in colours[:_LEGEND]:
            # One that is hardly seen on this ground has an outline.
            left, right = ("▐", "▌ ") if contrast(colour, ground) < _SEEN else ("", " ")
            parts += [
                (left, "$text-muted"),
                ("██", hexadecimal(colour)),
                (right, "$text-muted"),
                (f"{clean(name)}  ", ""),
            ]
        parts += [("…  ", "")] if len(colours) > _LEGEND else []
        parts += [("██ ", "#ff3c3c"), ("student differs", "$foreground-muted")]
        self.query_one("#legend", Static).update(Content.assemble(*parts))

    def take(self, gallery: Gallery) -> None:
        """Show what was found."""
        self._gallery = gallery
        view = self.query_one(HalfBlocks)
        if gallery.epoch is None:
            view.tell(
                "No pictures yet: the best and the last epoch have some.\n"
                "`--set training.visualize_every=1` draws every epoch, -1 none."
            )
        elif not gallery.count:
            view.tell("This epoch has no pictures.")
        elif gallery.trouble:
            view.tell(gallery.trouble)
        else:
            view.show(gallery.drawn)
        self.query_one("#caption", Line).show(self._caption())

    def tell(self, trouble: str) -> None:
        """Show why there is no picture."""
        self.query_one(HalfBlocks).tell(trouble)

    def _caption(self) -> Sequence[Part]:
        gallery = self._gallery
        if gallery.epoch is None:
            return ()
        newest = " (newest)" if gallery.epoch == gallery.epochs[-1] else f" of {gallery.epochs[-1]}"
        part = self._wish.part if self._wish.part in gallery.parts else "all parts"
        return [
            Part(f"epoch {gallery.epoch}{newest}{', best' if gallery.epoch == self._best else ''}", bold=True),
            Part("  ↑↓", "accent"),
            Part(f"   picture {gallery.picture + 1} of {gallery.count}", bold=True),
            Part("  ←→", "accent"),
            Part(f"   {part}", bold=True),
            Part("  v", "accent"),
        ]

    def step_picture(self, by: int) -> None:
        """The next (1) or the former (-1) picture of the epoch."""
        if self._gallery.count:
            self._become(replace(self._wish, picture=(self._gallery.picture + by) % self._gallery.count))

    def step_epoch(self, by: int) -> None:
        """The next (1) or the former (-1) epoch that has pictures; after the newest, whatever becomes the newest."""
        epochs = self._gallery.epochs
        if self._gallery.epoch not in epochs:
            return
        at = min(len(epochs) - 1, max(0, epochs.index(self._gallery.epoch) + by))
        self._become(replace(self._wish, epoch=None if at == len(epochs) - 1 else epochs[at]))

    def step_part(self) -> None:
        """All parts of the picture, then one after the other by itself, as large as it goes."""
        parts = ("", *self._gallery.parts)
        at = parts.index(self._wish.part) if self._wish.part in parts else 0
        self._become(replace(self._wish, part=parts[(at + 1) % len(parts)]))

    def _become(self, wish: Wish) -> None:
        if wish != self._wish:
            self._wish = wish
            self.ask()
