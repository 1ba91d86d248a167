"""Plain data besides the weights of a checkpoint: numbers, dates, paths and tables, by their names in pickles.

No class that a file names is imported. Each name is mapped to a function in this module that converts the arguments to
plain Python values, so that reading a file executes only this module and torch's reader.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import numpy as np

# numpy's kinds of numbers and texts; object and void arrays are not plain data.
_KINDS = "biufcSU"
_KEPT = 64  # maximum number of values of an array
_MOST_BYTES = 1 << 16  # of a scalar


class ArrayType:
    """A pickled numpy dtype: kind, size and byte order."""

    def __init__(self, text: object = "V", *_flags: object) -> None:
        self.text = text.decode("ascii") if isinstance(text, bytes) else str(text)
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any] | None:
        """The numpy dtype, or None if its values are neither numbers nor texts."""
        if self.text[:1] not in _KINDS or not self.text[1:].isdecimal() or int(self.text[1:]) > _MOST_BYTES:
            return None
        return np.dtype(("" if self.order == "|" else self.order) + self.text)


class Array:
    """A pickled numpy array: its shape, and its values if they are few."""

    def __init__(self, *_arguments: object) -> None:
        self.shape: tuple[int, ...] = ()
        self.values: list[Any] = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, _fortran, raw = state
        self.shape = tuple(int(side) for side in shape)
        dtype = kind.dtype() if isinstance(kind, ArrayType) else None
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if dtype is not None and isinstance(raw, bytes | bytearray):
            self.values = np.frombuffer(bytes(raw), dtype, count=min(_KEPT, len(raw) // dtype.itemsize)).tolist()


def _reconstruct(*_arguments: object) -> Array:
    return Array()


def _scalar(kind: object, raw: object = None) -> Any:
    dtype = kind.dtype() if isinstance(kind, ArrayType) else None
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if dtype is None or not isinstance(raw, bytes):
        return None
    return np.frombuffer(raw, dtype, count=1)[0].item()


def _path(*parts: object) -> str:
    return str(PurePosixPath(*map(str, parts)))


class Text:
    """A subclass of ``str``, such as torch's version."""

    def __new__(cls, text: object = "") -> Any:
        """A plain text."""
        return str(text)


def _list(*items: Any) -> list[Any]:
    return list(items[0]) if items and isinstance(items[0], list | tuple | set | frozenset) else []


def _frozenset(*items: Any) -> frozenset[Any]:
    return frozenset(_list(*items))


def _tuple(*items: Any) -> tuple[Any, ...]:
    return tuple(_list(*items))


def _deque(*items: Any) -> list[Any]:
    return _list(*items)


def _range(*ends: Any) -> str:
    return f"range({', '.join(map(str, ends))})"


def _number(*given: Any) -> Any:
    return given[0] if given and isinstance(given[0], int | float) else 0


class DictSubclass:
    """A dict of another class, such as ``defaultdict``, which pickles fill after creating it."""

    def __new__(cls, *_arguments: object) -> Any:
        """A plain dict."""
        return {}


class Fields(argparse.Namespace):
    """A ``SimpleNamespace``."""


def _date(*parts: Any) -> str:
    return _iso(datetime.date, parts)


def _time(*parts: Any) -> str:
    return _iso(datetime.time, parts)


def _datetime(*parts: Any) -> str:
    return _iso(datetime.datetime, parts)


def _iso(kind: Callable[..., Any], parts: tuple[Any, ...]) -> str:
    first = parts[0].encode("latin1") if parts and isinstance(parts[0], str) else parts[0] if parts else b""
    zone = [part for part in parts[1:] if isinstance(part, datetime.tzinfo)]
    return str(kind(first, *zone).isoformat())


def _timedelta(*parts: Any) -> Any:
    return datetime.timedelta(*parts)


def _timezone(*parts: Any) -> Any:
    return datetime.timezone(*parts)


def _decimal(text: object = "0") -> str:
    return str(Decimal(str(text)[:100]))


def _fraction(*parts: Any) -> str:
    return str(Fraction(*parts))


_NAMES: dict[Callable[..., Any], tuple[str, ...]] = {
    ArrayType: ("numpy.dtype",),
    Array: ("numpy.ndarray",),
    _reconstruct: ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    _scalar: ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    _path: tuple(
        f"pathlib{inner}.{name}"
        for inner in ("", "._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    ),
    _date: ("datetime.date",),
    _time: ("datetime.time",),
    _datetime: ("datetime.datetime",),
    _timedelta: ("datetime.timedelta",),
    _timezone: ("datetime.timezone",),
    _decimal: ("decimal.Decimal",),
    _fraction: ("fractions.Fraction",),
    Text: ("torch.torch_version.TorchVersion", "numpy.str_", "builtins.str"),
    _number: ("builtins.int", "builtins.float", "builtins.bool"),
    _list: ("builtins.list",),
    _tuple: ("builtins.tuple",),
    _frozenset: ("builtins.frozenset",),
    _range: ("builtins.range", "builtins.xrange"),
    _deque: ("collections.deque",),
    DictSubclass: (
        "collections.defaultdict",
        "builtins.dict",
        "easydict.EasyDict",
        "addict.addict.Dict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
    ),
    Fields: ("types.SimpleNamespace",),
}
NAMES = frozenset(name for names in _NAMES.values() for name in names) | {"argparse.Namespace"}
"""All globals that are accepted in addition to those that torch allows."""


def safe_globals() -> list[Any]:
    """The allow-list for :func:`torch.serialization.safe_globals`."""

    def entries() -> Iterator[Any]:
        yield argparse.Namespace
        for function, names in _NAMES.items():
            for name in names:
                yield (function, name)

    return list(entries())


def as_plain(value: Any) -> Any:
    """Convert a value of a checkpoint to a JSON type, if possible."""
    if isinstance(value, argparse.Namespace):
        return vars(value)
    if isinstance(value, Array):
        return value.values if value.shape and len(value.values) < _KEPT else f"array {list(value.shape)}"
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, datetime.timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray | complex):
        return str(value)
    return value
