"""JSON from untrusted files: read within bounds and checked against annotations."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from kdtui.events import TIMES

MOST_BYTES = 64 * 2**20
"""Size in bytes above which a file is not read; the cache of ten thousand runs needs a quarter of it."""

Fits = Callable[[Any], bool]


def parse_json(data: bytes | str) -> Any:
    """Parse a JSON value.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or contains a number outside the range of floats.
    """
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def fits(kind: type, values: Mapping[str, Any]) -> bool:
    """Whether every value has the type of the field of its name in the dataclass ``kind``.

    Tuples may be lists and mappings dicts, as in JSON; a name without a field does not fit.
    """
    checks = _checks(kind)
    return all((check := checks.get(name)) is not None and check(value) for name, value in values.items())


def _refuse(constant: str) -> None:
    raise ValueError(f"it contains {constant}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it contains {text[:20]}, which is out of range")
    return value


def is_whole(value: Any) -> bool:
    """Whether it is an integer with less than 64 bits."""
    return type(value) is int and abs(value) < 2**63


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return is_whole(value) or (type(value) is float and math.isfinite(value))


def is_time(value: Any) -> bool:
    """Whether it is a Unix time within the range of dates."""
    return is_number(value) and TIMES[0] <= value < TIMES[1]


def _text(value: Any) -> bool:
    return type(value) is str and (value.isprintable() or not _holds_surrogates(value))


def _holds_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


_BASIC: Mapping[str, Fits] = {
    "Any": lambda value: True,
    "None": lambda value: value is None,
    "bool": lambda value: type(value) is bool,
    "int": is_whole,
    "float": is_number,
    "str": _text,
}


@functools.cache
def _checks(kind: type) -> Mapping[str, Fits]:
    return {field.name: _check(str(field.type)) for field in dataclasses.fields(kind)}


def _check(annotation: str) -> Fits:
    """The check of an annotation such as ``Mapping[str, float | None] | None``."""
    parts = _split(annotation, "|")
    if len(parts) > 1:
        checks = [_check(part) for part in parts]
        return lambda value: any(check(value) for check in checks)
    name, bracket, inner = annotation.strip().partition("[")
    if not bracket:
        return _BASIC.get(name, lambda value: False)  # a type without a JSON representation
    items = [_check(part) for part in _split(inner.removesuffix("]"), ",") if part.strip() != "..."]
    item = items[-1]
    if name in ("Mapping", "dict"):
        return lambda value: type(value) is dict and all(_text(key) and item(each) for key, each in value.items())
    return lambda value: type(value) in (list, tuple) and all(item(each) for each in value)


def _split(annotation: str, mark: str) -> list[str]:
    """Split an annotation at marks outside of brackets."""
    parts, depth = [""], 0
    for letter in annotation:
        depth += (letter == "[") - (letter == "]")
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
