"""Failures as messages at the fields of the form.

Messages of the engine, the launcher and the profile are written for the command line; here they are placed at a field
and rephrased with the labels of the form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError, ProfileError
from kdtui.profile.settings import SETTINGS
from kdtui.text import one_line
from kdtui.tui.form.tables import ShownTable, field_at, is_generated, part_of

if TYPE_CHECKING:
    from kdtui.launch.launcher import Check

_WHERE = re.compile(r"\n *where: (.+)")

GENERAL = ""
"""Line of the form for mistakes that belong to no field."""
_SHARED = (GENERAL, "extra")
"""Places that can hold the messages of several keys."""
_OF_TABLES = {"training": "batch_size", "student": "encoder", "teacher": "teacher", "data": "profile"}
"""Field of a mistake in a whole table."""
_QUOTED_SET = re.compile(r"--set '([^']+)'")
_SET = re.compile(r"--set ([A-Za-z_][\w.]*)=(\S+)")
_SET_KEY = re.compile(r"--set ([A-Za-z_][\w.]*)")
_OPTION = re.compile(r"(--[a-z][a-z-]*)(?: (?:[A-Z]+\b(?:\|[A-Z]+\b)*))?")
_COMMAND = re.compile(r"(?:^|[`\s])kdtui (?!doctor)[a-z]+")  # other commands have an equivalent in the cockpit
_PARTS = re.compile(r";\s+|\s+·\s+")
_OPTIONS = {flag: setting.label for setting in SETTINGS.values() for flag in setting.flags} | {
    "--profile": "PROFILE",
    "--seeds": SETTINGS["seeds"].label,
    "--student": SETTINGS["encoder"].label,
}
"""Options of the command line with their labels on the form; of any other only the dashes are removed."""


def in_form(text: str, labels: Mapping[str, str] = _OPTIONS) -> str:
    """Rephrase a message or hint for a form: labels of fields instead of options, no commands for which it has lists.

    Messages of the engine and the launcher are written for the command line.

    Args:
        text: The message.
        labels: Label of each option that has a field; by default those of the New-run form.
    """
    parts = [part for part in _PARTS.split(one_line(text)) if part and not _COMMAND.search(part)]
    words = _QUOTED_SET.sub(r"--set \1", "; ".join(parts))
    words = _SET.sub(lambda found: f"{_called(found[1])} {found[2]}", words)
    words = _SET_KEY.sub(lambda found: _called(found[1]), words)
    return _OPTION.sub(lambda found: labels.get(found[1]) or found[1].removeprefix("--").replace("-", " "), words)


def _called(key: str) -> str:
    """Label of a profile key: that of its field, or of the field for other keys."""
    name = field_of(key)
    if name in SETTINGS:
        return SETTINGS[name].label
    return key if is_generated(key) else f"{SETTINGS['extra'].label}: {key}"


def error_text(error: KdtuiError, typed: str = "", labels: Mapping[str, str] = _OPTIONS) -> str:
    """A failure on one line: what is wrong, what was found, what is allowed, what to do.

    Args:
        error: The failure.
        typed: Text of the field. It is not repeated in a message displayed at the field, and neither is the hint.
        labels: See :func:`in_form`.
    """
    facts = [error.what]
    if error.found is not None and error.found != typed:
        facts.append(f"found {error.found}")
    if error.allowed is not None:
        facts.append(f"allowed: {error.allowed}")
    if error.hint is not None and not typed:
        facts.append(error.hint)
    return in_form("; ".join(facts), labels)


def _no_place(key: str) -> str:
    """The place of a key without a generated field."""
    del key
    return GENERAL


def placed(
    error: KdtuiError, otherwise: str, typed: Mapping[str, str], generated: Callable[[str], str] = _no_place
) -> dict[str, str]:
    """The mistakes of a profile by field; any other error at the field ``otherwise``.

    Args:
        error: Error raised while reading the profile.
        otherwise: Field for an error that is no list of mistakes.
        typed: ``key=value`` texts from the form, with the field of each.
        generated: Function from a key to its generated field; empty if it has none.
    """
    if not isinstance(error, ProfileError) or not error.mistakes:
        return {otherwise: error_text(error)}
    found: dict[str, str] = {}
    for mistake in error.mistakes:
        field, message = _parted(mistake, typed, generated)
        if field in found and field in _SHARED:
            message = f"{found[field]}; {message}"
        elif field in found:
            continue
        found[field] = message
    return found


def _parted(mistake: str, typed: Mapping[str, str], generated: Callable[[str], str]) -> tuple[str, str]:
    """Split ``key (origin): message`` into field and message; key and origin are kept unless the field implies them."""
    from kdtui.profile.loading import shorter

    key = mistake.partition(" (")[0]
    if key in _OF_TABLES:  # each value is valid, but they contradict each other
        return _OF_TABLES[key], in_form(mistake.partition("): ")[2] or mistake)
    for text, name in typed.items():
        message = mistake.removeprefix(f"{key} ({shorter(f'--set {shorter(text)}')}): ")
        if message != mistake and is_generated(name):
            place = generated(key) or name
            return place, in_form(_unquoted(_with(_beyond(key, place), message)))
        if message != mistake:
            own = SETTINGS[name].key if name in SETTINGS else ""
            return name, in_form(_with(_item(key, own) if own else key, message))
        if mistake.startswith(f"--set {text!r}"):
            return name, in_form(mistake.removeprefix("--set "))
    return field_of(key) or generated(key), in_form(mistake)


def _beyond(key: str, place: str) -> str:
    """What a generated field does not imply of a key within its table."""
    if place in (key, part_of(key)):
        return ""
    return _item(key, place) or key.removeprefix(part_of(key))


def _item(key: str, whole: str) -> str:
    """The index of an item of a list, ``[1]``; empty for other keys than items of the list ``whole``."""
    return key.removeprefix(whole) if key.startswith(f"{whole}[") else ""


def _with(part: str, message: str) -> str:
    return f"{part}: {message}" if part else message


def _unquoted(message: str) -> str:
    """A message without the quotes of TOML, which the fields for text do not need."""
    return message.partition("; a shell removes quotes")[0].replace("text in quotes", "text")


def field_of(key: str) -> str:
    """The field that sets a profile key, or the general line."""
    bare = key.partition("[")[0]
    return next((setting.name for setting in SETTINGS.values() if setting.key == bare), GENERAL)


def failed_fields(checks: Iterable[Check], tables: Sequence[ShownTable]) -> dict[str, str]:
    """The failed pre-flight checks that name the key of a generated field, by field."""
    found = {}
    for check in checks:
        where = _WHERE.search(check.message)
        name = field_at(where[1], tables) if where is not None and not check.ok else ""
        if where is not None and name:
            lines = [*check.message.replace(where[0], "").splitlines(), check.hint or ""]
            found[name] = in_form("; ".join(filter(None, map(one_line, lines))))
    return found
