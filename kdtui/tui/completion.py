"""Completing a filter: real fields, and the values that real runs have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from kdtui.store.filter import FIELDS
from kdtui.store.state import RunSummary, State

_TERM = re.compile(r"(?P<not>[-!]?)(?P<field>\w+)(?P<op>:|=|!=)(?P<value>\S*)")
_VALUES: Mapping[str, Callable[[RunSummary], Iterable[str | None]]] = {
    "student": lambda row: (row.encoder,),
    "architecture": lambda row: (row.architecture,),
    "teacher": lambda row: (row.teacher_checkpoint,),
    "name": lambda row: (row.name,),
    "id": lambda row: (row.id,),
    "tag": lambda row: row.tags,
    "error": lambda row: (row.error,),
    "seed": lambda row: (None if row.seed is None else str(row.seed),),
    "T": lambda row: (None if row.temperature is None else f"{row.temperature:g}",),
    "alpha": lambda row: (None if row.alpha is None else f"{row.alpha:g}",),
}


def complete(text: str, rows: Iterable[RunSummary]) -> str | None:
    """``text`` with its last word completed; None where nothing fits, or nothing is begun."""
    word = text.rpartition(" ")[2]
    if not word:
        return None
    begin = text[: len(text) - len(word)]
    match = _TERM.fullmatch(word)
    if match is None:
        bare = word.lstrip("-!")
        field = next((name for name in FIELDS if bare and name.startswith(bare) and name != bare), None)
        return None if field is None else f"{begin}{word[: len(word) - len(bare)]}{field}"
    value, field = match["value"], match["field"]
    found = next((option for option in _options(field, rows) if option.startswith(value) and option != value), None)
    return None if found is None else f"{text[: len(text) - len(value)]}{found}"


def _options(field: str, rows: Iterable[RunSummary]) -> list[str]:
    if field == "state":
        return [state.word.lower().replace(" ", "-") for state in State]
    if field == "distilled":
        return ["yes", "no"]
    read = _VALUES.get(field)
    if read is None:
        return []
    # Without a blank: a value with one would need quotes, which nobody completes by hand.
    return sorted({value for row in rows for value in read(row) if value and " " not in value})
