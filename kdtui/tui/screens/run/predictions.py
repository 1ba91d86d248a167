"""The page of predictions: selection of epoch, image and panel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from kdtui.errors import KdtuiError, StoreError
from kdtui.palette import COLOUR, contrast, former_colours, hexadecimal, parse
from kdtui.store.files import reading
from kdtui.store.run import Run
from kdtui.text import clean
from kdtui.tui.screens.run.page import RunPage, RunView
from kdtui.tui.values import Part
from kdtui.tui.views.panels import class_bars
from kdtui.tui.widgets.half_blocks import Drawn, HalfBlocks, Pixel, Tile, draw
from kdtui.tui.widgets.line import Line

if TYPE_CHECKING:
    from PIL.Image import Image


PARTS = ("image", "truth", "teacher", "student", "disagreement")
"""Panels of an image from left to right; without a teacher its panel is left out."""
_MOST_PIXELS = 5 * 4096 * 4100
"""Number of pixels of the largest image written by the engine: five panels of the maximum size."""
_GAP = 2  # white columns between two panels, see kdtui.engine.evaluate
_EPOCH = re.compile(r"epoch_(\d+)")


@dataclass(frozen=True)
class PictureRequest:
    """The selection of the user.

    Attributes:
        epoch: From 1; None for the newest.
        picture: Number of the image, from 0; beyond the last it wraps around.
        part: One of :data:`PARTS`; empty for all.
        room: Available columns and rows.
    """

    epoch: int | None = None
    picture: int = 0
    part: str = ""
    room: Size = field(default_factory=Size)


@dataclass(frozen=True)
class Gallery:
    """The images of a run and the selected one.

    Attributes:
        epochs: Epochs with images, ascending.
        epoch: The displayed epoch; None if there is none.
        count: Number of images of that epoch.
        picture: Number of the displayed image, from 0.
        parts: Panels of that image.
        drawn: The drawn panels, for the requested size.
        trouble: Why the image cannot be displayed; empty if it can.
    """

    epochs: tuple[int, ...] = ()
    epoch: int | None = None
    count: int = 0
    picture: int = 0
    parts: tuple[str, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    trouble: str = ""


def read_gallery(run: Run, request: PictureRequest) -> Gallery:
    """Read and draw the requested image.

    Raises:
        StoreError: The folder of the images cannot be read. A damaged image is reported in ``trouble``.
    """
    epochs = _epochs(run)
    if not epochs:
        return Gallery()
    epoch = request.epoch if request.epoch in epochs else epochs[-1]
    try:
        files = sorted(run.visualization(epoch).glob("*.png"))
    except OSError as error:
        raise StoreError("The pictures cannot be listed", where=run.visualizations, found=error.strerror) from error
    if not files:
        return Gallery(epochs, epoch)
    number = request.picture % len(files)
    try:
        tiles = split(_opened(files[number]))
    except StoreError as error:
        return Gallery(epochs, epoch, len(files), number, trouble=error.message)
    parts = tuple(tile.label for tile in tiles)
    chosen = [tile for tile in tiles if tile.label == request.part] or tiles
    return Gallery(epochs, epoch, len(files), number, parts, tuple(draw(chosen, request.room)))


def _epochs(run: Run) -> tuple[int, ...]:
    try:
        names = [path.name for path in run.visualizations.iterdir()]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError("The pictures cannot be listed", where=run.visualizations, found=error.strerror) from error
    return tuple(sorted(int(match[1]) for name in names if (match := _EPOCH.fullmatch(name))))


def _opened(path: Path) -> Image:
    from PIL import Image

    try:
        # PNG only: the decoders of some formats run external programs.
        with reading(path) as file, Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, at most {_MOST_PIXELS:,} in all are read")
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for damage
        raise StoreError("The picture cannot be read", where=path, found=str(error)) from error


def split(image: Image) -> list[Tile]:
    """Split an image into its panels; an image that does not match the layout is one panel."""
    for names in (PARTS, tuple(name for name in PARTS if name != "teacher")):
        wide, rest = divmod(image.width + _GAP, len(names))
        wide -= _GAP
        if rest or wide < 1:
            continue
        edges = [number * (wide + _GAP) for number in range(len(names))]
        if all(_white(image, left - _GAP) for left in edges[1:]):
            return [
                Tile(name, image.crop((left, 0, left + wide, image.height)))
                for name, left in zip(names, edges, strict=True)
            ]
    return [Tile("picture", image)]


def _white(image: Image, left: int) -> bool:
    return image.crop((left, 0, left + _GAP, image.height)).getextrema() == ((255, 255),) * 3


def legend_colours(classes: Sequence[str], written: object) -> list[tuple[str, Pixel]]:
    """Colour of each class in the images of the run.

    Args:
        classes: In order of their indices.
        written: ``class_colours`` of :class:`kdtui.events.Started`; if missing or invalid, the colours of older
            versions are used.
    """
    said = written if isinstance(written, list) else []
    if len(said) != len(classes) or not all(isinstance(each, str) and COLOUR.fullmatch(each) for each in said):
        return list(zip(classes, former_colours(len(classes)), strict=True))
    return list(zip(classes, map(parse, said), strict=True))


_SEEN = 3.0
"""Minimum contrast of non-text: https://www.w3.org/TR/WCAG21/#non-text-contrast."""
_DIFFERS = "student differs"


def legend_pages(names: Sequence[str], room: int) -> list[range]:
    """The classes that the legend displays at once, as ranges of their indices; at least one.

    Args:
        names: Names of the classes.
        room: Available columns.
    """
    widths = [cell_len(name) + len("▐██▌   ") for name in names]
    room -= len("masks: ") + len("██ ") + len(_DIFFERS)
    if sum(widths) <= room:
        return [range(len(names))]
    room -= len(_more(len(names)))
    pages, begin, used = [], 0, 0
    for at, width in enumerate(widths):
        if used + width > room and at > begin:
            pages.append(range(begin, at))
            begin, used = at, 0
        used += width
    return [*pages, range(begin, len(names))]


def _more(count: int) -> str:
    return f"k {count} more  "


class Predictions(Vertical, RunPage):
    """Reads images in a thread and displays them."""

    HINT = "←→ picture   ↑↓ epoch   v one part, larger   Y copies the folder's path"
    ACTIONS = ("next_picture", "previous_picture", "next_epoch", "previous_epoch", "next_part", "next_classes")

    DEFAULT_CSS = """
    Predictions { padding: 0 1; }
    Predictions #legend { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__(id="predictions")
        self._run: Run | None = None
        self._requests = 0
        self._request = PictureRequest()
        self._gallery = Gallery()
        self._masks: tuple[tuple[str, Pixel], ...] = ()
        self._meaning = ""
        self._legend_page = 0
        self._named: object = None
        self._epochs = 0
        self._best: int | None = None

    def compose(self) -> ComposeResult:
        """Compose caption, legend and image."""
        yield Line(id="caption")
        yield Static("", id="legend", markup=False)
        yield HalfBlocks(id="picture")

    @property
    def _colours(self) -> bool:
        """Whether the terminal has enough colours for images."""
        return not self.app.no_color and self.app.console.color_system in ("256", "truecolor")

    def selected(self) -> None:
        """Request the selected image again, as there may be new ones."""
        if not self._colours:
            self.query_one(HalfBlocks).tell(
                "This terminal has too few colours for pictures (NO_COLOR is set, or it has 16).\n"
                "The pictures are in visualizations/ of the run's folder; Y copies its path."
            )
        elif self._request.room and self._run is not None:
            self._read(self._run, self._request)

    def _read(self, run: Run, request: PictureRequest) -> None:
        """Read and draw the image in a thread; the result of an outdated request is dropped."""
        self._requests += 1
        mine = self._requests

        def take(gallery: Gallery) -> None:
            if mine == self._requests and self.is_attached:
                self._take(gallery)

        def failed(error: KdtuiError) -> None:
            if mine == self._requests and self.is_attached:
                self.query_one(HalfBlocks).tell(error.message)

        self.cockpit.do(lambda: read_gallery(run, request), take, failed=failed, group="pictures")

    def on_half_blocks_room(self, event: HalfBlocks.Room) -> None:
        """Request an image of the new size."""
        event.stop()
        self._request = replace(self._request, room=event.size)
        self._name_colours()
        self.selected()

    def show(self, view: RunView) -> None:
        """Update the legend, and request the image again if there are new ones."""
        first, self._run = self._run is None, view.run
        history = view.history
        drawn = history.pictures if history is not None else 0
        val = history.last_val.scalars if history is not None and history.last_val else {}
        best_epoch = val.get("best_epoch")
        best = None if best_epoch is None else round(best_epoch)
        started = history.started if history is not None else None
        colours = started.student.get("class_colours") if started is not None else None
        classes = [name for name, _, _ in class_bars(view.row, history)]
        if best != self._best:
            self._best = best
            self.query_one("#caption", Line).show(self._caption())
        meaning = started.student.get("picture_legend") if started is not None else None
        self._meaning = clean(meaning) if isinstance(meaning, str) else ""
        named = () if self._meaning else legend_colours(classes, colours)
        self._masks = tuple((clean(name), colour) for name, colour in named)
        self._name_colours()
        if first or drawn != self._epochs:
            self._epochs = drawn
            self.selected()

    def _name_colours(self) -> None:
        """Display the classes of the selected page of the legend, or what colours mean if not classes."""
        ground, room = self.background_colors[1].rgb, self.query_one("#legend").size.width
        state = (self._masks, self._meaning, ground, room, self._legend_page)
        if not (self._masks or self._meaning) or not self._colours or state == self._named:
            return
        self._named = state
        pages = legend_pages([name for name, _ in self._masks], room)
        page = pages[self._legend_page % len(pages)]
        parts: list[tuple[str, str]] = [("masks: ", "$foreground-muted")]
        parts += [(f"{self._meaning}  ", "")] if self._meaning else []
        for name, colour in self._masks[page.start : page.stop]:
            # A colour with little contrast to the background gets an outline.
            left, right = ("▐", "▌ ") if contrast(colour, ground) < _SEEN else ("", " ")
            parts += [
                (left, "$text-muted"),
                ("██", hexadecimal(colour)),
                (right, "$text-muted"),
                (f"{name}  ", ""),
            ]
        if others := len(self._masks) - len(page):
            key, _, count = _more(others).partition(" ")
            parts += [(f"{key} ", "$text-accent"), (count, "$foreground-muted")]
        parts += [("██ ", "#ff3c3c"), (_DIFFERS, "$foreground-muted")]
        self.query_one("#legend", Static).update(Content.assemble(*parts))

    def _take(self, gallery: Gallery) -> None:
        """Display an image."""
        self._gallery = gallery
        view = self.query_one(HalfBlocks)
        if gallery.epoch is None:
            view.tell(
                "No pictures yet: they are drawn for the best and the last epoch.\n"
                "`--set training.visualize_every=1` draws them for every epoch, -1 for none."
            )
        elif not gallery.count:
            view.tell("This epoch has no pictures.")
        elif gallery.trouble:
            view.tell(gallery.trouble)
        else:
            view.show(gallery.drawn)
        self.query_one("#caption", Line).show(self._caption())

    def _caption(self) -> Sequence[Part]:
        gallery = self._gallery
        if gallery.epoch is None:
            return ()
        newest = " (newest)" if gallery.epoch == gallery.epochs[-1] else f" of {gallery.epochs[-1]}"
        part = self._request.part if self._request.part in gallery.parts else "all parts"
        return [
            Part(f"epoch {gallery.epoch}{newest}{', best' if gallery.epoch == self._best else ''}", bold=True),
            Part("  ↑↓", "accent"),
            Part(f"   picture {gallery.picture + 1} of {gallery.count}", bold=True),
            Part("  ←→", "accent"),
            Part(f"   {part}", bold=True),
            Part("  v", "accent"),
        ]

    def action_next_picture(self) -> None:
        """Display the next image of the epoch."""
        self._step_picture(1)

    def action_previous_picture(self) -> None:
        """Display the previous image of the epoch."""
        self._step_picture(-1)

    def action_next_epoch(self) -> None:
        """Display the next epoch with images."""
        self._step_epoch(1)

    def action_previous_epoch(self) -> None:
        """Display the previous epoch with images."""
        self._step_epoch(-1)

    def _step_picture(self, by: int) -> None:
        if self._gallery.count:
            self._become(replace(self._request, picture=(self._gallery.picture + by) % self._gallery.count))

    def _step_epoch(self, by: int) -> None:
        """Display the next (1) or previous (-1) epoch with images; after the newest, stay on the newest."""
        epochs = self._gallery.epochs
        if self._gallery.epoch not in epochs:
            return
        at = min(len(epochs) - 1, max(0, epochs.index(self._gallery.epoch) + by))
        self._become(replace(self._request, epoch=None if at == len(epochs) - 1 else epochs[at]))

    def action_next_part(self) -> None:
        """Display all panels of the image, or the next single one enlarged."""
        parts = ("", *self._gallery.parts)
        at = parts.index(self._request.part) if self._request.part in parts else 0
        self._become(replace(self._request, part=parts[(at + 1) % len(parts)]))

    def action_next_classes(self) -> None:
        """Display further classes in the legend."""
        pages = legend_pages([name for name, _ in self._masks], self.query_one("#legend").size.width)
        self._legend_page = (self._legend_page + 1) % len(pages)
        self._name_colours()

    def _become(self, request: PictureRequest) -> None:
        if request != self._request:
            self._request = request
            self.selected()
