"""Schedules of a training: their names, and texts about them. Does not import pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Course = Literal["constant", "linear", "cosine", "exponential"]
"""How a value gets from its start to its end over the epochs."""
AlphaCourse = Literal["constant", "linear", "cosine", "exponential", "warmup", "adaptive"]
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


def temperature_text(distillation: Mapping[str, Any]) -> str:
    """The temperature of a table ``distillation``, such as ``T 4 → 1 (cosine)``."""
    return f"T {_course(DEFAULTS | dict(distillation), 'temperature')}"


def alpha_text(distillation: Mapping[str, Any]) -> str:
    """The weight of the distillation loss, such as ``α 0.7 → 0.1 (linear)``."""
    table = DEFAULTS | dict(distillation)
    if table["alpha_schedule"] == "warmup":
        return f"α 0 → {_number(table.get('alpha'))} (over {table['alpha_warmup']} epochs)"
    if table["alpha_schedule"] == "adaptive":
        alpha, end, upper, lower = (
            _number(table.get(key)) for key in ("alpha", "alpha_end", "alpha_upper", "alpha_lower")
        )
        return f"α {alpha}, {end} from {upper} of the teacher's mIoU until below {lower}"
    return f"α {_course(table, 'alpha')}"


def _course(table: Mapping[str, Any], key: str) -> str:
    start, course = _number(table.get(key)), table[f"{key}_schedule"]
    return start if course == "constant" else f"{start} → {_number(table[f'{key}_end'])} ({course})"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
