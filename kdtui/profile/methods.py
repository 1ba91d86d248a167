"""Methods of distillation: lists of terms in files, laid over any profile by ``--method NAME``.

A method is a TOML file with a ``description`` and ``[[distillation.terms]]``: shipped, or in ``./methods`` or
``./profiles/methods``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kdtui.errors import UsageError
from kdtui.profile.find import SHIPPED, folders, nearest, parse_tables, read_bounded
from kdtui.profile.settings import toml


@dataclass(frozen=True)
class Method:
    """A method in the list.

    Attributes:
        name: The file's stem, by which it is selected.
        path: The file.
        shipped: Whether it is part of the package.
        description: When it helps, in one line.
        terms: Tables of its distillation terms; empty if the file cannot be read.
    """

    name: str
    path: Path
    shipped: bool
    description: str
    terms: tuple[dict[str, Any], ...]

    @property
    def kinds(self) -> list[str]:
        """Kinds of its terms."""
        return [str(term.get("kind")) for term in self.terms]

    def sets(self) -> list[str]:
        """The ``--set`` texts that lay it over a profile; they enable distillation, which then needs a teacher."""
        return ["distillation.enabled=true", f"distillation.terms={toml(list(self.terms))}"]


def method_names(directory: Path | None = None) -> list[str]:
    """Names of all methods, sorted."""
    return sorted(_files(directory))


def methods(directory: Path | None = None) -> list[Method]:
    """All methods, sorted by name; a file hides those of the same name in folders that are searched later."""
    found = []
    for _, path in sorted(_files(directory).items()):
        try:
            found.append(_read(path))
        except UsageError as error:
            found.append(Method(path.stem, path, path.is_relative_to(SHIPPED), f"({error.what})", ()))
    return found


def find_method(name: str, directory: Path | None = None) -> Method:
    """The method of a name.

    Raises:
        UsageError: There is none, and the error lists all; or its file is not a method.
    """
    files = _files(directory)
    if name not in files:
        close = nearest(name, files)
        raise UsageError(
            "no distillation method of this name",
            found=name,
            allowed=", ".join(sorted(files)),
            hint=f"did you mean {' or '.join(close)}?" if close else "`kdtui methods` says when each of them helps",
        )
    return _read(files[name])


def _files(directory: Path | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders(directory):
        for path in sorted((folder / "methods").glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def _read(path: Path) -> Method:
    return _shipped(path) if path.is_relative_to(SHIPPED) else _method(path)


@cache  # the form lists all methods for each change of its draft
def _shipped(path: Path) -> Method:
    return _method(path)


def _method(path: Path) -> Method:
    try:
        table = parse_tables(read_bounded(path))
    except (OSError, ValueError) as error:
        raise UsageError("the file of a method cannot be read", where=path, found=str(error)) from error
    keys = {**{key: table[key] for key in table if key != "distillation"}, **_within(table, "distillation")}
    description, terms = keys.pop("description", ""), keys.pop("distillation.terms", None)
    wrong = [*keys, *([] if isinstance(description, str) else ["description"])]
    if wrong or not _is_list_of_tables(terms):
        raise UsageError(
            "not a method",
            where=path,
            found=", ".join(wrong) or "no list of terms",
            allowed="description and [[distillation.terms]]",
            hint="`kdtui methods cwd` prints an example",
        )
    return Method(path.stem, path, path.is_relative_to(SHIPPED), description, tuple(terms))


def _within(table: dict[str, Any], name: str) -> dict[str, Any]:
    """The values of a table with their keys; the table itself if it is none."""
    if name not in table:
        return {}
    inner = table[name]
    return {f"{name}.{key}": value for key, value in inner.items()} if isinstance(inner, dict) else {name: inner}


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
