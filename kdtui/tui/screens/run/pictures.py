"""Pictures of a run's epochs: which there are, and how one falls into its parts. Used by a thread: it needs Pillow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from textual.geometry import Size

from kdtui.errors import StoreError
from kdtui.palette import COLOUR, former_colours, parse
from kdtui.store.files import reading
from kdtui.store.run import Run
from kdtui.tui.widgets.half_blocks import Drawn, Pixel, Tile, draw

if TYPE_CHECKING:
    from PIL.Image import Image

PARTS = ("image", "truth", "teacher", "student", "disagreement")
"""What a picture shows from left to right; without a teacher its part is left out."""
_MOST_PIXELS = 5 * 4096 * 4100
"""Pixels of the largest picture that the engine writes: five parts of the largest images."""
_GAP = 2  # white columns between two parts, as kdtui.engine.evaluate writes them
_EPOCH = re.compile(r"epoch_(\d+)")


@dataclass(frozen=True)
class Wish:
    """What a person wants to see.

    Attributes:
        epoch: 1-based; None for the newest.
        picture: Number of the picture from 0 on; beyond the last one it starts again.
        part: One of :data:`PARTS`; empty for all of them.
        room: Columns and rows to draw for.
    """

    epoch: int | None = None
    picture: int = 0
    part: str = ""
    room: Size = field(default_factory=Size)


@dataclass(frozen=True)
class Gallery:
    """What there is to see.

    Attributes:
        epochs: With pictures, ascending.
        epoch: The one that is shown; None where there is none.
        count: Pictures of that epoch.
        picture: Which of them is shown, from 0 on.
        parts: Of that picture.
        drawn: For the room that was wished for.
        trouble: Why this picture is not drawn; empty when it is.
    """

    epochs: tuple[int, ...] = ()
    epoch: int | None = None
    count: int = 0
    picture: int = 0
    parts: tuple[str, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    trouble: str = ""


def look(run: Run, wish: Wish) -> Gallery:
    """What the run has of what is wished for.

    Raises:
        StoreError: The folder of the pictures cannot be read. A broken picture is told in its own place.
    """
    epochs = _epochs(run)
    if not epochs:
        return Gallery()
    epoch = wish.epoch if wish.epoch in epochs else epochs[-1]
    try:
        files = sorted(run.visualization(epoch).glob("*.png"))
    except OSError as error:
        raise StoreError("The pictures cannot be listed", where=run.visualizations, found=error.strerror) from error
    if not files:
        return Gallery(epochs, epoch)
    number = wish.picture % len(files)
    try:
        tiles = split(_opened(files[number]))
    except StoreError as error:
        return Gallery(epochs, epoch, len(files), number, trouble=error.message)
    parts = tuple(tile.label for tile in tiles)
    chosen = [tile for tile in tiles if tile.label == wish.part] or tiles
    return Gallery(epochs, epoch, len(files), number, parts, tuple(draw(chosen, wish.room)))


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
        # No other format: the decoders of some start programs.
        with reading(path) as file, Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, at most {_MOST_PIXELS:,} in all are read")
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's ways to say "broken"
        raise StoreError("The picture cannot be read", where=path, found=str(error)) from error


def split(image: Image) -> list[Tile]:
    """The parts of a picture; the picture as a whole where it does not fall into them."""
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
    """The colour of each class in the run's pictures.

    Args:
        classes: In the order of their numbers.
        written: What the run says of them, as ``class_colours`` of :class:`kdtui.events.Started`; a run that says
            nothing, or something else, is taken for one that was drawn before runs did.
    """
    said = written if isinstance(written, list) else []
    if len(said) != len(classes) or not all(isinstance(each, str) and COLOUR.fullmatch(each) for each in said):
        return list(zip(classes, former_colours(len(classes)), strict=True))
    return list(zip(classes, map(parse, said), strict=True))
