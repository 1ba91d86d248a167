"""Ranges of numbers from which a sampler draws, as in ``1e-4..1e-2:log``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdtui.errors import UsageError
from kdtui.profile.settings import plain, toml

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(?::\s*(\w+)\s*)?")
_DIGITS = 4
"""Significant digits of sampled numbers: more would only make names and tables longer."""


def is_range(text: str) -> bool:
    """Whether a text is two numbers with ``..`` between them."""
    return _RANGE.fullmatch(text) is not None


def low_end(text: str) -> str:
    """The text of the low end of a range."""
    return text.partition("..")[0].strip()


@dataclass(frozen=True)
class Range:
    """A key with the range of its numbers, both ends included.

    Attributes:
        key: Key of the profile.
        low: The lowest value.
        high: The highest value.
        log: Whether the logarithm is uniform.
    """

    key: str
    low: int | float
    high: int | float
    log: bool = False

    @property
    def integer(self) -> bool:
        """Whether values are integers."""
        return isinstance(self.low, int)

    @property
    def text(self) -> str:
        """The range as typed text."""
        return f"{plain(self.low)}..{plain(self.high)}{':log' if self.log else ''}"

    @property
    def middle(self) -> int | float:
        """The value in the middle."""
        return self.value((self.low * self.high) ** 0.5 if self.log else (self.low + self.high) / 2)

    def all_values(self) -> Iterable[int]:
        """All values of a range of integers."""
        return range(int(self.low), int(self.high) + 1)

    def value(self, number: float) -> int | float:
        """A drawn number as it is used: an integer, or with few digits; within the range."""
        used = round(number) if self.integer else float(f"{number:.{_DIGITS}g}")
        return min(max(used, self.low), self.high)

    def sets_of(self, value: Any) -> tuple[str, ...]:
        """The ``--set`` texts of a value."""
        return (f"{self.key}={toml(value)}",)

    def to_table(self) -> dict[str, Any]:
        """The entries of ``spec.toml``."""
        return {"key": self.key, "low": self.low, "high": self.high, "log": self.log}


def range_of(table: Mapping[str, Any]) -> Range:
    """The range of a table of ``spec.toml``.

    Raises:
        ValueError: It has no numbers.
    """
    low, high, log = table["low"], table["high"], table["log"]
    if type(low) not in (int, float) or type(low) is not type(high) or not isinstance(log, bool):
        raise ValueError("a range without numbers")
    return Range(str(table["key"]), low, high, log)


def read_range(key: str, text: str) -> tuple[str, str, bool]:
    """The texts of both ends, and whether it is logarithmic.

    Raises:
        UsageError: The end of the text is not ``:log``, the low end is not the lower one, or the logarithm does not
            exist.
    """
    match = _RANGE.fullmatch(text)
    assert match is not None
    low, high, scale = match[1], match[2], match[3]
    if scale not in (None, "log"):
        raise UsageError("a range has an unknown scale", where=key, found=text, allowed="LOW..HIGH or LOW..HIGH:log")
    if not float(low) < float(high):
        raise UsageError("a range is empty", where=key, found=text, allowed="LOW..HIGH with LOW < HIGH")
    if scale and float(low) <= 0:
        raise UsageError("a logarithmic range begins above 0", where=key, found=text, allowed="LOW > 0, as in 1e-4")
    return low, high, scale is not None
