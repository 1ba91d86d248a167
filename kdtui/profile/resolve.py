"""From a file to one plain table: ``extends`` followed, ``--set`` laid on top, and where every key came from."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtui.errors import ProfileError
from kdtui.profile.find import DEEPEST, SHIPPED, nearest, parse_tables, read_bounded
from kdtui.wording import clean

Key = tuple[str, ...]

# These describe the file they stand in, so a child does not take them over from its parent.
_NOT_INHERITED = ("name", "description", "tags")
_SHOWN = 120  # characters
_LONGEST_BITS = 256
# A table without its `kind` is of this one, and a child that names another replaces it.
DEFAULT_KINDS = {"data": "synthetic"}


@dataclass
class Resolved:
    """A table and the origin of every key in it.

    Attributes:
        table: Plain TOML values.
        origins: Key path to the file or ``--set`` it came from.
        mistakes: What was wrong before the values were even looked at.
        files: The file and its parents, nearest first.
        kinds_replace: Whether a table of another kind replaces the one below it.
    """

    table: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    kinds_replace: bool = True

    def origin(self, key: Sequence[str]) -> str:
        """Where ``key``, or the innermost table around it that was written somewhere, came from."""
        path = tuple(key)
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, str(self.files[0]) if self.files else "")

    def merge(self, child: dict[str, Any], origins: dict[Key, str]) -> None:
        """Lay ``child`` on top: tables key by key, arrays and values whole, a table of another kind whole."""
        self._merge(self.table, child, origins, ())

    def _merge(self, base: dict[str, Any], child: dict[str, Any], origins: dict[Key, str], path: Key) -> None:
        for key, value in child.items():
            here = (*path, key)
            below = base.get(key)
            if isinstance(below, dict) and isinstance(value, dict) and not self._replaces(key, below, value):
                self._merge(below, value, origins, here)
            else:
                self.origins = {k: o for k, o in self.origins.items() if k[: len(here)] != here}
                base[key] = _copy(value)
                self.origins |= {k: o for k, o in origins.items() if k[: len(here)] == here}
            if here in origins:
                self.origins.setdefault(here, origins[here])

    def _replaces(self, key: str, below: dict[str, Any], above: dict[str, Any]) -> bool:
        return self.kinds_replace and "kind" in above and above["kind"] != below.get("kind", DEFAULT_KINDS.get(key))


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value


def _mark(table: dict[str, Any], origin: str, path: Key = ()) -> dict[Key, str]:
    """``origin`` for every key of a table, nested ones included."""
    marks: dict[Key, str] = {}
    for key, value in table.items():
        marks[(*path, key)] = origin
        if isinstance(value, dict):
            marks |= _mark(value, origin, (*path, key))
    return marks


def shown(value: Any) -> str:
    """A value in one short line, whatever a file or the command line holds."""
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        return f"a whole number of {value.bit_length()} bits"  # Python itself writes no more than 4300 digits
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # such a number in a list, or a list in a list in a list …
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}… ({len(text)} characters)"


def shorter(text: str) -> str:
    """A key or an origin in one short line."""
    text = clean(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}… ({len(text)} characters)"


def unusable(value: Any, path: Key = ()) -> list[tuple[Key, str]]:
    """Keys whose value cannot be kept, and what is wrong with it: no file or path can hold it."""
    if isinstance(value, dict):
        keys = [(path, f"{why} in a key") for key in value if (why := _why_not(key))]
        return keys + [line for key, below in value.items() for line in unusable(below, (*path, key))]
    if path[-1:] == ("kind",) and not isinstance(value, str):  # pydantic would write the number into its message
        return [(path, shown(value))]
    items = value if isinstance(value, list) else [value]
    return [(path, why) for why in dict.fromkeys(_why_not(item) for item in items) if why]


def _why_not(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    if "\0" in value:
        return "a NUL, which ends a path"
    return "bytes that are not UTF-8" if any("\ud800" <= letter <= "\udfff" for letter in value) else ""


def read_text(file: Path) -> str:
    """The text of a profile.

    Raises:
        ProfileError: It cannot be read, is too large, or is not UTF-8.
    """
    try:
        return read_bounded(file)
    except UnicodeDecodeError as error:
        raise ProfileError(f"{file} is not UTF-8 text", where=file, hint="save it as UTF-8") from error
    except ValueError as error:
        raise ProfileError(f"{file} cannot be a profile: {error}", where=file) from error
    except OSError as error:
        raise ProfileError(f"{file} cannot be read: {error.strerror}", where=file) from error


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        ProfileError: It cannot be read or is no TOML; file and line are named.
    """
    text = read_text(file)
    try:
        return parse_tables(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(
            f"{file} is not TOML: {error}", where=file, hint="text stands in quotes, tables start with [name]"
        ) from error
    except ValueError as error:
        raise ProfileError(f"{file} cannot be a profile: {error}", where=file) from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is longer than any file's
        return False


def _parent(file: Path, parent: str, chain: list[Path]) -> Path:
    """The file that ``extends`` means: beside the file first, then a shipped one; never the file itself."""
    stem = parent.removesuffix(".toml")
    candidates = [file.parent / f"{stem}.toml", SHIPPED / f"{stem}.toml"]
    found = [candidate for candidate in candidates if _is_file(candidate)]
    # A local profile may refine the shipped one of its own name.
    others = [candidate for candidate in found if candidate.resolve() != file.resolve()]
    if not found:
        beside = [path.stem for path in file.parent.glob("*.toml") if path != file]
        offered = nearest(stem, {*beside, *(path.stem for path in SHIPPED.glob("*.toml"))})
        raise ProfileError(
            f"{file} extends '{parent}', which is neither beside it nor shipped"
            + ("" if not offered else f"; did you mean {' or '.join(offered)}?"),
            where=f"{file}: extends",
            hint="kdtui profiles lists them all",
        )
    chosen = (others or found)[0]
    if chosen.resolve() in [path.resolve() for path in chain]:
        ring = " -> ".join(path.stem for path in [*chain, chosen])
        raise ProfileError(f"profiles extend each other in a circle: {ring}", where=f"{file}: extends")
    return chosen


def resolve(file: Path, sets: Sequence[str] = ()) -> Resolved:
    """Follow ``extends`` from ``file`` and lay ``sets`` on top.

    Raises:
        ProfileError: A file cannot be read, a parent is missing, or the parents form a circle.
    """
    chain, layers = [file], [read_toml(file)]
    resolved = Resolved()
    while "extends" in layers[-1]:
        parent = layers[-1].pop("extends")
        if not isinstance(parent, str):
            found = shown(parent)
            resolved.mistakes.append(f"extends ({chain[-1]}): found {found}; allowed: one profile's name in quotes")
            break
        chain.append(_parent(chain[-1], parent, chain))
        layers.append(read_toml(chain[-1]))
    resolved.files = chain
    for path, layer in reversed(list(zip(chain, layers, strict=True))):
        for key in _NOT_INHERITED:
            resolved.table.pop(key, None)
            resolved.origins.pop((key,), None)
        resolved.merge(layer, _mark(layer, str(path)))
    if "name" not in resolved.table:
        resolved.table["name"] = file.stem
        resolved.origins[("name",)] = f"the file's name, {file.name}"
    table, origins, mistakes = read_sets(sets)
    resolved.merge(table, origins)
    resolved.mistakes += mistakes
    for key, kind in DEFAULT_KINDS.items():
        if isinstance(resolved.table.get(key), dict):
            resolved.table[key].setdefault("kind", kind)
    return resolved


def read_sets(sets: Sequence[str]) -> tuple[dict[str, Any], dict[Key, str], list[str]]:
    """``a.b=c`` texts as one table, their origins and what could not be read.

    They are put together before they are laid on the file, so that ``data.kind`` may stand before or after the keys
    of the new kind.
    """
    together, mistakes = Resolved(kinds_replace=False), []
    for text in sets:
        key, equals, value = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path) or len(path) > DEEPEST:
            mistakes.append(f"--set {shown(clean(text))}: allowed: KEY=VALUE, as in training.epochs=5")
            continue
        layer: dict[str, Any] = {path[-1]: read_value(value)}
        for part in reversed(path[:-1]):
            layer = {part: layer}
        together.merge(layer, _mark(layer, f"--set {shorter(text)}"))
    return together.table, together.origins, mistakes


def read_value(text: str) -> Any:
    """A TOML value where it is one, else the text itself: ``5`` is a number, ``b0`` and ``"5"`` are text."""
    try:
        table = parse_tables(f"value = {text.strip()}")
    except ValueError:
        return text.strip()
    return table["value"] if set(table) == {"value"} else text.strip()
