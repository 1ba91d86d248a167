"""How numbers, spans of time and foreign text are written: the same in both faces."""

from __future__ import annotations

import math
import time
from typing import Any
from unicodedata import combining, east_asian_width

_MOST_BITS = 256  # Python writes no integer of more than 4300 digits


def jsonable(value: Any) -> Any:
    """``value`` as JSON can hold it, whatever it is nested in: no NaN, no infinity, no integer without end."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    return [jsonable(item) for item in value] if isinstance(value, list | tuple) else value


def is_utf8(text: str) -> bool:
    """Whether a text can be written to a file; bytes of the command line or of a file's name may be none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def clean(text: object) -> str:
    """Foreign text with every control character but newline and tab taken out: a terminal obeys none of it."""
    return "".join(c for c in str(text) if c in "\n\t" or c.isprintable())


def width(text: str) -> int:
    """Terminal columns of a text."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def number(value: float | None, places: int = 4) -> str:
    """A number or a dash."""
    return "-" if value is None else f"{value:.{places}f}"


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the plural unless the count is 1."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def signed(value: float | None, places: int = 4) -> str:
    """A difference with its sign, zero included, or a dash."""
    return "-" if value is None else f"{value:+.{places}f}"


def percent(value: float | None) -> str:
    """A share or a dash."""
    return "-" if value is None else f"{value:.1%}"


def millions(value: float | None) -> str:
    """Parameters in millions, or a dash."""
    return "-" if value is None else f"{value / 1e6:.2f} M"


def giga(value: float | None) -> str:
    """Multiply-accumulates in billions, or a dash."""
    return "-" if value is None else f"{value / 1e9:.2f} G"


def ratio(value: float | None) -> str:
    """How many times smaller or faster, or a dash."""
    return "-" if value is None else f"{value:.2f}x"


def milliseconds(value: float | None) -> str:
    """Seconds as milliseconds, or a dash."""
    return "-" if value is None else f"{value * 1e3:.2f} ms"


def mebibytes(value: float | None) -> str:
    """Bytes of a file, or a dash."""
    return "-" if value is None else f"{value / 2**20:.1f} MiB"


def span(seconds: float | None) -> str:
    """A duration in at most two units, or a dash."""
    if seconds is None or not 0 <= seconds < math.inf:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def moment(when: float | None) -> str:
    """A Unix time to the minute, without the date or the year where they are today's; a dash for no time."""
    if when is None or not 0 <= when < 253_402_300_800:  # the end of the year 9999, the last that a date can show
        return "-"
    local, now = time.localtime(when), time.localtime()
    if local[:3] == now[:3]:
        return time.strftime("%H:%M", local)
    return time.strftime("%m-%d %H:%M" if local[0] == now[0] else "%Y-%m-%d", local)
