"""Schedules of a training: their names, and texts about them. Does not import pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Course = Literal["constant", "linear", "cosine", "exponential"]
"""How a value gets from its start to its end over the epochs."""
AlphaCourse = Literal["constant", "linear", "cosine", "exponential", "warmup", "adaptive"]
RateCourse = Literal["cosine", "poly", "linear", "constant"]
"""How the learning rate gets from its peak to zero over the steps."""
DEFAULTS: dict[str, Any] = {
    "temperature_schedule": "constant",
    "temperature_end": 1.0,
    "alpha_schedule": "constant",
    "alpha_end": 0.1,
    "alpha_warmup": 5,
    "alpha_upper": 0.95,
    "alpha_lower": 0.9,
}
"""Of the keys of the table ``distillation``, which are not written while they have them."""


def distillation_text(distillation: Mapping[str, Any]) -> str:
    """Temperature and weight of a table ``distillation``, such as ``T 4 → 1 (cosine), α 0.7``."""
    table = DEFAULTS | dict(distillation)
    alpha, end, upper, lower = (_number(table.get(key)) for key in ("alpha", "alpha_end", "alpha_upper", "alpha_lower"))
    if table["alpha_schedule"] == "warmup":
        weight = f"0 → {alpha} (over {table['alpha_warmup']} epochs)"
    elif table["alpha_schedule"] == "adaptive":
        weight = f"{alpha}, {end} from {upper} of the teacher's mIoU until below {lower}"
    else:
        weight = _course(table, "alpha")
    return f"T {_course(table, 'temperature')}, α {weight}"


def _course(table: Mapping[str, Any], key: str) -> str:
    start, course = _number(table.get(key)), table[f"{key}_schedule"]
    return start if course == "constant" else f"{start} → {_number(table[f'{key}_end'])} ({course})"


def training_text(training: Mapping[str, Any]) -> str:
    """What of a table ``training`` is not usual, such as ``sgd, learning rate poly``; empty if all is."""
    texts = []
    if optimizer := training.get("optimizer"):
        texts.append(str(optimizer))
    if schedule := training.get("schedule"):
        texts.append(f"learning rate {schedule}")
    if (decay := training.get("ema")) is not None:
        texts.append(f"EMA {_number(decay)}")
    if (unfreezing := training.get("unfreezing")) is not None:
        texts.append(f"encoder unfrozen from epoch {unfreezing.get('start')}, a stage every {unfreezing.get('every')}")
    return ", ".join(texts)


def schedules_text(profile: Mapping[str, Any]) -> str:
    """What the tables of a profile say about schedules, optimizer and student, in one line; empty if all is usual."""
    distillation = profile.get("distillation", {})
    scheduled = distillation.get("enabled") and DEFAULTS.keys() & distillation.keys()
    return "; ".join(
        filter(None, (distillation_text(distillation) if scheduled else "", training_text(profile.get("training", {}))))
    )


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
