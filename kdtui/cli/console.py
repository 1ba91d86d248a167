"""The two streams and the exit codes: stdout is data, stderr is talk."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from contextvars import ContextVar
from enum import IntEnum
from pathlib import Path
from typing import Any

from kdtui.cli.layout import lay_out, paragraph, words
from kdtui.errors import KdtuiError, hint_for_profiles
from kdtui.text import clean, jsonable, width

_STATE_COLOURS = {"▶": "36", "✓": "32", "✗": "31", "■": "33", "…": "34", "?": "35"}

_running: ContextVar[frozenset[str]] = ContextVar("options of the command that runs", default=frozenset())


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


def columns(stream: Any) -> int | None:
    """Width of the terminal behind a stream; None for a file or a pipe, which get every character on one line."""
    return max(20, shutil.get_terminal_size().columns) if stream.isatty() else None


def out(text: object = "", *, prose: bool = False) -> None:
    """One piece of data on stdout, at once: whoever reads a pipe waits for it.

    Args:
        text: What to write.
        prose: Whether a terminal may wrap it at its words.
    """
    print(_fitted(clean(text), sys.stdout) if prose else clean(text), flush=True)


def say(text: object = "") -> None:
    """One piece of talk on stderr, wrapped at its words on a terminal."""
    print(_fitted(clean(text), sys.stderr), file=sys.stderr, flush=True)


def _fitted(text: str, stream: Any) -> str:
    room = columns(stream)
    return text if room is None else paragraph(text, room)


def emit(value: Any) -> None:
    """JSON on stdout, in ASCII: a terminal obeys no escape in a name, and the name is still that name."""
    print(json.dumps(jsonable(value), indent=2, default=str, allow_nan=False))


def report(error: KdtuiError) -> None:
    """A failure on stderr: what, where, found, allowed, and the next step."""
    text = _fitted(clean(f"error: {error.message}"), sys.stderr)
    if _colours(sys.stderr):
        text = f"\x1b[31merror\x1b[0m{text.removeprefix('error')}"
    print(text, file=sys.stderr, flush=True)
    if error.hint:
        say(f"  next: {next_step(error.hint)}")


def next_step(hint: str) -> str:
    """A hint in the words of the command that runs now."""
    return hint if "--set" in _running.get() else hint_for_profiles(hint)


def running(options: Iterable[str]) -> None:
    """Take note of the options that the command has which runs from now on."""
    _running.set(frozenset(options))


def _colours(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def fields(pairs: Sequence[tuple[str, object]], *, indent: int = 0) -> None:
    """Labels and texts in two columns on stdout; a terminal gets the texts wrapped in their own column."""
    widest = max((width(clean(label)) for label, _ in pairs), default=0)
    start, room = indent + widest + 2, columns(sys.stdout)
    for label, text in pairs:
        first = f"{' ' * indent}{clean(label)}".ljust(start)
        for line in clean(text).split("\n"):
            for piece in [line] if room is None else words(line, max(20, room - start)):
                print(f"{first}{piece}".rstrip())
                first = " " * start
    sys.stdout.flush()


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[str] = frozenset(),
    dim: frozenset[int] = frozenset(),
    wrap: Collection[str] = (),
    drop: Sequence[str] = (),
    below: bool = False,
    wide: bool = False,
) -> None:
    """Aligned columns on stdout that fit its terminal, see :func:`kdtui.cli.layout.lay_out`.

    Written by hand because a list of a thousand runs has to appear at once: rich's table takes half a second for it.
    A pipe gets every column, each row on one line.

    Args:
        header: Headings.
        rows: Cells.
        right: Headings of the columns of numbers.
        dim: Rows in the background.
        wrap: Headings of columns whose words may go on another line.
        drop: Headings that may be left out in a narrow terminal, the first one first.
        below: Whether the last column may go below its row.
        wide: Every column, each row on one line, in a terminal too.
    """
    lines = [[" ".join(clean(cell).replace("\t", " ").split("\n")) for cell in row] for row in [header, *rows]]
    room = None if wide else columns(sys.stdout)
    layout = lay_out(lines[0], lines[1:], room=room, right=right, wrap=wrap, drop=drop, below=below)
    colours = _colours(sys.stdout)
    last = None
    for row, text in layout.lines:
        if colours and row < 0:
            text = f"\x1b[1m{text}\x1b[0m"
        elif colours and row in dim:
            text = f"\x1b[2m{text}\x1b[0m"
        elif colours and row != last and text[:1] in _STATE_COLOURS:
            text = f"\x1b[{_STATE_COLOURS[text[0]]}m{text[0]}\x1b[0m{text[1:]}"
        print(text)
        last = row
    if layout.left_out:
        say(f"columns left out: {', '.join(layout.left_out)}; --wide shows them")
