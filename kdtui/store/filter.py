"""The filter language of run lists, and its completion from the fields and values of the runs."""

from __future__ import annotations

import difflib
import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kdtui.errors import FilterError
from kdtui.store.state import RunSummary, State

Predicate = Callable[[RunSummary], bool]

_TEXTS: Mapping[str, Callable[[RunSummary], str | None]] = {
    "id": lambda run: run.id,
    "name": lambda run: run.name,
    "student": lambda run: run.encoder,
    "architecture": lambda run: run.architecture,
    "teacher": lambda run: run.teacher_checkpoint,
    "group": lambda run: run.group,
    "sweep": lambda run: run.sweep,
    "state": lambda run: run.state.word,
    "notes": lambda run: run.notes,
    "detail": lambda run: run.detail,
    "error": lambda run: run.error,
}
_NUMBERS: Mapping[str, Callable[[RunSummary], float | None]] = {
    "T": lambda run: run.temperature,
    "alpha": lambda run: run.alpha,
    "miou": lambda run: run.best_miou,
    "score": lambda run: run.best(run.score),
    "target_iou": lambda run: run.best("target_iou"),
    "mask_ap": lambda run: run.best("mask_ap"),
    "last": lambda run: run.miou,
    "loss": lambda run: run.loss,
    "epoch": lambda run: run.epoch,
    "epochs": lambda run: run.epochs,
    "seed": lambda run: run.seed,
    "retention": lambda run: run.best_retention,
    "agreement": lambda run: run.agreement,
    "params": lambda run: run.parameters,
}
_ALIASES = {
    "encoder": "student",
    "temperature": "T",
    "t": "T",
    "a": "alpha",
    "α": "alpha",
    "parameters": "params",
    "best": "miou",
    "note": "notes",
    "arch": "architecture",
}
_FLAGS: Mapping[str, Callable[[RunSummary], bool]] = {"distilled": lambda run: run.distilled}
FIELDS = (*_TEXTS, "tag", *_NUMBERS, *_FLAGS)

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    ":": operator.eq,
}
_TERM = re.compile(r"(?P<not>[-!]?)(?P<field>[^\W\d]\w*)(?P<op>>=|<=|!=|[:=<>])(?P<value>.*)", re.DOTALL)
_UNITS = {"%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class _Term:
    field: str
    operator: str
    value: str
    negated: bool


def parse(expression: str) -> Predicate:
    """Parse a filter expression, all terms of which must match.

    ``field:text`` matches fields containing the text, ``field=text`` exact ones, ``T>=4`` compares, a leading ``-`` or
    ``!`` negates, and a plain word searches id, name, student and tags. ``miou`` and ``retention`` are of the best
    validation, ``score`` is what determines it (``miou``, or ``target_iou`` of networks with boxes), ``last`` is the
    mIoU of the last one. A run without the value matches no comparison.

    Raises:
        FilterError: A term is not valid; the error lists the allowed fields or operators.
    """
    try:
        words = shlex.split(expression)
    except ValueError as error:
        raise FilterError("unclosed quote in the filter", found=expression) from error
    predicates = [_predicate(word) for word in words]
    return lambda run: all(predicate(run) for predicate in predicates)


def _predicate(word: str) -> Predicate:
    match = _TERM.fullmatch(word)
    if match is None:
        return _bare(word)
    name = match["field"]
    field = name if name in FIELDS else _ALIASES.get(name, _ALIASES.get(name.lower(), name.lower()))
    if field not in FIELDS:
        close = difflib.get_close_matches(name, [*FIELDS, *_ALIASES], n=1)
        raise FilterError(
            f"the filter has no field '{name}'" + (f"; did you mean {close[0]}?" if close else ""),
            found=word,
            allowed=", ".join(FIELDS),
        )
    term = _Term(field, match["op"], match["value"], bool(match["not"]))
    if not term.value:
        raise FilterError("a filter term has no value", found=word, hint=f"write {field}:VALUE")
    test = _test(term, word)
    return (lambda run: not test(run)) if term.negated else test


def _test(term: _Term, word: str) -> Predicate:
    if term.field in _NUMBERS:
        wanted, compare, read = _number(term.value, word), _COMPARE[term.operator], _NUMBERS[term.field]
        return lambda run: (value := read(run)) is not None and compare(value, wanted)
    if term.operator not in (":", "=", "!="):
        raise FilterError(
            f"'{term.field}' is text and cannot be compared",
            found=word,
            allowed=f"{term.field}:PART or {term.field}=TEXT",
        )
    if term.field in _FLAGS:
        flag, asked = _FLAGS[term.field], _yes(term.value, word)
        return lambda run: (flag(run) is asked) is not (term.operator == "!=")
    if term.field == "state":
        return _state(term, word)
    sought = term.value.lower()
    if term.operator == ":":
        return lambda run: any(sought in text.lower() for text in _texts(term.field, run))
    same = term.operator == "="
    return lambda run: (sought in [text.lower() for text in _texts(term.field, run)]) is same


def _texts(field: str, run: RunSummary) -> list[str]:
    if field == "tag":
        return list(run.tags)
    text = _TEXTS[field](run)
    return [] if text is None else [text]


def _state(term: _Term, word: str) -> Predicate:
    """The test of a state; a misspelt state is an error, because it would match nothing."""
    sought = term.value.lower().replace("_", " ").replace("-", " ")
    states = {state for state in State if state.word.lower().startswith(sought) or state.glyph == term.value}
    if not states:
        words = [state.word.lower() for state in State]
        close = difflib.get_close_matches(sought, words, n=1)
        raise FilterError(
            "no such state in the filter" + (f"; did you mean {close[0]}?" if close else ""),
            found=word,
            allowed=", ".join(words),
        )
    wanted = term.operator != "!="
    return lambda run: (run.state in states) is wanted


def _number(text: str, word: str) -> float:
    unit = _UNITS.get(text[-1], 1.0)
    digits = text[:-1] if text[-1] in _UNITS else text
    try:
        return float(digits) * unit
    except ValueError as error:
        raise FilterError("a filter value is not a number", found=word, allowed="4, .65, 95%, 6.2M") from error


def _yes(text: str, word: str) -> bool:
    if text.lower() in ("yes", "true", "1"):
        return True
    if text.lower() in ("no", "false", "0"):
        return False
    raise FilterError("a filter value is neither yes nor no", found=word, allowed="yes, no")


def _bare(word: str) -> Predicate:
    negated = len(word) > 1 and word[0] in "-!"
    sought = word[negated:].lower()

    def found(run: RunSummary) -> bool:
        texts = (run.id, run.name, run.encoder or "", *run.tags)
        return any(sought in text.lower() for text in texts) is not negated

    return found


_TYPED_TERM = re.compile(r"(?P<not>[-!]?)(?P<field>\w+)(?P<op>:|=|!=)(?P<value>\S*)")
_VALUES: Mapping[str, Callable[[RunSummary], Iterable[str | None]]] = {
    "student": lambda row: (row.encoder,),
    "architecture": lambda row: (row.architecture,),
    "teacher": lambda row: (row.teacher_checkpoint,),
    "name": lambda row: (row.name,),
    "group": lambda row: (row.group,),
    "id": lambda row: (row.id,),
    "tag": lambda row: row.tags,
    "error": lambda row: (row.error,),
    "seed": lambda row: (None if row.seed is None else str(row.seed),),
    "T": lambda row: (None if row.temperature is None else f"{row.temperature:g}",),
    "alpha": lambda row: (None if row.alpha is None else f"{row.alpha:g}",),
}


def complete(text: str, rows: Iterable[RunSummary]) -> str | None:
    """Complete the last word of ``text``; None if nothing matches or the word is empty."""
    word = text.rpartition(" ")[2]
    if not word:
        return None
    begin = text[: len(text) - len(word)]
    match = _TYPED_TERM.fullmatch(word)
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
    # Values with a space are left out, as they would need quotes.
    return sorted({value for row in rows for value in read(row) if value and " " not in value})
