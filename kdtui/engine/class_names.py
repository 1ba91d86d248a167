"""Class names: find them in checkpoint files, and match those of two sources."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdtui.text import clean

# Common keys of class names in checkpoint files, and the tables in which they are searched.
_KEYS = ("classes", "class_names", "CLASSES", "names", "label_names", "id2label")
_TABLES = ("meta", "config", "hyper_parameters", "hparams", "args", "dataset_meta")
_MOST_CLASSES = 4096
_MOST_CHARACTERS = 1024
_SHOWN = 20  # maximum number of names in a message
_SHOWN_CHARACTERS = 60
# Names that libraries write by default.
_PLACEHOLDER = re.compile(r"(class|label)?[ _-]?\d+", re.IGNORECASE)


def named_classes(content: Mapping[Any, Any], *, levels: int = 2) -> Iterator[tuple[str, ...]]:
    """All lists of class names in a checkpoint, in the order of preference.

    Args:
        content: The file's dict.
        levels: Depth to which nested tables are searched.
    """
    for key in _KEYS:
        names = _as_names(content.get(key))
        if names is not None:
            yield names
    for key in _TABLES if levels else ():
        inner = content.get(key)
        table = vars(inner) if isinstance(inner, argparse.Namespace) else inner
        if isinstance(table, Mapping):
            yield from named_classes(table, levels=levels - 1)


def _as_names(value: Any) -> tuple[str, ...] | None:
    """A list of names, or a table from 0, 1, … to names; None for anything else."""
    if isinstance(value, Mapping):
        numbered = {str(key): name for key, name in list(value.items())[: _MOST_CLASSES + 1]}
        value = [numbered.get(str(number)) for number in range(len(numbered))]
    if not isinstance(value, list | tuple) or not 1 < len(value) <= _MOST_CLASSES:
        return None
    names = [name for name in value if isinstance(name, str) and 0 < len(name.strip()) <= _MOST_CHARACTERS]
    if len(names) != len(value) or all(_PLACEHOLDER.fullmatch(name.strip()) for name in names):
        return None
    return tuple(names)


def class_order(theirs: Sequence[str], ours: Sequence[str]) -> list[int] | None:
    """The index in ``theirs`` of each class in ``ours``; None if the classes do not correspond one to one.

    Case, spaces, dashes and underscores are ignored, unless two classes differ only in them.
    """
    if set(theirs) != set(ours):
        theirs, ours = [_plain(name) for name in theirs], [_plain(name) for name in ours]
    if set(theirs) != set(ours) or len(set(theirs)) != len(theirs) or len(theirs) != len(ours):
        return None
    places = {name: place for place, name in enumerate(theirs)}
    return [places[name] for name in ours]


def class_index(name: str, names: Sequence[str]) -> int | None:
    """The index of a class; None if no class, or more than one, has this name.

    Case, spaces, dashes and underscores are ignored, unless a class has exactly this name.
    """
    exact = [place for place, other in enumerate(names) if other == name]
    alike = exact or [place for place, other in enumerate(names) if _plain(other) == _plain(name)]
    return alike[0] if len(alike) == 1 else None


def listed(names: Sequence[object], *, separator: str = ", ", most: int = _SHOWN) -> str:
    """Format names for a message: the first few, each truncated.

    Args:
        names: Names of classes.
        separator: Text between two names.
        most: Maximum number of displayed names.
    """
    shown = separator.join(_short(clean(name)) for name in names[:most])
    return shown + (f"{separator}… ({len(names)} names)" if len(names) > most else "")


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[: _SHOWN_CHARACTERS - 1]}…"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()
