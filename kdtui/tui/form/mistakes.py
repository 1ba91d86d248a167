"""Which field a mistake belongs under, and its words there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kdtui.errors import KdtuiError, ProfileError
from kdtui.tui.form.fields import FIELDS

GENERAL = ""
"""The line of the form for what no field can mend."""
_SHARED = (GENERAL, "extra")
"""Places where several keys can be wrong."""

_OF_TABLES = {"training": "batch_size", "student": "encoder", "teacher": "teacher", "data": "profile"}


_SET = re.compile(r"--set ([A-Za-z_][\w.]*)=(\S+)")
_SET_KEY = re.compile(r"--set ([A-Za-z_][\w.]*)")
_OPTION = re.compile(r"(--[a-z][a-z-]*)(?: (?:[A-Z]+\b(?:\|[A-Z]+\b)*))?")
_COMMAND = re.compile(r"(?:^|[`\s])kdtui (?!doctor)[a-z]+")  # the cockpit has all others
_PARTS = re.compile(r";\s+|\s+·\s+")
_OPTIONS = {field.flag: field.label for field in FIELDS.values()} | {
    "--profile": "PROFILE",
    "--teacher": FIELDS["teacher"].label,
    "--student": FIELDS["encoder"].label,
    "--tags": FIELDS["tags"].label,
}
"""Options of the command line by what the form calls them; any other loses its dashes."""


def in_form(text: str) -> str:
    """A message or hint in the form's own words: its fields for options; commands that list what it lists are left out.

    What the engine and the launcher say is said for the command line as well.
    """
    parts = [part for part in _PARTS.split(" ".join(text.split())) if part and not _COMMAND.search(part)]
    words = "; ".join(parts)
    words = _SET.sub(lambda found: f"{_called(found[1])} {found[2]}", words)
    words = _SET_KEY.sub(lambda found: _called(found[1]), words)
    return _OPTION.sub(lambda found: _option(found[1]), words)


def _called(key: str) -> str:
    """A key of a profile as the form shows it: its field, else where any key can be typed."""
    name = field_of(key)
    return FIELDS[name].label if name in FIELDS else f"{FIELDS['extra'].label}: {key}"


def _option(flag: str) -> str:
    return _OPTIONS.get(flag) or flag.removeprefix("--").replace("-", " ")


def one_line(error: KdtuiError, typed: str = "") -> str:
    """A failure as one sentence after the other: what is wrong, what was found, what is allowed, what to do.

    Args:
        error: The failure.
        typed: What stands in the field. Under it that text is not repeated, nor the command that lists what the form
            lists beside it.
    """
    facts = [error.what]
    if error.found is not None and error.found != typed:
        facts.append(f"found {error.found}")
    if error.allowed is not None:
        facts.append(f"allowed: {error.allowed}")
    if error.hint is not None and not typed:
        facts.append(error.hint)
    return in_form("; ".join(facts))


def placed(error: KdtuiError, otherwise: str, typed: Mapping[str, str]) -> dict[str, str]:
    """The mistakes of a profile by field; any other failure under ``otherwise``.

    Args:
        error: What reading the profile raised.
        otherwise: The field of a failure that is no list of mistakes.
        typed: ``key=value`` texts that the form laid on top, and the field of each.
    """
    if not isinstance(error, ProfileError) or not error.mistakes:
        return {otherwise: one_line(error)}
    found: dict[str, str] = {}
    for mistake in error.mistakes:
        field, message = _parted(mistake, typed)
        if field in found and field in _SHARED:
            message = f"{found[field]}; {message}"
        elif field in found:
            continue
        found[field] = message
    return found


def _parted(mistake: str, typed: Mapping[str, str]) -> tuple[str, str]:
    """Field and message of ``key (origin): message``; key and origin stay where the field does not tell them."""
    key = mistake.partition(" (")[0]
    for text, field in typed.items():
        message = mistake.removeprefix(f"{key} (--set {text}): ")
        if message != mistake:
            return field, in_form(message if FIELDS[field].key else f"{key}: {message}")
        if mistake.startswith(f"--set {text!r}"):
            return field, in_form(mistake.removeprefix("--set "))
    if key in _OF_TABLES:  # values that are each right and disagree with one another
        return _OF_TABLES[key], in_form(mistake.partition("): ")[2] or mistake)
    return field_of(key), in_form(mistake)


def field_of(key: str) -> str:
    """The field that sets a key of the profile; the general line for a key without one."""
    bare = key.partition("[")[0]
    return next((field.name for field in FIELDS.values() if field.key == bare), GENERAL)
