"""What pydantic found, in the words of the person who wrote the file."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from kdtui.profile.find import nearest
from kdtui.profile.resolve import Resolved, shorter, shown
from kdtui.profile.tables import Profile

_WORDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}
_PATTERNS = {
    "name": "letters, digits and . _ + -, the first a letter or digit, 80 at most",
    "tags": "letters, digits and . _ : + = -, the first a letter or digit, 40 at most",
}


def mistakes(error: ValidationError, resolved: Resolved) -> list[str]:
    """One line per key, in the order of the file: key, origin, what was found, what is allowed, nearest spelling."""
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        path, model, field = _follow(detail["loc"])
        if detail["type"].startswith("union_tag"):
            path = [*path, "kind"]
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
        tags = [tag.strip("'") for tag in str(detail["ctx"]["expected_tags"]).split(", ")]
        value = found.get("kind") if isinstance(found, dict) else found
        return f"found {shown(value)}; allowed: {', '.join(tags)}" + _did_you_mean(value, tags)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"found {shown(found)}; allowed: a table, [{_spell(path)}]"
    if kind == "string_pattern_mismatch":
        return f"found {shown(found)}; allowed: {_PATTERNS.get(str(path[0]), detail['msg'])}"
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


def _did_you_mean(found: Any, choices: list[str]) -> str:
    close = nearest(found, choices) if isinstance(found, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def _spell(path: list[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every table inside an annotation: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _models(argument)


def _tables(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for below in _models(field.annotation):
            yield name, below


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
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
        tagged = [candidate for candidate in below if _kind(candidate) == part]
        if len(below) > 1 and tagged:
            below = tagged
            continue
        if below:
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
        yield "a list, each " + " or ".join(_type_words(get_args(annotation)[0]))
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
