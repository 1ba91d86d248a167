"""Patterns of the files of a data set, such as ``images/{split}/*/{name}_rgb.png``.

``{split}`` stands for the folder name of a split, ``{name}`` for the part of a file name by which image and mask are
paired, ``*`` for any text within a folder or file name, and ``**`` for any number of folders. A pattern without a
file ending, or with the ending ``.*``, matches the endings of all readable formats. Endings match in any case, and
names that differ only in their Unicode normalisation are equal.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Endings of image files that are read."""
MASK_ENDINGS = (*PICTURE_ENDINGS, ".gif")
"""Endings of mask files that are read."""
SPLITS = ("train", "val", "test")
_ANY_FOLDERS = "**"
_TOKENS = re.compile(r"\{split\}|\{name\}|\*")
# Files that operating systems create in folders.
_LITTER = {"thumbs.db", "desktop.ini"}
_DEEPEST = 64


class Match(NamedTuple):
    """A file that matches a pattern.

    Attributes:
        wildcards: The texts of ``*`` and ``**`` in their order.
        name: The text of ``{name}``.
    """

    path: Path
    wildcards: tuple[str, ...]
    name: str


@dataclass
class Listing:
    """Files that match a pattern, sorted by path, and names of files in the same folders with other endings."""

    matches: list[Match] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def skipped_kinds(self, shown: int = 5) -> str:
        """How many files are skipped, by their endings."""
        kinds = Counter(Path(name).suffix.lower()[:12] or "without ending" for name in self.skipped)
        return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(shown))


def normalised(text: str) -> str:
    """Text in the normalisation in which names are compared."""
    return unicodedata.normalize("NFC", text)


def mistake(text: str, *, named: bool) -> str | None:
    """Why a text is not a pattern; None if it is one.

    Args:
        text: The text.
        named: Whether it must contain ``{name}`` in its last part.
    """
    parts = PurePosixPath(text).parts
    if not parts or text.startswith(("/", "~")) or ".." in parts or "\\" in text:
        return "a path below data.root, with / between its folders"
    if re.search(r"[{}]", _TOKENS.sub("", text)):
        return "only {split} and {name} in braces"
    if any(_ANY_FOLDERS in part and part != _ANY_FOLDERS for part in parts):
        return "** as a folder of its own"
    if named and (text.count("{name}") != 1 or "{name}" not in parts[-1]):
        return f"a pattern with {{name}} in the file name, such as {text.rstrip('/')}/{{name}}" + (
            "" if "{name}" not in text else "; found more than one, or one in a folder name"
        )
    if not named and "{name}" in text:
        return "a pattern without {name}"
    return None


class Pattern:
    """A pattern for the files of one split.

    Args:
        text: The pattern; see :func:`mistake`.
        folder: The text for ``{split}``.
        endings: Endings that are matched where the pattern has none.
    """

    def __init__(self, text: str, folder: str, endings: Sequence[str] = PICTURE_ENDINGS) -> None:
        self.text = text.replace("{split}", folder)
        self._parts = [normalised(part) for part in PurePosixPath(self.text).parts]
        last = self._parts[-1].removesuffix(".*")
        self._any_ending = last != self._parts[-1] or not last.lower().endswith(MASK_ENDINGS)
        self._endings = tuple(endings)
        self._name_group = 1 + last.partition("{name}")[0].count("*")
        ending = "" if self._any_ending else PurePosixPath(last).suffix
        stem = last.removesuffix(ending)
        self._file = _compiled(stem, ending)
        self.wildcards = sum(part == _ANY_FOLDERS or part.count("*") for part in [*self._parts[:-1], last])

    def listing(self, root: Path) -> Listing:
        """All files below ``root`` that match."""
        found = Listing()
        self._walk(root, self._parts, (), found)
        found.matches.sort(key=lambda match: match.path.parts)
        found.skipped.sort()
        return found

    def matched(self, root: Path, path: Path) -> Match | None:
        """The match of one file below ``root``; None if the pattern does not match it."""
        parts = [normalised(part) for part in path.relative_to(root).parts]
        return self._matched(path, parts, self._parts, ())

    def _matched(self, path: Path, parts: list[str], patterns: list[str], caught: tuple[str, ...]) -> Match | None:
        head = patterns[0]
        if head == _ANY_FOLDERS:
            matches = (
                self._matched(path, parts[count:], patterns[1:], (*caught, "/".join(parts[:count])))
                for count in range(len(parts))
            )
            return next((match for match in matches if match is not None), None)
        if not parts or (len(parts) == 1) != (len(patterns) == 1):
            return None
        if len(patterns) == 1:
            return self._of_file(path, parts[0], caught)
        fitting = _compiled(head).fullmatch(parts[0])
        return None if fitting is None else self._matched(path, parts[1:], patterns[1:], (*caught, *fitting.groups()))

    def deepest(self, root: Path) -> tuple[Path, str]:
        """The deepest existing folder of the pattern without wildcards, and the part that is not found in it."""
        folder = root
        for part in self._parts:
            below = None if "*" in part or "{name}" in part else _existing(folder, part)
            if below is None or not below.is_dir():
                return folder, part
            folder = below
        return folder, ""

    def folder(self) -> str:
        """The folders of the pattern up to the first wildcard."""
        plain: list[str] = []
        for part in PurePosixPath(self.text).parts[:-1]:
            if "*" in part:
                break
            plain.append(part)
        return "/".join(plain)

    def _walk(
        self,
        folder: Path,
        parts: list[str],
        caught: tuple[str, ...],
        found: Listing,
    ) -> None:
        head, rest = parts[0], parts[1:]
        if not rest:
            self._list(folder, caught, found)
        elif head == _ANY_FOLDERS:
            for below, relative in _all_folders(folder):
                self._walk(below, rest, (*caught, relative), found)
        elif "*" not in head:
            literal = _existing(folder, head)
            if literal is not None and literal.is_dir():
                self._walk(literal, rest, caught, found)
        else:
            part = _compiled(head)
            for entry in _entries(folder):
                fitting = part.fullmatch(normalised(entry.name))
                if fitting and entry.is_dir():
                    self._walk(Path(entry.path), rest, (*caught, *fitting.groups()), found)

    def _list(self, folder: Path, caught: tuple[str, ...], found: Listing) -> None:
        nested = _ANY_FOLDERS in self._parts
        for entry in _entries(folder):
            is_folder = entry.is_dir()
            # Also a link without target: reading it reports the error.
            match = None if is_folder else self._of_file(Path(entry.path), normalised(entry.name), caught)
            if match is not None:
                found.matches.append(match)
            elif self._any_ending and not entry.name.lower().endswith(self._endings) and not (nested and is_folder):
                found.skipped.append(entry.name)

    def _of_file(self, path: Path, name: str, caught: tuple[str, ...]) -> Match | None:
        if self._any_ending:
            ending = PurePosixPath(name).suffix
            if ending.lower() not in self._endings:
                return None
            name = name.removesuffix(ending)
        fitting = self._file.fullmatch(name)
        if fitting is None:
            return None
        groups = list(fitting.groups())
        own = groups.pop(self._name_group - 1)
        return Match(path, (*caught, *groups), own)


def _compiled(part: str, ending: str = "") -> re.Pattern[str]:
    pieces, end = [], 0
    for token in _TOKENS.finditer(part):
        pieces += [re.escape(part[end : token.start()]), "(.*)" if token[0] == "*" else "(.+)"]
        end = token.end()
    return re.compile("".join(pieces) + re.escape(part[end:]) + f"(?i:{re.escape(ending)})", re.DOTALL)


def _existing(folder: Path, name: str) -> Path | None:
    """The entry of a folder with this name, or with one that is equal when normalised."""
    path = folder / name
    if path.exists() or name.isascii():
        return path if path.exists() else None
    return next((Path(entry.path) for entry in _entries(folder) if normalised(entry.name) == name), None)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder by name, without hidden ones; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _LITTER]
    except (OSError, ValueError):
        return []
    return sorted(visible, key=lambda entry: entry.name)


def _all_folders(
    folder: Path, above: tuple[tuple[int, int], ...] = (), relative: str = ""
) -> Iterator[tuple[Path, str]]:
    """A folder and all below it with their relative paths; links to a folder above are not followed."""
    try:
        status = folder.stat()
    except OSError:
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above or len(above) > _DEEPEST:
        return
    yield folder, relative
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _all_folders(Path(entry.path), (*above, identity), f"{relative}/{entry.name}".lstrip("/"))
