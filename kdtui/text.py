"""Format numbers, durations and untrusted text; used by the command line and the cockpit."""

from __future__ import annotations

import math
import time
from typing import Any
from unicodedata import combining, east_asian_width

_MOST_BITS = 256  # Python does not format integers of more than 4300 digits


def jsonable(value: Any) -> Any:
    """Make ``value`` representable in JSON, recursively: without NaN, infinity and huge integers."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    return [jsonable(item) for item in value] if isinstance(value, list | tuple) else value


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded; arguments and file names may contain bytes that are not UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def clean(text: object) -> str:
    """Remove all control characters except newline and tab, so that untrusted text is safe to print."""
    return "".join(c for c in str(text) if c in "\n\t" or c.isprintable())


def one_line(text: object) -> str:
    """``text`` on one line without control characters, which makes untrusted text safe to print."""
    return clean(" ".join(str(text).split()))


def joined_lines(text: object) -> str:
    """The lines of a message on one line as :func:`one_line`, separated by `` · ``."""
    return " · ".join(filter(None, (one_line(line).removeprefix("- ") for line in str(text).split("\n"))))


def width(text: str) -> int:
    """Terminal columns of a text."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def number(value: float | None, places: int = 4) -> str:
    """Format a number; a dash for None."""
    return "-" if value is None else f"{value:.{places}f}"


def counted(count: int, noun: str) -> str:
    """A count and its noun, in the plural unless the count is 1."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


_SCORE_WORDS = {"miou": "mIoU", "iou": "IoU", "ap": "AP", "ap50": "AP50", "f1": "F1"}


def score_title(name: str) -> str:
    """The name of a scalar of an evaluation as a title, such as ``target IoU``."""
    return " ".join(_SCORE_WORDS.get(word, word) for word in name.split("_"))


def signed(value: float | None, places: int = 4) -> str:
    """Format a difference with its sign; a dash for None."""
    return "-" if value is None else f"{value:+.{places}f}"


def percent(value: float | None) -> str:
    """Format a fraction as a percentage; a dash for None."""
    return "-" if value is None else f"{value:.1%}"


def millions(value: float | None) -> str:
    """Format a number of parameters in millions; a dash for None."""
    return "-" if value is None else f"{value / 1e6:.2f} M"


def giga(value: float | None) -> str:
    """Format a number of multiply-accumulates in billions; a dash for None."""
    return "-" if value is None else f"{value / 1e9:.2f} G"


def ratio(value: float | None) -> str:
    """Format a ratio; a dash for None."""
    return "-" if value is None else f"{value:.2f}x"


def milliseconds(value: float | None) -> str:
    """Format seconds as milliseconds; a dash for None."""
    return "-" if value is None else f"{value * 1e3:.2f} ms"


def mebibytes(value: float | None) -> str:
    """Format bytes as mebibytes, from 1 GiB as gibibytes; a dash for None."""
    if value is None:
        return "-"
    return f"{value / 2**20:.1f} MiB" if value < 2**30 else f"{value / 2**30:.2f} GiB"


def span(seconds: float | None) -> str:
    """Format a duration in at most two units; a dash for None or an invalid one."""
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
    """Format a Unix time in minutes, without the date if it is today and without the current year; a dash for None."""
    if when is None or not 0 <= when < 253_402_300_800:  # the end of the year 9999, the last one of dates
        return "-"
    local, now = time.localtime(when), time.localtime()
    if local[:3] == now[:3]:
        return time.strftime("%H:%M", local)
    return time.strftime("%m-%d %H:%M" if local[0] == now[0] else "%Y-%m-%d", local)
