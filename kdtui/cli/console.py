"""The two streams and the exit codes: stdout is data, stderr is talk."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError
from kdtui.wording import clean, width

_STATE_COLOURS = {"▶": "36", "✓": "32", "✗": "31", "■": "33", "…": "34", "?": "35"}


class Exit(IntEnum):
    """What a script learns from a command."""

    OK = 0
    USAGE = 2
    LAUNCH = 3
    ENGINE = 4
    INTERRUPTED = 130


def open_streams() -> None:
    """Make the standard streams usable: one that is closed is a null device, one without a letter shows `?`.

    A shell's ``>&-`` leaves Python without a stream, and a C locale without UTF-8 has no letter for what a table shows.
    """
    # In the order of the descriptors: the lowest free one is taken, so a run's file never becomes "stdout".
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open(encoding="utf-8")
    sys.stdout = sys.stdout or nothing.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nothing.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def is_utf8(stream: Any) -> bool:
    """Whether a stream can write every letter."""
    return str(getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf8")


def out(text: object = "") -> None:
    """One piece of data on stdout, at once: whoever reads a pipe waits for it."""
    print(clean(text), flush=True)


def say(text: object = "") -> None:
    """One piece of talk on stderr."""
    print(clean(text), file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """JSON on stdout."""
    ascii_only = not is_utf8(sys.stdout)  # a name with an escape is still that name; one with a "?" is another
    print(json.dumps(_finite(value), indent=2, default=str, ensure_ascii=ascii_only, allow_nan=False))


def _finite(value: Any) -> Any:
    """``value`` with NaN and infinities as None, whatever they are nested in: NaN is not JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def report(error: KdtuiError) -> None:
    """A failure on stderr: what, where, found, allowed, and the next step."""
    say(f"{_coloured('error', '31', sys.stderr)}: {clean(error.message)}" if _colours(sys.stderr) else _plain(error))
    if error.hint:
        say(f"  next: {error.hint}")


def _plain(error: KdtuiError) -> str:
    return f"error: {error.message}"


def _colours(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def _coloured(text: str, code: str, stream: Any) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _colours(stream) else text


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[str] = frozenset(),
    dim: frozenset[int] = frozenset(),
) -> None:
    """Aligned columns on stdout; ``right`` names the columns of numbers, ``dim`` the rows in the background.

    Written by hand because a list of a thousand runs has to appear at once: rich's table takes half a second for it.
    Nothing is cut, so a pipe gets every character.
    """
    lines = [[clean(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in [header, *rows]]
    widths = [max(width(line[i]) for line in lines) for i in range(len(header))]
    colours = _colours(sys.stdout)
    for number, line in enumerate(lines):
        parts = []
        for cell, heading, wide in zip(line, header, widths, strict=True):
            space = " " * (wide - width(cell))
            parts.append(space + cell if heading in right else cell + space)
        text = "  ".join(parts).rstrip()
        if colours and number == 0:
            text = f"\x1b[1m{text}\x1b[0m"
        elif colours and number - 1 in dim:
            text = f"\x1b[2m{text}\x1b[0m"
        elif colours and text[:1] in _STATE_COLOURS:
            text = f"\x1b[{_STATE_COLOURS[text[0]]}m{text[0]}\x1b[0m{text[1:]}"
        print(text)
