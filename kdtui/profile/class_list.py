"""Class names with their values and colours in masks, from ``classes.txt`` or from the profile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdtui.errors import DataError
from kdtui.palette import COLOUR

FILE = "classes.txt"
MOST_CLASSES = 255
_VOID = re.compile(r"void|unlabell?ed|ignored?|unknown", re.IGNORECASE)
_LARGEST_VALUE = 2**31 - 1
_LONGEST_NAME = 200
HINT = (
    "one line per class, 'INDEX NAME' or 'INDEX NAME #RRGGBB' from 0 up, "
    "and 'ignore_index N NAME' for pixels that do not count"
)


class Classes(NamedTuple):
    """The classes of a folder of label images.

    Attributes:
        names: By position.
        values: The value of each class in the masks.
        ignored: The ignored value, or None.
        colours: ``#rrggbb`` of each class, empty where the file has none.
        ignored_colour: ``#rrggbb`` of ignored pixels, or empty.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignored: int | None
    colours: tuple[str, ...] = ()
    ignored_colour: str = ""


BINARY = Classes(("background", "foreground"), (0, 1), None, ("", ""))
"""The classes of binary masks without a class list."""


def split_colour(text: str) -> tuple[str, str]:
    """A class name and its colour, from ``NAME`` or ``NAME #rrggbb``; without colour an empty text."""
    words = text.split()
    colour = words.pop() if len(words) > 1 and COLOUR.fullmatch(words[-1]) else ""
    return " ".join(words), colour.lower()


def is_void(name: str) -> bool:
    """Whether a name is that of pixels that do not count."""
    return _VOID.fullmatch(name) is not None


def name_mistake(name: str) -> str | None:
    """What a class name must be, if it is not that; terminals would interpret other characters."""
    if name and name.isprintable() and len(name) <= _LONGEST_NAME:
        return None
    return f"printable text of at most {_LONGEST_NAME} characters"


def inline_classes(entries: Sequence[str]) -> Classes:
    """The classes that a profile lists as ``NAME`` or ``NAME #rrggbb``, numbered from 0."""
    pairs = [split_colour(entry) for entry in entries]
    return Classes(
        tuple(name for name, _ in pairs), tuple(range(len(pairs))), None, tuple(colour for _, colour in pairs)
    )


def parse_classes(text: str, path: Path) -> Classes:
    """Read ``INDEX NAME`` lines, each with an optional ``#rrggbb``, and at most one ``ignore_index N NAME``.

    Raises:
        DataError: A line cannot be read, or there are too few or too many classes.
    """
    classes: dict[int, tuple[str, str]] = {}
    ignored: int | None = None
    ignored_colour = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.lstrip().startswith("#"):
            continue
        place, shown = f"{path}:{number}", line if len(line) <= _LONGEST_NAME else line[:_LONGEST_NAME] + "…"
        ignore = words[0] == "ignore_index"
        index, rest = (words[1:2], words[2:]) if ignore else (words[:1], words[1:])
        label, colour = split_colour(" ".join(rest))
        if not index or not index[0].isdecimal() or not (label or ignore):
            raise DataError("a line of the class list cannot be read", where=place, found=shown, hint=HINT)
        # No more digits than the largest has: Python refuses to read thousands of them.
        value = int(index[0]) if len(index[0]) <= len(str(_LARGEST_VALUE)) else _LARGEST_VALUE + 1
        if value > _LARGEST_VALUE:
            raise DataError(
                "a class has too large a number", where=place, found=shown, allowed=f"0 to {_LARGEST_VALUE}", hint=HINT
            )
        allowed = name_mistake(label or "void")
        if allowed:
            raise DataError(
                "a class has a name that cannot be shown", where=place, found=repr(shown), allowed=allowed, hint=HINT
            )
        taken = (label in [name for name, _ in classes.values()]) if not ignore else ignored is not None
        if taken or value in classes or value == ignored:
            raise DataError("duplicate class index or name in classes.txt", where=place, found=shown, hint=HINT)
        if ignore:
            # A name is optional there, so that a single colour is one.
            ignored, ignored_colour = value, colour or (label if COLOUR.fullmatch(label) else "")
        else:
            classes[value] = label, colour
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise DataError(
            "the class list has no usable number of classes",
            where=path,
            found=len(classes),
            allowed=f"2 to {MOST_CLASSES}",
            hint=HINT,
        )
    values = tuple(sorted(classes))
    return Classes(
        tuple(classes[value][0] for value in values),
        values,
        ignored,
        tuple(classes[value][1] for value in values),
        ignored_colour,
    )
