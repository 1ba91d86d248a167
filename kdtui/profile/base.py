"""Base of the profile's tables: the base class, strict number types, and keys with paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, Union, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer
from pydantic.fields import FieldInfo

# Strict: TOML distinguishes booleans, integers and strings, so true is not a number and "3" is not an integer.
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Bool = Annotated[bool, Field(strict=True)]
TaskName = Literal["hierarchical", "semantic"]


@dataclass(frozen=True)
class PathTo:
    """Marks a key whose value is a path.

    Attributes:
        placeholder: Placeholder in hints: ``FILE`` or ``FOLDER``.
        except_prefix: Values with this prefix are not paths; empty if there are none.
    """

    placeholder: str
    except_prefix: str = ""

    def marks(self, value: Any) -> bool:
        """Whether a value of the key is a path."""
        return isinstance(value, str) and not (self.except_prefix and value.startswith(self.except_prefix))


FilePath = Annotated[str, Field(min_length=1), PathTo("FILE")]
FolderPath = Annotated[str, Field(min_length=1), PathTo("FOLDER")]


class ProfileTable(BaseModel):
    """Base class of all tables: frozen; unknown keys are errors.

    Attributes:
        unwritten: Keys that are not written while they have their default: those that were added later, so that
            profiles of earlier and later runs are equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    unwritten: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _written(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table: dict[str, Any] = serialize(self)
        defaults = {key: type(self).model_fields[key].default for key in self.unwritten}
        return {key: value for key, value in table.items() if key not in defaults or value != defaults[key]}


AnyTable = TypeVar("AnyTable", bound=ProfileTable)


class PathKey(NamedTuple):
    """A key whose value is a path, with the value."""

    key: str
    path: str
    placeholder: str


def paths_of(table: ProfileTable, within: str = "") -> Iterator[PathKey]:
    """All paths in a table and its nested tables, in the order of their keys.

    Args:
        table: A profile or a part of it.
        within: Key of the table, such as ``data``.
    """
    for name, field in type(table).model_fields.items():
        key, value = f"{within}.{name}" if within else name, getattr(table, name)
        marker = _path_marker(field)
        if isinstance(value, ProfileTable):
            yield from paths_of(value, key)
        elif isinstance(value, tuple):
            for at, item in enumerate(value):
                if isinstance(item, ProfileTable):
                    yield from paths_of(item, f"{key}[{at}]")
        elif marker is not None and marker.marks(value):
            yield PathKey(key, value, marker.placeholder)


def with_paths(table: AnyTable, change: Callable[[str], str]) -> AnyTable:
    """A copy of a table in which all paths, including those of nested tables, are changed."""
    changes: dict[str, Any] = {}
    for name, field in type(table).model_fields.items():
        value, marker = getattr(table, name), _path_marker(field)
        if isinstance(value, ProfileTable):
            changes[name] = with_paths(value, change)
        elif isinstance(value, tuple) and any(isinstance(item, ProfileTable) for item in value):
            changes[name] = tuple(
                with_paths(item, change) if isinstance(item, ProfileTable) else item for item in value
            )
        elif marker is not None and marker.marks(value):
            changes[name] = change(value)
    changes = {name: value for name, value in changes.items() if value != getattr(table, name)}
    return table.model_copy(update=changes) if changes else table


def _path_marker(field: FieldInfo) -> PathTo | None:
    return next((item for item in (*field.metadata, *_metadata(field.annotation)) if isinstance(item, PathTo)), None)


def _metadata(annotation: Any) -> Iterator[Any]:
    """Metadata of ``Annotated`` types nested in an annotation, such as ``FilePath | None``."""
    yield from getattr(annotation, "__metadata__", ())
    for argument in get_args(annotation):
        yield from _metadata(argument)


def one_of(tables: tuple[type[ProfileTable], ...], tag: str, *, default: str | None = None) -> Any:
    """The annotation of a key whose value is one of several tables, discriminated by ``tag``.

    Args:
        tables: Each with another value of ``tag``.
        tag: ``kind`` or ``target``.
        default: Value of ``tag`` where it is missing; by default it is required.
    """
    if len(tables) == 1:
        return tables[0]  # pydantic accepts a discriminator only for two or more tables
    if default is None:
        return Annotated[Union[tables], Field(discriminator=tag)]  # noqa: UP007
    tagged = tuple(Annotated[table, Tag(table.model_fields[tag].default)] for table in tables)

    def tag_of(value: Any) -> Any:
        return value.get(tag, default) if isinstance(value, dict) else getattr(value, tag, None)

    return Annotated[Union[tagged], Discriminator(tag_of)]  # noqa: UP007
