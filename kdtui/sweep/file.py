"""A sweep in a TOML file: the table ``[sweep]`` with the same entries as the options of ``kdtui sweep``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtui.errors import UsageError
from kdtui.profile.find import nearest, parse_tables, read_bounded
from kdtui.profile.settings import SETTINGS, plain, toml
from kdtui.sweep.ranges import is_range

_ENTRIES = ("profile", "teacher", "student", "method", "seeds", "with_baseline", "sampler", "trials", "prune", "set")
SAMPLERS = ("tpe",)
"""What draws values."""
_SETTINGS = {
    one.name: one
    for one in SETTINGS.values()
    if one.flags and one.key and one.kind in ("text", "integer", "number") and one.name != "encoder"
}


@dataclass(frozen=True)
class Request:
    """What a file asks for, as the options do.

    Attributes:
        assignments: ``KEY=VALUE,VALUE`` and ``KEY=LOW..HIGH`` texts.
        sampler: What draws values; None for a grid.
        trials: How many are drawn; None for the default.
    """

    profile: str
    teachers: tuple[str, ...] = ()
    encoders: str | None = None
    methods: str | None = None
    seeds: str | None = None
    with_baseline: bool = False
    assignments: tuple[str, ...] = ()
    sampler: str | None = None
    trials: int | None = None
    prune: bool = False


def is_sweep_file(text: str) -> bool:
    """Whether a text is the path of a TOML file with a table ``[sweep]``."""
    path = Path(text)
    try:
        return path.suffix == ".toml" and path.is_file() and "sweep" in parse_tables(read_bounded(path))
    except (OSError, ValueError):  # the profile's own message
        return False


def read_file(text: str) -> Request:
    """Read ``[sweep]`` of a file.

    Raises:
        UsageError: It has other tables, an unknown entry, or no profile.
    """
    tables = parse_tables(read_bounded(Path(text)))
    table, others = tables.pop("sweep"), sorted(tables)
    if others or not isinstance(table, dict):
        raise UsageError(
            "a file with [sweep] has no other tables",
            where=text,
            found=", ".join(others),
            allowed="profile = NAME in [sweep]",
        )
    allowed = (*_ENTRIES, *_SETTINGS)
    for key in table:
        if key not in allowed:
            close = nearest(key, allowed)
            raise UsageError(
                "[sweep] has an unknown entry",
                where=text,
                found=key,
                allowed=", ".join(allowed),
                hint=f"did you mean {close[0]}?" if close else "write other keys of the profile below [sweep.set]",
            )
    profile = table.get("profile")
    if not isinstance(profile, str):
        raise UsageError("[sweep] has no profile", where=text, allowed="profile = NAME or FILE")
    beside = Path(text).parent / profile
    return Request(
        profile=str(beside) if beside.is_file() else profile,
        teachers=tuple(_words(table, "teacher", text)),
        encoders=",".join(_words(table, "student", text)) or None,
        methods=",".join(_words(table, "method", text)) or None,
        seeds=_seeds(table, text),
        with_baseline=_switch(table, "with_baseline", text),
        assignments=(*_settings(table), *assignments_of(_set(table, text))),
        sampler=_sampler(table, text),
        trials=_trials(table, text),
        prune=_switch(table, "prune", text),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _words(table: Mapping[str, Any], key: str, where: str) -> list[str]:
    values = _listed(table[key]) if key in table else []
    if not all(isinstance(value, str) and value for value in values):
        raise UsageError(f"{key} of [sweep] is not text", where=where, found=plain(values), allowed="a list of text")
    return values


def _seeds(table: Mapping[str, Any], where: str) -> str | None:
    if "seeds" not in table:
        return None
    values = _listed(table["seeds"])
    if not values or not all(isinstance(value, int | str) and not isinstance(value, bool) for value in values):
        raise UsageError(
            "seeds of [sweep] are not a list", where=where, found=plain(values), allowed="seeds = [0, 1, 2]"
        )
    return ",".join(map(str, values))


def _switch(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{key} of [sweep] is not valid", where=where, found=value, allowed="true or false")
    return value


def _sampler(table: Mapping[str, Any], where: str) -> str | None:
    value = table.get("sampler")
    if value not in (None, *SAMPLERS):
        raise UsageError(
            "sampler of [sweep] is not known", where=where, found=plain(value), allowed=", ".join(SAMPLERS)
        )
    return value


def _trials(table: Mapping[str, Any], where: str) -> int | None:
    value = table.get("trials")
    if value is not None and (type(value) is not int or value < 1):
        raise UsageError("trials of [sweep] is not valid", where=where, found=plain(value), allowed="1 or more")
    return value


def _set(table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    value = table.get("set", {})
    if not isinstance(value, dict):
        raise UsageError("set of [sweep] is not a table", where=where, found=plain(value), allowed="[sweep.set]")
    return value


def _settings(table: Mapping[str, Any]) -> Iterator[str]:
    for name, one in _SETTINGS.items():
        if name in table:
            yield f"{one.key}={','.join(map(_item, _listed(table[name])))}"


def assignments_of(table: Mapping[str, Any], front: str = "") -> Iterator[str]:
    """``KEY=VALUE,VALUE`` texts of nested tables of lists."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from assignments_of(value, f"{front}{key}.")
        else:
            yield f"{front}{key}={','.join(map(_item, _listed(value)))}"


def _item(value: Any) -> str:
    """A value as ``--set`` takes it; a range without the quotes of text."""
    return value if isinstance(value, str) and is_range(value) else toml(value)
