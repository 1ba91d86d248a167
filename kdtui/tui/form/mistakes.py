"""Which field a mistake belongs under, and its words there."""

from __future__ import annotations

from collections.abc import Mapping

from kdtui.errors import KdtuiError, ProfileError
from kdtui.tui.form.fields import FIELDS

GENERAL = ""
"""The line of the form for what no field can mend."""
_SHARED = (GENERAL, "extra")
"""Places where several keys can be wrong."""

_OF_TABLES = {"training": "batch_size", "student": "encoder", "teacher": "teacher", "data": "profile"}


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
    return " ".join("; ".join(facts).split())


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
            return field, message if FIELDS[field].key else f"{key}: {message}"
        if mistake.startswith(f"--set {text!r}"):
            return field, mistake
    if key in _OF_TABLES:  # values that are each right and disagree with one another
        return _OF_TABLES[key], mistake.partition("): ")[2] or mistake
    return field_of(key), mistake


def field_of(key: str) -> str:
    """The field that sets a key of the profile; the general line for a key without one."""
    bare = key.partition("[")[0]
    return next((field.name for field in FIELDS.values() if field.key == bare), GENERAL)
