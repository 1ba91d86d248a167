"""Converts the typed texts of the New-run form to values."""

from __future__ import annotations

import shlex

from kdtui.profile.settings import SETTINGS, Setting, Value


class Unreadable(Exception):
    """A typed text that cannot be converted; the message says what is allowed."""


_NUMBERS = ("integer", "number")
SINGLE = tuple(one for one in SETTINGS.values() if one.kind in ("text", "widths", *_NUMBERS))
"""Settings whose text becomes one value."""


def value_of(setting: Setting, text: str) -> Value:
    """Convert the text of a field; a text that is not a number is kept, so that the profile reports it.

    Raises:
        Unreadable: A list instead of one value, or an invalid list.
    """
    if setting.kind == "widths":
        return _widths(text)
    if setting.kind not in _NUMBERS:
        return text
    if "," in text:
        raise Unreadable("one number, with a point as in 0.7" if setting.kind == "number" else "one integer")
    return number(text)


def number(text: str) -> int | float | str:
    """``text`` as a number, or unchanged if it is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _widths(text: str) -> Value:
    """Convert ``128,64,32`` or ``[128, 64, 32]`` to a list; one number stays one, for networks other than Unet."""
    parts = [part.strip() for part in text.strip().removeprefix("[").removesuffix("]").split(",")]
    read = [number(part) for part in parts]
    if not all(isinstance(width, int) and width >= 1 for width in read):
        raise Unreadable(f"found '{text}'; allowed: integers, separated by commas, as in 128,64,32,16,8")
    return read[0] if len(read) == 1 else list(read)


def tags_of(text: str) -> tuple[str, ...]:
    """Split a list of tags, separated by commas or spaces."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def split_sets(text: str) -> list[str]:
    """Split ``KEY=VALUE`` texts like a shell; ``--set`` before each is optional.

    Raises:
        Unreadable: An unclosed quote, or a part that is not KEY=VALUE.
    """
    try:
        parts = [part for part in shlex.split(text) if part != "--set"]
    except ValueError as error:
        raise Unreadable("a quote is not closed") from error
    for part in parts:
        key, equals, _ = part.partition("=")
        if not equals or not key.strip():
            raise Unreadable(f"found '{part}'; allowed: KEY=VALUE, as in training.warmup=0.1")
    return parts


def extra_of(text: str) -> list[str]:
    """Split ``KEY=VALUE`` texts as :func:`split_sets`.

    Raises:
        Unreadable: As there, or a key has its own field.
    """
    parts = split_sets(text)
    owned = {field.key: field for field in SETTINGS.values() if field.key and field.kind != "tags"}
    for key in (part.partition("=")[0].strip() for part in parts):
        if key in owned:
            raise Unreadable(f"{key} is set in the field {owned[key].label}")
    return parts
