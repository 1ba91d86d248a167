"""Costs of a student from the catalog: without torch and without a process, so fast enough for every cursor move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdtui import catalog
from kdtui.catalog import NetworkCost
from kdtui.errors import UsageError
from kdtui.text import giga

if TYPE_CHECKING:
    from kdtui.profile import Profile

Widths = int | Sequence[int] | None


@dataclass(frozen=True)
class Shape:
    """What the cost of a student depends on, apart from its encoder.

    Attributes:
        out_channels: Output channels of the head.
        height: Rows of the image, in pixels.
        width: Columns of the image.
        decoder_channels: Width of each decoder stage; None for the default.
    """

    architecture: str
    encoder_depth: int
    out_channels: int
    height: int
    width: int
    decoder_channels: Widths = None


def shape_of(profile: Profile) -> Shape | None:
    """The shape of a profile's student; None if its number of classes cannot be read."""
    from kdtui.launch.plan import out_channels

    channels, network, data = out_channels(profile), profile.student.catalog_arguments(), profile.data
    if channels is None or network is None:
        return None
    return Shape(
        network["architecture"],
        network["encoder_depth"],
        channels,
        data.height,
        data.width,
        network["decoder_channels"],
    )


def cost_of(encoder: str, shape: Shape) -> NetworkCost | None:
    """The cost of a student; None if it is not in the catalog.

    Raises:
        UsageError: Unknown encoder, or decoder widths that do not match.
    """
    return catalog.cost(
        encoder,
        architecture=shape.architecture,
        decoder_channels=shape.decoder_channels,
        out_channels=shape.out_channels,
        encoder_depth=shape.encoder_depth,
        height=shape.height,
        width=shape.width,
    )


def listed_cost(encoder: str, shape: Shape | None) -> NetworkCost | None:
    """The cost for a row of a list; None on an error, which is displayed as a dash."""
    if shape is None:
        return None
    try:
        return cost_of(encoder, shape)
    except UsageError:  # reported at the field that caused it
        return None


def found(text: str) -> list[str]:
    """Encoders whose names contain every word of a text, smallest first; ``*`` matches any characters."""
    words = text.lower().split()
    names = [encoder.name for encoder in catalog.encoders()]
    return [name for name in names if all(_holds(name.lower(), word) for word in words)]


def _holds(name: str, word: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(name, f"*{word}*") if "*" in word else word in name


def work(macs: int | None) -> str:
    """Multiply-accumulates in billions, or millions if below 0.1 billion; a dash if unknown."""
    if macs is not None and macs < 100_000_000:
        return f"{macs / 1e6:.1f} M"
    return giga(macs)


def smaller(teacher: int | None, student: int | None) -> float | None:
    """Parameters of the teacher divided by those of the student; None if one is unknown."""
    return teacher / student if teacher and student else None
