"""Where profile files are: the names a person may type. No pydantic here: shell completion reads this."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kdtui
from kdtui.errors import ProfileError

SHIPPED = Path(kdtui.__file__).parent / "profiles"


LARGEST = 1 << 20
"""Bytes of a profile; a longer file is none."""
DEEPEST = 32
"""Parts of a key between dots; the deepest key of a profile has three."""
_DEEP_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEEPEST}}}""")
# A TOML file of the working folder is listed when it has one of these: pyproject.toml and the like have none.
_MARKS = frozenset({"extends", "seed", "data", "student", "teacher", "distillation", "training"})


@dataclass(frozen=True)
class ProfileFile:
    """A profile on disk, as a list shows it.

    Attributes:
        name: What a person types: the file's stem.
        path: The file.
        shipped: Whether it came with the package.
        description: The file's own ``description``; empty when it has none or cannot be read.
        extends: The parent it names.
        hides: Files of the same name that are farther away.
    """

    name: str
    path: Path
    shipped: bool
    description: str = ""
    extends: str | None = None
    hides: tuple[Path, ...] = ()


def folders(directory: Path | None = None) -> tuple[Path, ...]:
    """Folders that names are looked up in, nearest first: ``.``, ``./profiles``, then the shipped ones."""
    here = directory or Path.cwd()
    own = [folder for folder in (here, here / "profiles") if folder.resolve() != SHIPPED.resolve()]
    return (*own, SHIPPED)


def names(directory: Path | None = None) -> list[str]:
    """Every profile name that can be typed here, sorted."""
    return [file.name for file in listing(directory)]


def listing(directory: Path | None = None) -> list[ProfileFile]:
    """Every profile that can be named here; a nearer file hides those of the same name that are farther away.

    Of the working folder's own TOML files those are listed that have a key of a profile.
    """
    here = directory or Path.cwd()
    found: dict[str, list[ProfileFile]] = {}
    for folder in folders(directory):
        for file in sorted(folder.glob("*.toml")):
            row = _read_head(file, anything=folder != here)
            if row is not None:
                found.setdefault(file.stem, []).append(row)
    return [replace(rows[0], hides=tuple(row.path for row in rows[1:])) for _, rows in sorted(found.items())]


def _read_head(file: Path, *, anything: bool) -> ProfileFile | None:
    """A row of the list. A file with mistakes still has a row: ``profiles NAME`` reports what is wrong with it.

    Args:
        file: A TOML file.
        anything: Whether it is listed even if nothing in it belongs to a profile.
    """
    shipped = file.parent == SHIPPED
    try:
        if not file.is_file():  # a pipe would be waited for without end
            return ProfileFile(file.stem, file, shipped, description="(no file)")
        table = parse_tables(read_bounded(file))
    except (OSError, ValueError):
        return ProfileFile(file.stem, file, shipped, description="(cannot be read)")
    if not anything and not _MARKS & table.keys():
        return None
    description, extends = table.get("description", ""), table.get("extends")
    return ProfileFile(
        file.stem,
        file,
        shipped,
        description if isinstance(description, str) else "",
        extends if isinstance(extends, str) else None,
    )


def read_bounded(file: Path) -> str:
    """The text of a file of bounded size.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large, or not UTF-8 (``UnicodeDecodeError``).
    """
    with file.open("rb") as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST // 1024} KiB")
    return data.decode()


def parse_tables(text: str) -> dict[str, Any]:
    """TOML as plain tables.

    Raises:
        ValueError: It is no TOML (``tomllib.TOMLDecodeError``), nests too deeply, or holds a number of thousands of
            digits.
    """
    if _DEEP_KEY.search(text):  # the memory that tomllib takes grows with the square of a key's parts
        raise ValueError(f"a key has more than {DEEPEST} parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("tables or lists are nested too deeply") from error


def nearest(word: str, candidates: Iterable[str]) -> list[str]:
    """Up to three candidates that look like ``word``, best first; those that begin with it or contain it count too."""
    candidates = list(candidates)
    import difflib  # here: importing it is slow, and only a mistake needs it

    close = difflib.get_close_matches(word, candidates, n=3, cutoff=0.6)
    holding = [candidate for candidate in candidates if word and word.lower() in candidate.lower()]
    return list(dict.fromkeys([*close, *holding]))[:3]


def expanded(path: str | Path) -> Path:
    """A path as a person writes it, `~` followed; without such a home it stays as written, and is no file."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~nobody
        return Path(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's, or a folder that may not be entered
        return False


def locate(name: str | Path) -> Path:
    """The file behind a name or path.

    Raises:
        ProfileError: There is none; the nearest names are offered.
    """
    path = expanded(name)
    looks_like_path = isinstance(name, Path) or path.suffix == ".toml" or len(path.parts) > 1
    if looks_like_path and _is_file(path):
        return path
    if not looks_like_path:
        for folder in folders():
            candidate = folder / f"{name}.toml"
            if _is_file(candidate):
                return candidate
    offered = nearest(path.stem, names())
    raise ProfileError(
        f"there is no profile '{name}'" + ("" if not offered else f"; did you mean {' or '.join(offered)}?"),
        where=str(path) if looks_like_path else ", ".join(str(folder) for folder in folders()),
        hint="kdtui profiles lists them all",
    )
