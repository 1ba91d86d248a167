"""Class names from the files in which data sets list them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from kdtui.errors import DataError
from kdtui.palette import COLOUR, hexadecimal
from kdtui.profile.class_list import FILE, Classes, is_void, name_mistake, parse_classes
from kdtui.store.files import read_file

_NAMES = re.compile(
    r"(class(es)?|labels?|names?|categor(y|ies)|colou?rs?)([_\- ]?(dict|names?|list|map|colou?rs?|classes))?"
    r"\.(txt|csv|json|names)|label_?map\.txt|.*\.names",
    re.IGNORECASE,
)
_MOST_BYTES = 2**20
_MOST = 255


class NamedClass(NamedTuple):
    """A class of a list: its name, its number in masks (None if the list has none) and its ``#rrggbb``, or empty."""

    name: str
    value: int | None
    colour: str


class ClassFile(NamedTuple):
    """A list of classes, and the file."""

    path: Path
    classes: tuple[NamedClass, ...]
    own_format: bool
    """Whether it is a ``classes.txt`` of kdtui directly in the folder."""
    ignored: int | None = None
    """The value of pixels that do not count, as far as the list says it."""
    void: tuple[NamedClass, ...] = ()
    """Entries for pixels that do not count, by their names; ``classes`` does not have them."""


def class_file(root: Path) -> ClassFile | None:
    """The first list of classes in a folder or its direct sub-folders; None without one."""
    try:
        places = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))]
        files = [file for place in places for file in sorted(place.iterdir()) if _NAMES.fullmatch(file.name)]
    except OSError:
        return None
    for file in sorted(files, key=lambda path: (path.parent != root, path.name != FILE)):
        try:
            text = read_file(file, most=_MOST_BYTES).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
        is_own = file.name == FILE and file.parent == root
        # The same format under another name is known by its ignored value, which is no class.
        listed = _listed(text, file) if is_own or "ignore_index" in text else None
        classes = (listed and _own(listed)) or _of_json(text) or _of_lines(text)
        usable = 2 <= len(classes) <= _MOST and not any(name_mistake(entry.name) for entry in classes)
        if usable and len({entry.name for entry in classes}) == len(classes):
            classes, void = _without_void(classes)
            own_format = is_own and listed is not None and not void
            return ClassFile(file, tuple(classes), own_format, None if listed is None else listed.ignored, void)
    return None


def _without_void(classes: list[NamedClass]) -> tuple[list[NamedClass], tuple[NamedClass, ...]]:
    """The classes, and the entries whose names say that their pixels do not count; none if under two classes remain."""
    numbered = [
        entry if entry.value is not None else entry._replace(value=number) for number, entry in enumerate(classes)
    ]
    void = tuple(entry for entry in numbered if is_void(entry.name))
    rest = [entry for entry in numbered if entry not in void]
    taken = {entry.value for entry in rest} | {entry.colour for entry in rest if entry.colour}
    unique = not any(entry.value in taken or entry.colour in taken for entry in void)
    return (rest, void) if void and unique and len(rest) >= 2 else (classes, ())


def _listed(text: str, file: Path) -> Classes | None:
    try:
        return parse_classes(text, file)
    except DataError:
        return None


def _own(listed: Classes) -> list[NamedClass]:
    return [NamedClass(*entry) for entry in zip(listed.names, listed.values, listed.colours, strict=True)]


def _of_json(text: str) -> list[NamedClass] | None:
    """A list of names, or an object of names by number or of numbers by name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [NamedClass(name, number, "") for number, name in enumerate(content)]
    if isinstance(content, dict):
        pairs = [(value, key) if isinstance(value, int) else (key, value) for key, value in content.items()]
        if all(str(number).isdecimal() and isinstance(name, str) for number, name in pairs):
            return sorted(
                (NamedClass(name, int(number), "") for number, name in pairs), key=lambda entry: entry[1] or 0
            )
    return None


def _of_lines(text: str) -> list[NamedClass]:
    """One class a line: a name, alone or with a number or a colour before or after it, such as ``car,64,0,128``."""
    rows = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if (
        rows
        and {*re.split(r"[,;\s]+", rows[0].lower())} & {"name", "r", "red", "class"}
        and not re.search(r"\d", rows[0])
    ):
        rows = rows[1:]
    classes = []
    for row in rows:
        words = [word for word in re.split(r"[\s,:;]+", row) if word]
        numbers = [int(word) for word in words if word.isdecimal()]
        colour = next((word.lower() for word in words if COLOUR.fullmatch(word)), "")
        if len(numbers) >= 3 and max(numbers[-3:]) <= 255:
            colour, numbers = hexadecimal((numbers[-3], numbers[-2], numbers[-1])), numbers[:-3]
        elif not words[0].isdecimal() and not re.search(r"[,:;\t]", row):
            numbers = []  # a name that ends in a number
        name = " ".join(
            word for word in words if not (word.isdecimal() and (numbers or colour)) and not COLOUR.fullmatch(word)
        )
        classes.append(NamedClass(name.strip("\"'"), numbers[0] if numbers else None, colour))
    return [entry._replace(name=entry.name or f"class {number}") for number, entry in enumerate(classes)]
