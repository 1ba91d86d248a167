"""The fields of the New-run form: their profile keys and flags, and the conversion of typed texts to values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_SEEDS = 100
"""Most runs that one form can start."""
Value = str | int | float | list[Any]


class Unreadable(Exception):
    """A typed text that cannot be converted; the message says what is allowed."""


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        name: Attribute of the draft.
        label: Label on the form.
        key: Key of the profile that it sets.
        flag: Flag of ``kdtui train`` for the key; empty if only ``--set`` sets it.
        help: Meaning and allowed values.
    """

    name: str
    label: str
    key: str
    flag: str
    help: str


FIELDS: Mapping[str, Field] = {
    field.name: field
    for field in (
        Field("teacher", "teacher", "teacher.checkpoint", "--teacher-checkpoint", "a run, a file, or - for none"),
        Field("encoder", "student", "student.encoder", "--student-encoder", "the student's encoder"),
        Field("decoder", "decoder", "student.decoder_channels", "", "one width per stage, deepest first"),
        Field("temperature", "T", "distillation.temperature", "-T", "softens both distributions; > 0"),
        Field("alpha", "α", "distillation.alpha", "-a", "share of the distillation loss, 0 to 1"),
        Field("epochs", "epochs", "training.epochs", "--epochs", "passes over the training data"),
        Field("batch_size", "batch size", "training.batch_size", "--batch-size", "images per step, all devices"),
        Field("learning_rate", "learning rate", "training.learning_rate", "", "peak of the schedule"),
        Field("seeds", "seeds", "seed", "--seed", "one or several with commas: a run each"),
        Field("precision", "precision", "training.precision", "", "auto, fp32, bf16, fp16"),
        Field("accelerator", "device", "training.accelerator", "", "auto, cpu, gpu"),
        Field("devices", "devices", "training.devices", "", "GPUs, or processes on the CPU"),
        Field("name", "name", "name", "--name", "letters, digits and . _ + -"),
        Field("tags", "tags", "tags", "--tag", "words, for finding the run again"),
        Field("extra", "other keys", "", "--set", "KEY=VALUE …, any key of a profile"),
    )
}
"""All fields but the profile, in the order of the form."""

_SEPARATE = ("teacher", "seeds", "tags", "extra")
"""Fields that are not converted to one ``key=value``."""


def value_of(name: str, text: str) -> Value:
    """Convert the text of a field; a text that is not a number is kept, so that the profile reports it.

    Raises:
        Unreadable: A list instead of one value, or an invalid list.
    """
    if name == "decoder":
        return _widths(text)
    if name in ("encoder", "name", "precision", "accelerator"):
        return text
    if "," in text:
        raise Unreadable(
            "one number, with a point as in 0.7; a list would be a sweep, and this form starts none"
            if name in ("temperature", "alpha", "learning_rate")
            else "one whole number"
        )
    return number(text)


def number(text: str) -> int | float | str:
    """``text`` as a number, or unchanged if it is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def plain(value: Any) -> str:
    """A value as typed text: ``4`` for 4.0, ``128,64`` for a list, an empty text for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list | tuple):
        return ",".join(plain(item) for item in value)
    return str(value)


def toml(value: Value) -> str:
    """A value in the format of ``--set``."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{','.join(toml(item) for item in value)}]"
    return plain(value) if isinstance(value, int) else _float(value)


def _float(value: float) -> str:
    """The shortest TOML float of a value, which never looks like an integer."""
    text = plain(value)
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _widths(text: str) -> Value:
    """Convert ``128,64,32`` or ``[128, 64, 32]`` to a list; one number stays one, for networks other than Unet."""
    parts = [part.strip() for part in text.strip().removeprefix("[").removesuffix("]").split(",")]
    read = [number(part) for part in parts]
    if not all(isinstance(width, int) and width >= 1 for width in read):
        raise Unreadable(f"found '{text}'; allowed: whole numbers with commas, as in 128,64,32,16,8")
    return read[0] if len(read) == 1 else list(read)


def seeds_of(text: str) -> list[int | float | str]:
    """Split a list of seeds; a text that is not an integer is kept, so that the profile reports it.

    Raises:
        Unreadable: A duplicate, or too many seeds.
    """
    parts = [part.strip() for part in text.split(",")]
    seeds = [number(part) for part in parts if part]
    if len(seeds) < len(parts):
        raise Unreadable("a seed is missing before or after a comma")
    twice = [seed for place, seed in enumerate(seeds) if seed in seeds[:place]]
    if twice:
        raise Unreadable(f"seed {twice[0]} stands twice: both runs would be the same")
    if len(seeds) > MOST_SEEDS:
        raise Unreadable(f"{len(seeds)} seeds; at most {MOST_SEEDS} at once")
    return seeds


def tags_of(text: str) -> tuple[str, ...]:
    """Split a list of tags, separated by commas or spaces."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def extra_of(text: str) -> list[str]:
    """Split ``KEY=VALUE`` texts like a shell; ``--set`` before each is optional.

    Raises:
        Unreadable: An unclosed quote, a part that is not KEY=VALUE, or a key with its own field.
    """
    try:
        parts = [part for part in shlex.split(text) if part != "--set"]
    except ValueError as error:
        raise Unreadable("a quote is not closed") from error
    owned = {field.key: field for field in FIELDS.values() if field.key and field.name != "tags"}
    for part in parts:
        key, equals, _ = part.partition("=")
        if not equals or not key.strip():
            raise Unreadable(f"found '{part}'; allowed: KEY=VALUE, as in training.warmup=0.1")
        if key.strip() in owned:
            raise Unreadable(f"{key.strip()} has a field of its own: {owned[key.strip()].label}")
    return parts


def setting(name: str, value: Value) -> str:
    """The ``key=value`` of a field."""
    return f"{FIELDS[name].key}={toml(value)}"


SETTINGS = tuple(name for name in FIELDS if name not in _SEPARATE)
"""Fields that are converted to one ``key=value`` each."""
