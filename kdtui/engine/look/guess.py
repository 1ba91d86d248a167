"""One way to read a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Guess:
    """One way to read a folder.

    Attributes:
        keys: Keys of ``[data]`` without the root.
        counts: Pairs of each split.
        ground: What it rests on, one sentence for layout, labels and hold-out.
        known: The shipped profile that it is.
        names: Class names.
        named: Whether the names are from a file or profile.
        size: Median width and height of the images.
        channels: Channels of the images.
    """

    keys: dict[str, Any]
    counts: dict[str, int]
    ground: dict[str, str] = field(default_factory=dict)
    known: str = ""
    names: tuple[str, ...] = ()
    named: bool = False
    size: tuple[int, int] = (0, 0)
    channels: int = 3
