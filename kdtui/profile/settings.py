"""The settings of a run that have an option or a field of the form; each is declared once.

The options of ``kdtui train`` and ``kdtui distill``, the fields of the New-run form, the command that the form displays
and a part of the profile reference follow from these declarations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from kdtui.errors import UsageError
from kdtui.profile.find import parse_tables

SectionName = Literal["runs", "data", "teacher", "student", "distillation", "loss", "training"]
SettingKind = Literal[
    "text", "integer", "number", "widths", "teacher", "seeds", "switch", "trials", "tags", "assignments"
]
Value = str | int | float | list[Any]


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: Its field in the form, and the parameter of its option.
        key: Key of the profile; empty for ``assignments``, which set any key, and for a ``switch`` of the launch.
        label: Label on the form.
        section: Section of the form.
        kind: How its text is read.
        help: Meaning and allowed values.
        flags: Options, first the one in the command that the form displays; empty if only ``--set`` sets the key.
        words: All allowed values, of a text that is one of a few words.
        form_help: What its field allows and its option does not.
        required: Whether it needs a value, as it has no default.
        of_sweep: Whether its options are those of ``kdtui sweep`` alone.
    """

    name: str
    key: str
    label: str
    section: SectionName
    kind: SettingKind
    help: str
    flags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    form_help: str = ""
    required: bool = False
    of_sweep: bool = False

    def assignment(self, value: Value) -> str:
        """The ``KEY=VALUE`` of ``--set``."""
        return f"{self.key}={toml(value)}"

    def list_assignment(self, text: str) -> str:
        """The ``KEY=VALUE,VALUE`` of a typed list; words are quoted, so that none is read as a number."""
        return f"{self.key}={','.join(map(self._item, split_list(text)))}"

    def _item(self, text: str) -> str:
        if self.kind == "text":
            return toml(text) if text else text
        try:
            return toml(float(text) if self.kind == "number" else int(text))
        except ValueError:  # the profile's own message
            return text


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_ACCELERATORS = ("auto", "cpu", "gpu")


_training = partial(Setting, section="training")
_DECLARED = (
    Setting(
        "seeds",
        "seed",
        "seeds",
        section="runs",
        kind="seeds",
        help="seed of the training",
        flags=("--seed",),
        form_help="several as in 0,1,2 or 0-4: a run each",
    ),
    Setting(
        "baseline",
        "",
        "baseline",
        section="runs",
        kind="switch",
        help="also train the matched baseline of each run, without teacher and distillation; existing ones are reused",
        flags=("--with-baseline",),
    ),
    Setting(
        "equal_time",
        "",
        "equal time",
        section="runs",
        kind="switch",
        help="also train a baseline as long as the distilled run (student), or as its teacher and the distilled run "
        "(total), by the measured speed of earlier runs",
        flags=("--equal-time",),
        words=("student", "total"),
    ),
    Setting(
        "trials",
        "",
        "trials",
        section="runs",
        kind="trials",
        help="how many trials; default 20",
        flags=("--trials",),
        form_help="values are drawn from the ranges and lists",
        of_sweep=True,
    ),
    Setting(
        "prune",
        "",
        "prune",
        section="runs",
        kind="switch",
        help="stop trials that are worse than the median at the same epoch",
        flags=("--prune",),
        of_sweep=True,
    ),
    Setting(
        "teacher",
        "teacher.checkpoint",
        "teacher",
        section="teacher",
        kind="teacher",
        help="teacher, a checkpoint or a run; of a run, its best checkpoint",
        flags=("--teacher",),
        form_help="- for none",
    ),
    Setting(
        "encoder",
        "student.encoder",
        "student",
        section="student",
        kind="text",
        help="encoder of the student, or a kind of network",
        flags=("--student",),
    ),
    Setting(
        "decoder",
        "student.decoder_channels",
        "decoder",
        section="student",
        kind="widths",
        help="one width per stage, deepest first",
    ),
    Setting(
        "weights",
        "student.weights",
        "weights",
        section="student",
        kind="text",
        help="initial weights: none, imagenet (published ones of the encoder), a checkpoint file, or run:NAME",
        flags=("--student-weights",),
    ),
    Setting(
        "temperature",
        "distillation.temperature",
        "T",
        section="distillation",
        kind="number",
        help="distillation temperature, > 0: softens both distributions",
        flags=("-T", "--temperature"),
    ),
    Setting(
        "alpha",
        "distillation.alpha",
        "α",
        section="distillation",
        kind="number",
        help="weight of the distillation loss, 0 to 1",
        flags=("-a", "--alpha"),
    ),
    _training(
        "epochs",
        "training.epochs",
        "epochs",
        kind="integer",
        help="passes over the training data",
        flags=("--epochs",),
    ),
    _training(
        "batch_size",
        "training.batch_size",
        "batch size",
        kind="integer",
        help="images per optimizer step, all devices",
        flags=("--batch-size",),
    ),
    _training(
        "learning_rate",
        "training.learning_rate",
        "learning rate",
        kind="number",
        help="peak of the schedule",
        flags=("--lr", "--learning-rate"),
    ),
    _training(
        "precision",
        "training.precision",
        "precision",
        kind="text",
        help=", ".join(_PRECISIONS),
        words=_PRECISIONS,
    ),
    _training(
        "accelerator",
        "training.accelerator",
        "device",
        kind="text",
        help=f"device; {', '.join(_ACCELERATORS)}",
        flags=("--device",),
        words=_ACCELERATORS,
    ),
    _training("devices", "training.devices", "devices", kind="integer", help="GPUs, or processes on the CPU"),
    _training(
        "name",
        "name",
        "name",
        kind="text",
        help="name of the run: letters, digits and . _ + -",
        flags=("--name",),
    ),
    _training(
        "tags",
        "tags",
        "tags",
        kind="tags",
        help="tag for finding the run again",
        flags=("--tag",),
        form_help="several with commas",
    ),
    _training(
        "extra",
        "",
        "other keys",
        kind="assignments",
        help="KEY=VALUE …, any key of a profile",
        flags=("--set",),
    ),
)
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _DECLARED}
"""All settings by name, in the order of the form."""
LISTED = ("weights", "temperature", "alpha", "epochs", "batch_size", "learning_rate")
"""Settings whose option and field take several values, which makes a sweep; so do those of student and method."""


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
    return toml(value) if isinstance(value, dict) else str(value)


def toml(value: Value | dict[str, Any]) -> str:
    """A value in TOML, as ``--set`` takes it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML has no pairs of surrogates
    if isinstance(value, list):
        return f"[{','.join(toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_key(key)}={toml(item)}' for key, item in value.items())}}}"
    text = plain(value)
    # The shortest TOML float, which never looks like an integer; TOML spells nan and inf as Python does.
    return f"{text}.0" if isinstance(value, float) and not any(mark in text for mark in ".en") else text


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else toml(key)


_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def split_list(text: str) -> list[str]:
    """The parts of a text between its commas, without those within brackets and quotes: ``[1,2],[3,4]`` has two."""
    parts, closing, quote = [""], [""], ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in _BRACKETS:
            closing.append(_BRACKETS[letter])
        elif letter == closing[-1]:
            closing.pop()
        elif letter == "," and len(closing) == 1:
            parts.append("")
            continue
        parts[-1] += letter
    return [part.strip() for part in parts]


def each_key_once(sets: list[str] | None) -> list[str] | None:
    """Reject ``--set`` texts with a repeated key.

    Raises:
        UsageError: A key is set twice.
    """
    values: dict[str, list[str]] = {}
    for text in sets or []:
        key, _, value = text.partition("=")
        values.setdefault(".".join(part.strip() for part in key.split(".")), []).append(value)
    for key, given in values.items():
        if len(given) > 1:
            raise UsageError(f"--set gives {key} {len(given)} values", found=", ".join(given), hint="keep one of them")
    return sets


def read_value(text: str) -> Any:
    """Parse a TOML value; other text is returned as it is: ``5`` is a number, ``b0`` and ``"5"`` are text."""
    try:
        table = parse_tables(f"value = {text.strip()}")
    except ValueError:
        return text.strip()
    return table["value"] if set(table) == {"value"} else text.strip()
