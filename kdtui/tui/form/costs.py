"""What a student would cost, while a cursor moves: the catalog, without torch and without a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdtui import catalog
from kdtui.catalog import Cost
from kdtui.errors import UsageError
from kdtui.text import giga

if TYPE_CHECKING:
    from kdtui.profile import Profile

Widths = int | Sequence[int] | None


@dataclass(frozen=True)
class Shape:
    """What a student's cost depends on beside its encoder.

    Attributes:
        out_channels: Channels of its head.
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
    """The shape of a profile's student; None where the number of its classes cannot be read."""
    from kdtui.launch.plan import out_channels

    channels = out_channels(profile)
    if channels is None:
        return None
    student, data = profile.student, profile.data
    return Shape(
        student.architecture, student.encoder_depth, channels, data.height, data.width, student.decoder_channels
    )


def cost_of(encoder: str, shape: Shape) -> Cost | None:
    """What a student costs; None where the catalog cannot tell.

    Raises:
        UsageError: No such encoder, or widths that do not fit.
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


def listed_cost(encoder: str, shape: Shape | None) -> Cost | None:
    """The same for a row of a list, where a dash says all that there is to say."""
    if shape is None:
        return None
    try:
        return cost_of(encoder, shape)
    except UsageError:  # its mistake stands under the field that made it
        return None


def found(text: str) -> list[str]:
    """Encoders whose names hold every word of a text, smallest first; ``*`` stands for anything."""
    words = text.lower().split()
    names = [encoder.name for encoder in catalog.encoders()]
    return [name for name in names if all(_holds(name.lower(), word) for word in words)]


def _holds(name: str, word: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(name, f"*{word}*") if "*" in word else word in name


def work(macs: int | None) -> str:
    """Multiply-accumulates in billions, small ones in millions, or a dash."""
    if macs is not None and macs < 100_000_000:
        return f"{macs / 1e6:.1f} M"
    return giga(macs)


def smaller(teacher: int | None, student: int | None) -> float | None:
    """Parameters of the teacher over parameters of the student; None when one is unknown."""
    return teacher / student if teacher and student else None
