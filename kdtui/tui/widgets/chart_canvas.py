"""A grid of terminal cells: text is put on it, and two of them tell where they differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from kdtui.text import clean

PLAIN = "plain"
"""The ink of a blank cell."""


class Canvas:
    """Cells of one character and one ink each.

    An ink is a name that the caller gives a meaning. A character two columns wide leaves the cell behind it empty.

    Args:
        width: In columns.
        height: In rows.
        edges: Columns at which the canvas is cut when it is shown. A wide character that would lie on one moves on by
            a column.

    Attributes:
        chars: By row, then column.
        inks: By row, then column.
    """

    def __init__(self, width: int, height: int, edges: Sequence[int] = ()) -> None:
        self.width, self.height = width, height
        self.edges = sorted({0, width, *edges})
        self.chars = [[" "] * width for _ in range(height)]
        self.inks = [[PLAIN] * width for _ in range(height)]

    def put(self, x: int, y: int, text: str, ink: str) -> None:
        """Write a text, cut off at the edges; blanks clear what was there."""
        if not 0 <= y < self.height:
            return
        chars, inks = self.chars[y], self.inks[y]
        for char in text:
            size = 1 if char.isascii() else cell_len(char)
            if not size:
                if 0 < x <= self.width and chars[x - 1]:
                    chars[x - 1] += char
                continue
            if size == 2 and x + 1 in self.edges:
                self.put(x, y, " ", ink)
                x += 1
            if x >= 0 and x + size <= self.width:
                # Half of a wide character cannot stay.
                if not chars[x]:
                    chars[x - 1] = " "
                if x + size < self.width and not chars[x + size]:
                    chars[x + size] = " "
                chars[x], inks[x] = char, PLAIN if char == " " else ink
                if size == 2:
                    chars[x + 1], inks[x + 1] = "", ink
            x += size

    def runs(self, y: int) -> Iterator[tuple[str, str]]:
        """A row as texts of one ink each; blanks go with the text before them, at the left with the one behind."""
        begin, current = 0, PLAIN
        chars = self.chars[y]
        for x, (char, ink) in enumerate(zip(chars, self.inks[y], strict=True)):
            if ink != current and char != " ":
                if current != PLAIN:
                    yield "".join(chars[begin:x]), current
                    begin = x
                current = ink
        if begin < self.width:
            yield "".join(chars[begin:]), current

    def text(self) -> str:
        """The whole canvas without ink, rows without the blanks at their end."""
        return "\n".join("".join(row).rstrip() for row in self.chars)

    def changes(self, older: Canvas) -> Iterator[tuple[int, int, int]]:
        """Where this canvas differs from one of the same size that was shown before.

        Yields:
            Row, first column and end of a stretch that covers every difference between two edges.
        """
        for y in range(self.height):
            chars, inks, old_chars, old_inks = self.chars[y], self.inks[y], older.chars[y], older.inks[y]
            if chars == old_chars and inks == old_inks:
                continue
            for left, right in itertools.pairwise(self.edges):
                differs = [x for x in range(left, right) if chars[x] != old_chars[x] or inks[x] != old_inks[x]]
                if differs:
                    yield y, differs[0], differs[-1] + 1


def plain(text: str) -> str:
    """Foreign text fit for one row: nothing a terminal obeys, no line breaks."""
    return " ".join(clean(text).split())


def shortened(text: str, width: int) -> str:
    """A text cut to a number of columns, with an ellipsis in place of what is missing."""
    if cell_len(text) <= width:
        return text
    kept, size = "", 0
    for char in text:
        size += cell_len(char)
        if size > width - 1:
            break
        kept += char
    return kept + "…" if width > 0 else ""
