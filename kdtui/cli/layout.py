"""Layout of tables and paragraphs for a terminal width; returns lines and prints nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kdtui.text import width

GAP = 2
"""Terminal columns between two columns of a table."""
INDENT = 4
"""Terminal columns before a text that is placed below its row."""
_LONGEST_WORD = 24  # longer words may be broken, preferably after one of the characters of _BREAKS
_BREAKS = "/-_.:,="
_NARROWEST = 8


@dataclass(frozen=True)
class Layout:
    """A table as lines.

    Attributes:
        lines: Row index and text of each line; the header has index -1, and a row may have several lines.
        left_out: Headings of the columns that did not fit.
    """

    lines: tuple[tuple[int, str], ...]
    left_out: tuple[str, ...] = ()


def lay_out(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    room: int | None = None,
    right: Collection[str] = (),
    wrap: Collection[str] = (),
    drop: Sequence[str] = (),
    below: bool = False,
) -> Layout:
    """Lay out aligned columns.

    A table that is too wide is narrowed in this order: the last column is placed below its row if ``below`` is set,
    columns of ``drop`` are left out, columns of ``wrap`` are wrapped, and last all text columns are. Columns of numbers
    are never wrapped, and a word is broken only if it is longer than its column can be.

    Args:
        header: Headings.
        rows: Cells without line breaks.
        room: Available terminal columns; None for no limit.
        right: Headings of right-aligned columns.
        wrap: Headings of columns that may be wrapped.
        drop: Headings of columns that may be left out, in this order.
        below: Whether the last column may be placed below its row.
    """
    columns = list(range(len(header)))
    natural = [max(width(line[i]) for line in [header, *rows]) for i in columns]

    def needed(among: Sequence[int]) -> int:
        widths = (_narrowest(header, rows, i) if header[i] in wrap else natural[i] for i in among)
        return sum(widths) + GAP * (len(among) - 1)

    under, left_out = None, []
    if room is not None:
        if below and needed(columns) > room:
            under = columns.pop()
        for heading in drop:
            if needed(columns) <= room:
                break
            gone = [i for i in columns if header[i] == heading]
            columns = [i for i in columns if i not in gone]
            left_out += [heading] if gone else []
    widths = natural if room is None else _shared_out(header, rows, columns, natural, room, right, wrap)
    lines: list[tuple[int, str]] = []
    for index, row in enumerate([header, *rows], start=-1):
        cells = [wrapped(row[i], widths[i]) for i in columns]
        for level in range(max(map(len, cells), default=0)):
            parts = []
            for i, cell in zip(columns, cells, strict=True):
                text = cell[level] if level < len(cell) else ""
                space = " " * (widths[i] - width(text))
                parts.append(space + text if header[i] in right else text + space)
            lines.append((index, (" " * GAP).join(parts).rstrip()))
        if under is not None and index >= 0 and row[under] and room is not None:
            lines += [(index, " " * INDENT + text) for text in wrapped(row[under], max(_NARROWEST, room - INDENT))]
    return Layout(tuple(lines), tuple(left_out))


def _shared_out(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: Sequence[int],
    natural: Sequence[int],
    room: int,
    right: Collection[str],
    wrap: Collection[str],
) -> list[int]:
    """Width of each column: the widest of the wrappable columns are narrowed until all fit."""
    widths = list(natural)
    flexible = {i: _narrowest(header, rows, i) for i in columns if header[i] in wrap}
    texts = {i: max(_NARROWEST, _longest_number(rows, i)) for i in columns if header[i] not in right}
    for floors in (flexible, texts):
        excess = sum(widths[i] for i in columns) + GAP * (len(columns) - 1) - room
        while excess > 0:
            wider = [i for i, floor in floors.items() if widths[i] > floor]
            if not wider:
                break
            widths[max(wider, key=lambda i: widths[i])] -= 1
            excess -= 1
    return widths


def _narrowest(header: Sequence[str], rows: Sequence[Sequence[str]], column: int) -> int:
    longest = max((width(word) for line in [header, *rows] for word in line[column].split(" ")), default=0)
    return max(min(longest, _LONGEST_WORD), _longest_number(rows, column))


def _longest_number(rows: Sequence[Sequence[str]], column: int) -> int:
    return max((len(word) for row in rows for word in row[column].split(" ") if _is_number(word)), default=0)


def _is_number(word: str) -> bool:
    try:
        float(word.strip("()[],;").rstrip("%xMGKs"))
    except ValueError:
        return False
    return True


def blocks(header: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[list[int]]:
    """Split columns into groups that fit the width; each group begins with the first column.

    Args:
        header: Headings.
        rows: Cells.
        room: Available terminal columns.

    Returns:
        Column indices of each group.
    """
    narrow = [_narrowest(header, rows, i) for i in range(len(header))]
    groups: list[list[int]] = [[0]]
    used = narrow[0]
    for i in range(1, len(header)):
        if used + GAP + narrow[i] > room and len(groups[-1]) > 1:
            groups.append([0])
            used = narrow[0]
        groups[-1].append(i)
        used += GAP + narrow[i]
    return groups


def wrapped(text: str, room: int) -> list[str]:
    """Wrap a text to lines of at most ``room`` terminal columns; only words longer than a line are broken."""
    if width(text) <= room:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if width(longer) <= room:
            line = longer
            continue
        if line:
            lines.append(line)
        while width(word) > room:
            at = _break(word, room)
            lines.append(word[:at])
            word = word[at:]
        line = word
    return [*lines, line] if line else lines


def _break(word: str, room: int) -> int:
    """Number of characters of a too long word that are placed on this line, at least one."""
    fit = 1
    while fit < len(word) and width(word[: fit + 1]) <= room:
        fit += 1
    good = max(word.rfind(letter, 0, fit) for letter in _BREAKS) + 1
    return good or fit


def paragraph(text: str, room: int) -> str:
    """Wrap each line of a message; continuation lines are indented by two more columns."""
    lines = []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        if width(line) <= room:
            lines.append(line)
            continue
        pieces = words(line.lstrip(" "), room - indent - 2, first=room - indent)
        lines += [" " * (indent + (2 if place else 0)) + piece for place, piece in enumerate(pieces)]
    return "\n".join(lines)


def hanging(text: str, indent: int) -> str:
    """Indent all lines of a message but the first, instead of by two columns as the facts of an error."""
    first, *lines = text.split("\n")
    return "\n".join([first, *(" " * indent + line.removeprefix("  ") for line in lines)])


def words(text: str, room: int, *, first: int | None = None) -> list[str]:
    """Like :func:`wrapped`, but without breaking words, so that paths and commands can be copied.

    Args:
        text: One line.
        room: Terminal columns of a line.
        first: Terminal columns of the first line; default ``room``.
    """
    first = room if first is None else first
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and width(longer) > (room if lines else first):
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line]
