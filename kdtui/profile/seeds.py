"""Lists of seeds as text: ``0,1,2`` and ``0-4``."""

from __future__ import annotations

import re

from kdtui.errors import UsageError
from kdtui.text import one_line

MOST_SEEDS = 100
"""Most seeds of one list; each is a training."""
LARGEST_SEED = 2**32 - 1
_PART = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?", re.ASCII)


def read_seeds(text: str) -> tuple[int, ...]:
    """Read a list of seeds and ranges.

    Raises:
        UsageError: A part is not a seed or a range, a seed is listed twice, or there are too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= LARGEST_SEED:
            raise _mistake("not a list of seeds", one_line(part.strip() or text)[:80])
        if last - first >= MOST_SEEDS - len(seeds):
            raise _mistake("too many seeds", one_line(text)[:80])
        seeds += range(first, last + 1)
    twice = next((seed for place, seed in enumerate(seeds) if seed in seeds[:place]), None)
    if twice is not None:
        raise _mistake("a seed is listed twice", str(twice))
    return tuple(seeds)


def _mistake(what: str, text: str) -> UsageError:
    allowed = f"up to {MOST_SEEDS} different seeds from 0 to {LARGEST_SEED}, as in 0,1,2 or 0-4"
    return UsageError(what, where="--seeds", found=text, allowed=allowed)
