"""What the fields of a table are: types, bounds and help, for messages and for the fields that the form generates."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kdtui.profile.settings import SectionName, Setting, Value, plain, read_value

_WORDS: Mapping[Any, str] = {int: "an integer", float: "a number", bool: "true or false", str: "text in quotes"}
TAGS = ("kind", "target")
"""Names of the keys that select a table."""


@dataclass(frozen=True)
class TableField(Setting):
    """A key of a table, as a field of the form.

    Attributes:
        default: What an empty text stands for; empty if there is no default.
        reads: How its text is read: as text, as a list of texts or numbers separated by commas, or as a TOML value.
        scalar: Whether a list of one is a single value.
    """

    default: str = ""
    reads: Literal["text", "texts", "numbers", "toml"] = "toml"
    scalar: bool = False

    def value(self, text: str) -> Value:
        """The value of a typed text; what cannot be read stays text, so that the profile reports it."""
        if self.reads == "text":
            return text
        if self.reads == "toml" or text.startswith("["):
            value: Value = read_value(text)
            return value
        parts = [part.strip() for part in text.rstrip(",").split(",")]
        read: list[Value] = [part if self.reads == "texts" else read_value(part) for part in parts]
        return read[0] if self.scalar and len(read) == 1 else read


@dataclass(frozen=True)
class TableKind:
    """One of the tables that a key may have.

    Attributes:
        name: Its name, the value of ``kind``.
        about: What it is, in one line.
        fields: Its keys but ``kind``; their names are relative to the table.
    """

    name: str
    about: str
    fields: tuple[TableField, ...]

    def within(self, key: str) -> tuple[TableField, ...]:
        """Its fields, with names and keys below the key of the table, such as ``data``."""
        return tuple(replace(one, name=f"{key}.{one.name}", key=f"{key}.{one.key}") for one in self.fields)


def kinds_of(tables: Iterable[type[BaseModel]], section: SectionName) -> tuple[TableKind, ...]:
    """The tables of a registry, with their fields.

    Args:
        tables: Each with the discriminator ``kind``.
        section: Section of the form.
    """
    return tuple(_kind_of(table, section) for table in tables)


@cache  # a form reads the fields of every table at every key
def _kind_of(table: type[BaseModel], section: SectionName) -> TableKind:
    return TableKind(str(table.model_fields["kind"].default), summary(table), tuple(_fields(table, section)))


@cache
def fields_of(table: type[BaseModel], key: str, section: SectionName) -> tuple[TableField, ...]:
    """The fields of a table that has no kind, with names and keys below its key, such as ``training``."""
    return TableKind("", "", tuple(_fields(table, section))).within(key)


def _fields(table: type[BaseModel], section: SectionName, within: str = "", need: bool = True) -> Iterator[TableField]:
    said = attributes(table)
    for name, field in table.model_fields.items():
        annotation, key = field.annotation, f"{within}{name}"
        nested = list(models_in(annotation))
        leaves = list(_leaves(annotation))
        required = need and field.is_required()
        if len(nested) == 1 and not any(kind is tuple for kind, _ in leaves):
            yield from _fields(nested[0], section, f"{key}.", required)
        elif not nested and key not in TAGS:
            single = [kind for kind, _ in leaves if kind not in (tuple, dict)]
            words = tuple(dict.fromkeys([*choices(annotation), *_truths(leaves)])) if single else ()
            default = "" if field.is_required() else plain(field.default)
            if words == (default,):  # the only value
                continue
            allowed = allowed_values(field).replace(_WORDS[str], "text")
            yield TableField(
                *(key, key, key),
                section=section,
                kind="text",
                help="; ".join(filter(None, (said.get(name, "").rstrip("."), allowed))),
                words=words,
                default=default,
                required=required,
                reads=_reading(leaves),
                scalar=any(kind is not tuple for kind, _ in leaves),
            )


def _leaves(annotation: Any) -> Iterator[tuple[Any, Any]]:
    """Each alternative of an annotation as its type and, of a list, the type of its items."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _leaves(argument)
    elif origin is Literal:
        yield from ((type(value), None) for value in get_args(annotation))
    elif origin is tuple:
        yield tuple, next((kind for kind, _ in _leaves(get_args(annotation)[0])), None)
    elif annotation is not types.NoneType:
        yield origin or annotation, None


def _reading(leaves: list[tuple[Any, Any]]) -> Literal["text", "texts", "numbers", "toml"]:
    items = [item for kind, item in leaves if kind is tuple]
    if items:
        return "texts" if items[0] is str else "numbers"
    return "text" if {kind for kind, _ in leaves} == {str} else "toml"


def _truths(leaves: list[tuple[Any, Any]]) -> tuple[str, ...]:
    return ("true", "false") if any(kind is bool for kind, _ in leaves) else ()


def summary(table: type[BaseModel]) -> str:
    """The first line of its docstring."""
    return inspect.cleandoc(table.__doc__ or "").partition("\n")[0].replace("``", "`")


def attributes(table: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a table and its bases say about its keys."""
    said: dict[str, str] = {}
    for kind in reversed(table.__mro__):
        text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[2]
        for key, words in re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", text, flags=re.M | re.S):
            said[key] = " ".join(words.split()).replace("``", "`")
    return said


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """All tables in an annotation: itself, the members of a union, or the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated, tuple):
        for argument in get_args(annotation):
            yield from models_in(argument)


def item_type(annotation: Any) -> Any:
    """The annotation of the items of a list, which may be one of several alternatives; None if there is no list."""
    origin = get_origin(annotation)
    if origin is tuple:
        return get_args(annotation)[0]
    if origin not in (Union, types.UnionType, Annotated):
        return None
    return next((item for one in get_args(annotation) if (item := item_type(one)) is not None), None)


def choices(annotation: Any) -> list[str]:
    """The values of the Literals in an annotation."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for argument in get_args(annotation) for choice in choices(argument)]


def _type_words(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if annotation in _WORDS:
        yield _WORDS[annotation]
    elif origin is Literal:
        words = choices(annotation)
        yield ("one of " if len(words) > 1 else "") + ", ".join(words)
    elif origin is Annotated:
        kind, *metadata = get_args(annotation)
        limits = [limit for item in metadata for limit in _bounds(getattr(item, "metadata", [item]))]
        yield from (", ".join([words, *limits]) for words in _type_words(kind))
    elif origin is tuple:
        item = get_args(annotation)[0]
        yield "a list of tables" if list(models_in(item)) else "a list, each " + " or ".join(_type_words(item))
    elif origin is dict:
        yield "a table of " + " or ".join(_type_words(get_args(annotation)[1]))
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _type_words(argument)
    elif list(models_in(annotation)):
        yield "a table"


def allowed_values(field: FieldInfo | None) -> str:
    """Description of a field's types and bounds."""
    if field is None:
        return ""
    words = " or ".join(dict.fromkeys(_type_words(field.annotation)))
    return ", ".join([words, *_bounds(field.metadata)])


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    metadata = list(metadata)
    longest = next((bound.max_length for bound in metadata if isinstance(bound, annotated_types.MaxLen)), None)
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
            yield f"{bound.min_length} values" if bound.min_length == longest else "not empty"
