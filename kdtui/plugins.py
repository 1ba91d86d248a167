"""Extensions of kdtui by other packages, declared as entry points.

Each entry point names one *table*: a class without torch that defines the keys of a profile, the name that profiles
select it by, one line of help (the first line of its docstring) and, as text (``implementation``), the module and
attribute of its implementation. Tables are loaded when a profile is read and by ``kdtui doctor``; the implementation is
imported when it is used. ``--help``, ``runs`` and completion load neither.

A table that raises at import or does not fit its group is left out and listed by :func:`broken`; only profiles that
select it fail.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import new_class
from typing import TYPE_CHECKING, Any, Literal

from kdtui.errors import UsageError
from kdtui.text import clean, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

TERMS = "kdtui.terms"
LOSSES = "kdtui.losses"
DATA = "kdtui.data"
NETWORKS = "kdtui.networks"
LAUNCHERS = "kdtui.launchers"
GROUPS = (TERMS, LOSSES, DATA, NETWORKS, LAUNCHERS)
"""The entry-point groups: distillation terms, supervised terms, kinds of data and of networks, launch targets."""


PATIENCE = 10.0
"""Seconds after which an extension that is still being imported is reported."""
# Also the last part of a curve's name, and an argument of --set.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Extension:
    """An entry point of another package.

    Attributes:
        group: Its group, such as ``kdtui.terms``.
        name: Its name.
        reference: Its ``module:attribute``.
        package: The distribution that declares it.
        version: Version of the distribution.
        reason: Why it is left out, in one line; empty if it is used.
        table: Its table; None if it is left out.
    """

    group: str
    name: str
    reference: str
    package: str
    version: str
    reason: str = ""
    table: type[Any] | None = None


def tables(group: str, base: type[Any], tag: str, *, built_in: Sequence[type[Any]] = ()) -> tuple[type[Any], ...]:
    """The tables that other packages declare in a group, sorted by name, without the built-in ones.

    Args:
        group: One of :data:`GROUPS`.
        base: The required base class.
        tag: The field whose only allowed value is the name of the table, such as ``kind``.
        built_in: Built-in tables of the group, whose names are reserved.
    """
    if group not in _results:
        _results[group] = _load_group(group, base, tag, {table.model_fields[tag].default for table in built_in})
    return tuple(extension.table for extension in _results[group] if extension.table is not None)


def extensions() -> tuple[Extension, ...]:
    """All entry points of the groups loaded so far."""
    return tuple(extension for group in _results.values() for extension in group)


def broken() -> tuple[Extension, ...]:
    """The entry points that are left out."""
    return tuple(extension for extension in extensions() if extension.reason)


def imported(reference: str) -> Any:
    """The object behind ``package.module:attribute``.

    Raises:
        UsageError: It cannot be imported; the reason is the exception's.
    """
    module, _, attribute = reference.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:  # other people's code may raise anything at import
        raise UsageError(
            "this extension cannot be imported",
            where=reference,
            found=_reason(error),
            hint="`kdtui doctor` lists the installed extensions",
        ) from error


_results: dict[str, tuple[Extension, ...]] = {}


def _load_group(group: str, base: type[Any], tag: str, taken: Collection[str]) -> tuple[Extension, ...]:
    loaded: list[Extension] = []
    for entry in sorted(_installed()[group], key=lambda entry: (entry.name, entry.value)):
        table = None
        try:
            with _stdout_to_stderr(), _reported_if_slow(entry):
                table = entry.load()
            reason = _misfit(table, entry.name, base, tag)
        except (Exception, SystemExit) as error:  # other people's code may raise anything at import
            reason = _reason(error)
        if not reason and entry.name in taken:
            reason = f"kdtui has a built-in {tag} of this name"
        if not reason and any(other.name == entry.name and not other.reason for other in loaded):
            reason = "another package declares the same name"
        package, version = ("?", "?") if entry.dist is None else (entry.dist.name, entry.dist.version)
        loaded.append(Extension(group, entry.name, entry.value, package, version, reason, None if reason else table))
    return tuple(loaded)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect stdout and its descriptor, which C code writes to: other programs may read the result of the command."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        with contextlib.suppress(OSError):  # stdout or stderr is closed
            before = os.dup(1)
            stack.callback(os.close, before)
            os.dup2(2, 1)
            stack.callback(os.dup2, before, 1)
        yield


@contextlib.contextmanager
def _reported_if_slow(entry: EntryPoint) -> Iterator[None]:
    """Report an extension on stderr while its import takes long: it may wait for a network, or never return."""
    package = "?" if entry.dist is None else entry.dist.name
    text = f"still importing the extension {clean(entry.name)} of {clean(package)} ({clean(entry.value)})"
    timer = threading.Timer(PATIENCE, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def _installed() -> dict[str, tuple[EntryPoint, ...]]:
    from importlib.metadata import entry_points  # 10 ms, which a list of runs need not pay

    everything = entry_points()
    return {group: tuple(everything.select(group=group)) for group in GROUPS}


def _misfit(table: Any, name: str, base: type[Any], tag: str) -> str:
    """Why an object is not a valid table of its group; empty if it is."""
    if not (isinstance(table, type) and issubclass(table, base)):
        return f"it is not a subclass of {base.__module__}.{base.__qualname__}"
    field = getattr(table, "model_fields", {}).get(tag)
    # What does not fit the union of all tables would make every profile unreadable.
    if field is None or field.default != name or field.annotation != Literal[name]:
        return f"its field '{tag}' must have the name of the entry point, '{name}', as its only value and default"
    if not _NAME.fullmatch(name):
        return "its name must be up to 40 letters, digits, _ and -, starting with a letter"
    if not getattr(table, "__pydantic_complete__", False):
        return "the type of one of its fields is not defined in its module"
    config: dict[str, Any] = getattr(table, "model_config", {})
    if any(config.get(key) != base.model_config.get(key) for key in ("frozen", "extra")):
        return "it must be frozen and forbid unknown keys, as its base class does"
    if wrong := _wrong_defaults(table):
        return f"the default of its field '{wrong[0]}' is not valid"
    if ":" not in str(getattr(table, "implementation", "")):
        return "its class attribute 'implementation' must be a text 'package.module:attribute'"
    return ""


def _wrong_defaults(table: type[Any]) -> list[str]:
    """Fields whose default is not one of their values, which pydantic does not validate by default."""
    from pydantic import ValidationError

    try:
        strict: Any = new_class(table.__name__, (table,), {"validate_default": True})
        strict.model_validate({})
    except ValidationError as error:
        return [str(e["loc"][0]) for e in error.errors(include_url=False) if e["loc"] and e["type"] != "missing"]
    return []


def _reason(error: BaseException) -> str:
    text = one_line(error)[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
