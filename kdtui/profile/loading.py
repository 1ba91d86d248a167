"""From files to a profile: ``extends`` followed, ``--set`` laid on top, mistakes worded for the author."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from kdtui import plugins
from kdtui.errors import ProfileError
from kdtui.profile.base import with_paths
from kdtui.profile.find import DEEPEST, SHIPPED, expanded, locate, nearest, parse_tables, read_bounded
from kdtui.profile.launch_tables import DEFAULT as DEFAULT_LAUNCH
from kdtui.profile.launch_tables import target_name
from kdtui.profile.tables import Profile
from kdtui.text import clean

Key = tuple[str, ...]

# These describe the file they stand in, so a child does not take them over from its parent.
_NOT_INHERITED = ("name", "description", "tags")
_SHOWN = 120  # characters
_LONGEST_BITS = 256
# A table without its `kind` is of this one, and a child that names another replaces it.
DEFAULT_KINDS = {"data": "synthetic", "launch": target_name(DEFAULT_LAUNCH)}
_TAGS = {"launch": "target"}  # what the key is called elsewhere
# A file that gives one of these replaces what the files below it say in the other way.
_OTHER_WAY: dict[Key, tuple[str, ...]] = {("distillation", "terms"): ("logits", "bg_fg", "target_nontarget")}


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
                for other in _OTHER_WAY.get(here, ()) if self.kinds_replace else ():
                    if other not in child:
                        base.pop(other, None)
                self.origins |= {k: o for k, o in origins.items() if k[: len(here)] == here}
            if here in origins:
                self.origins.setdefault(here, origins[here])

    def _replaces(self, key: str, below: dict[str, Any], above: dict[str, Any]) -> bool:
        tag = _TAGS.get(key, "kind")
        return self.kinds_replace and tag in above and above[tag] != below.get(tag, DEFAULT_KINDS.get(key))


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


def unusable(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], str]]:
    """Keys whose value cannot be kept, and what is wrong with it: no file or path can hold it."""
    if isinstance(value, dict):
        keys = [(path, f"{why} in a key") for key in value if (why := _why_not(key))]
        return keys + [line for key, below in value.items() for line in unusable(below, (*path, key))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [line for at, item in enumerate(value) for line in unusable(item, (*path, at))]
    if path and path[-1] in ("kind", "target") and not isinstance(value, str):  # pydantic would write the number
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
            resolved.table[key].setdefault(_TAGS.get(key, "kind"), kind)
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


_WORDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}
_PATTERNS = {
    "name": "letters, digits and . _ + -, the first a letter or digit, 80 at most",
    "tags": "letters, digits and . _ : + = -, the first a letter or digit, 40 at most",
    "terms": "letters, digits, _ and -, the first a letter, 40 at most",
}


def mistakes(error: ValidationError, resolved: Resolved) -> list[str]:
    """One line per key, in the order of the file: key, origin, what was found, what is allowed, nearest spelling."""
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        path, model, field = _follow(detail["loc"])
        if detail["type"].startswith("union_tag"):
            path = [*path, detail["ctx"]["discriminator"].strip("'")]
        key = _spell(path)
        # The branches of a union each complain about the same key; once is enough.
        lines.setdefault(
            key, f"{key} ({shorter(resolved.origin([str(p) for p in path]))}): {_say(detail, path, model, field)}"
        )
    return list(lines.values())


def _say(detail: ErrorDetails, path: list[str | int], model: type[BaseModel], field: FieldInfo | None) -> str:
    kind, found = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown(str(path[-1]), model, found)
    if kind == "missing":
        return f"missing; allowed: {_allowed(field)}"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = [] if field is None else [tag for table in _models(field.annotation) if (tag := _tag(table))]
        value = found.get(path[-1]) if isinstance(found, dict) else found
        if value is None:
            return f"missing; allowed: {', '.join(tags)}"
        return f"found {shown(value)}; allowed: {', '.join(tags)}" + (_broken(value) or _did_you_mean(value, tags))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        spelled = "{KEY = VALUE, …}" if isinstance(path[-1], int) else f"[{_spell(path)}]"
        return f"found {shown(found)}; allowed: a table, {spelled}"
    if kind == "string_pattern_mismatch":
        words = next((_PATTERNS[part] for part in path if isinstance(part, str) and part in _PATTERNS), detail["msg"])
        return f"found {shown(found)}; allowed: {words}"
    spelled = _did_you_mean(found, _choices(field.annotation)) if field is not None else ""
    return f"found {shown(found)}; allowed: {_allowed(field) or detail['msg']}{spelled}"


def _unknown(key: str, model: type[BaseModel], found: Any) -> str:
    """A key that is not in the table: spelled wrongly, or at home in another table."""
    here = list(model.model_fields)
    close = nearest(key, here)
    if close:
        return f"unknown key, found {shown(found)}; did you mean {close[0]}?"
    homes = {name: f"{table}.{name}" for table, below in _tables(Profile) for name in below.model_fields}
    elsewhere = nearest(key, homes)
    if elsewhere and model is Profile:
        return f"unknown key, found {shown(found)}; did you mean {homes[elsewhere[0]]}?"
    return f"unknown key, found {shown(found)}; allowed: {', '.join(here)}"


def _broken(name: Any) -> str:
    """Why an installed extension of this name cannot be used; empty where there is none."""
    return "".join(
        f"; the extension {entry.name} of {entry.package} cannot be used: {entry.reason}"
        for entry in plugins.broken()
        if entry.name == name
    )


def _did_you_mean(found: Any, choices: list[str]) -> str:
    close = nearest(found, choices) if isinstance(found, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def _spell(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every table inside an annotation: itself, the members of a union, or the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated, tuple):
        for argument in get_args(annotation):
            yield from _models(argument)


def _tables(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, entry in model.model_fields.items():
        for below in _models(entry.annotation):
            yield name, below


def _tag(model: type[BaseModel]) -> str | None:
    """What the discriminator of a table says, which is called ``kind`` or ``target``."""
    field = model.model_fields.get("kind") or model.model_fields.get("target")
    return None if field is None else str(get_args(field.annotation)[0])


def _follow(loc: tuple[str | int, ...]) -> tuple[list[str | int], type[BaseModel], FieldInfo | None]:
    """The key as written, the table it is in and its field, from pydantic's location.

    pydantic inserts the tag of a discriminated union and the branch of a plain one; neither stands in the file.
    """
    path: list[str | int] = []
    model: type[BaseModel] = Profile
    field: FieldInfo | None = None
    below: list[type[BaseModel]] = [Profile]
    for part in loc:
        tagged = [candidate for candidate in below if _tag(candidate) == part]
        if len(below) > 1 and tagged:
            below = tagged
            continue
        if below and isinstance(part, int):
            path.append(part)  # in a list of tables
        elif below:
            model = below[0]
            path.append(part)
            field = model.model_fields.get(str(part))
            below = [] if field is None else list(_models(field.annotation))
        elif isinstance(part, int) and field is not None and get_origin(field.annotation) is tuple:
            path.append(part)  # in a plain list; inside a union the whole value is at fault
    return path, model, field


def _choices(annotation: Any) -> list[str]:
    """The words an annotation lists."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for argument in get_args(annotation) for choice in _choices(argument)]


def _type_words(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if annotation in _WORDS:
        yield _WORDS[annotation]
    elif origin is Literal:
        yield "one of " + ", ".join(_choices(annotation))
    elif origin is Annotated:
        kind, *metadata = get_args(annotation)
        limits = [limit for item in metadata for limit in _bounds(getattr(item, "metadata", [item]))]
        yield from (", ".join([words, *limits]) for words in _type_words(kind))
    elif origin is tuple:
        item = get_args(annotation)[0]
        yield "a list of tables" if list(_models(item)) else "a list, each " + " or ".join(_type_words(item))
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _type_words(argument)
    elif list(_models(annotation)):
        yield "a table"


def _allowed(field: FieldInfo | None) -> str:
    """What a field takes: its types and bounds."""
    if field is None:
        return ""
    words = " or ".join(dict.fromkeys(_type_words(field.annotation)))
    return ", ".join([words, *_bounds(field.metadata)])


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for bound in metadata:
        for symbol, kind, name in (
            (">", annotated_types.Gt, "gt"),
            (">=", annotated_types.Ge, "ge"),
            ("<", annotated_types.Lt, "lt"),
            ("<=", annotated_types.Le, "le"),
        ):
            if isinstance(bound, kind):
                yield f"{symbol} {getattr(bound, name)}"
        if isinstance(bound, annotated_types.MinLen) and bound.min_length:
            yield "not empty"


def load(name_or_path: str | Path, sets: Sequence[str] = ()) -> Profile:
    """The profile behind a name or path, with ``sets`` (``a.b=c``) laid on top.

    A name is looked up in ``.``, in ``./profiles``, then among the shipped ones.

    Raises:
        ProfileError: No such profile, or every mistake in it at once.
    """
    resolved = resolve(locate(name_or_path), sets)
    return _validate(resolved, what=f"profile '{name_or_path}'")


def amend(profile: Profile, sets: Sequence[str], *, what: str = "the profile") -> Profile:
    """A profile with ``sets`` laid on top, checked as if it had been written so.

    Raises:
        ProfileError: Every mistake at once.
    """
    resolved = Resolved(table=profile.model_dump(exclude_none=True))
    resolved.origins = dict.fromkeys([(key,) for key in resolved.table], what)
    table, origins, mistaken = read_sets(sets)
    resolved.merge(table, origins)
    resolved.mistakes += mistaken
    return _validate(resolved, what=what)


def sources(name_or_path: str | Path) -> list[Path]:
    """The file behind a name and the files it extends, nearest first."""
    return resolve(locate(name_or_path)).files


def _validate(resolved: Resolved, *, what: str) -> Profile:
    found = list(resolved.mistakes)
    profile: Profile | None = None
    impossible = unusable(resolved.table)
    found += [
        f"{shorter(_spell(path)) or what} ({shorter(resolved.origin([str(part) for part in path]))}): found {why}"
        for path, why in impossible
    ]
    if not impossible:
        try:
            profile = Profile.model_validate(resolved.table)
        except ValidationError as error:
            found += mistakes(error, resolved)
    if profile is None or found:
        count = "a mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise ProfileError(
            f"{what} has {count}",
            mistakes=tuple(found),
            hint="`kdtui profiles people-distilled --resolved` shows a complete profile",
        )
    return profile


def dump(profile: Profile) -> bytes:
    """The profile as complete TOML: ``load`` of it is equal to it, and it extends nothing.

    Raises:
        ProfileError: A path in it is not UTF-8.
    """
    text = tomli_w.dumps(profile.model_dump(exclude_none=True))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ProfileError(
            "a path of the profile is not UTF-8 text", where=profile.name, hint="rename the folder that holds it"
        ) from error


def absolute(profile: Profile) -> Profile:
    """The profile with every path in it made absolute: ``~`` expanded, the rest below the current directory.

    What a run folder keeps has to mean the same from wherever the run is resumed.
    """
    return with_paths(profile, lambda path: str(expanded(path).absolute()))
